"""When queues with a limit are asked for jobs."""

from __future__ import annotations

PAUSE = 1.0  # seconds between two questions that get nothing


class Gates:
    """Spares questions that get nothing; the connections of a process share it.

    While limits are spent one is asked every `PAUSE` seconds: it writes the decision
    that holds the jobs back. One is asked at once when a job of such a queue was
    settled here, or a look has seen a limit with room: then others have freed it.
    """

    def __init__(self) -> None:
        self._ask_at = 0.0
        self._queues: set[str] = set()

    def may_ask(self, now: float) -> bool:
        """Say whether a question is likely to get something, or due."""
        return now >= self._ask_at

    def asked(self, now: float, queues: set[str], *, filled: bool) -> None:
        """Learn from an answer: jobs of these queues; `filled`: as many as there was
        room for.
        """
        self._queues |= queues
        self._ask_at = 0.0 if filled else now + PAUSE

    def open(self) -> None:
        """Ask at once."""
        self._ask_at = 0.0

    def knows(self, queue: str) -> bool:
        """Say whether jobs came from there: one that is settled leaves room."""
        return queue in self._queues
