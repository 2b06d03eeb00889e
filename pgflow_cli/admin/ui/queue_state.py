"""The state of a queue as a label with a sign and a colour; pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from pgflow_cli.inspection import alerts
from pgflow_cli.inspection.forecast import GROWING
from pgflow_cli.inspection.queue_status import QueueStatus

_MOSTLY_FAILS = 50.0  # percent of attempts
_NEARLY = 0.95  # of the attempts that may begin in a minute


@dataclass(frozen=True, slots=True)
class QueueState:
    """What an operator needs to know first of a queue; `hint` says it at length."""

    label: str
    mark: str
    tone: str
    hint: str


def queue_state(status: QueueStatus) -> QueueState:
    """Return the gravest thing that is true of a queue."""
    return next(_states(status))


def _states(status: QueueStatus) -> Iterator[QueueState]:
    """Yield all states a queue is in, the gravest first; there is always one."""
    measure, growing = status.measure, status.forecast.verdict == GROWING
    if measure.paused:
        yield QueueState("paused", "‖", "warn", status.pause_sentence)
    if status.unserved:
        yield QueueState(
            "no worker", "✕", "bad", "jobs are due and no worker leases them"
        )
    if measure.expired_leases:
        yield QueueState("lost leases", "!", "warn", "leases have run out, unreaped")
    if (status.error_percent or 0.0) >= _MOSTLY_FAILS:
        share = f"{status.error_words} % of the attempts of the last minute failed"
        yield QueueState("failing", "✕", "bad", share)
    if status.deaths_per_minute >= alerts.DEATHS:
        many = f"{status.deaths_per_minute:,.0f} new dead letters a minute"
        yield QueueState("dead letters", "✕", "bad", many)
    if _at_its_limit(status):
        tone = "warn" if growing else "info"
        yield QueueState(
            "throttled", "◆", tone, f"a limit holds: {status.policy_words}"
        )
    if growing:
        yield QueueState("growing", "↗", "warn", status.drain_sentence)
    if not (measure.runnable or measure.running or status.attempts_per_sec):
        yield QueueState("idle", "·", "calm", "nothing is due and nothing runs")
    yield QueueState("ok", "✓", "good", status.drain_sentence)


def _at_its_limit(status: QueueStatus) -> bool:
    """Say whether jobs wait because the queue's own limits are reached."""
    measure = status.measure
    if not measure.runnable:
        return False
    most, attempts = measure.max_in_flight, measure.max_attempts_per_minute
    return (most is not None and measure.running >= most) or (
        attempts is not None and 60 * status.attempts_per_sec >= _NEARLY * attempts
    )
