"""Which alerts a page names, in which order, and where they lead; pure."""

from __future__ import annotations

from collections.abc import Iterable

from pgflow_cli.inspection.alerts import Alert

_MOST = 6  # alerts of the first page; all others name the gravest one
# A pause comes last: an operator meant it.
_RANKS = {"deaths": 1, "no worker": 2, "paused": 4}


def gravest_first(alerts: Iterable[Alert]) -> list[Alert]:
    """Sort alerts: of the database, of jobs that die, then of who waits longest."""
    return sorted(alerts, key=_gravity)


def named(found: list[Alert], *, about: str, first_page: bool) -> list[Alert]:
    """Return the alerts that a page names: those of the queue it is about, if there are
    any, else the gravest.
    """
    own = [alert for alert in found if about and alert.queue == about]
    return own or found[: _MOST if first_page else 1]


def place_of(alert: Alert) -> tuple[str, dict[str, str]]:
    """Return the page that shows what an alert is about, and its filter."""
    if alert.queue is None:
        return "/ui/doctor", {}
    if alert.kind == "deaths":
        return "/ui/dlq", {"queue": alert.queue, "since": "10m"}
    if alert.kind == "expired leases":
        return "/ui/jobs", {"queue": alert.queue, "stuck": "true"}
    return f"/ui/queues/{alert.queue}", {}


def _gravity(alert: Alert) -> tuple[int, float]:
    rank = 0 if alert.queue is None else _RANKS.get(alert.kind, 3)
    return rank, -(alert.seconds or 0.0)
