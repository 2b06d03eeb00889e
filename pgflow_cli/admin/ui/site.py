"""All routes of the page."""

from __future__ import annotations

from pgflow_cli.admin.ui import (
    dead_letters,
    doctor,
    enqueue,
    jobs,
    overview,
    queues,
    records,
    replaying,
    replays,
    workers,
)

_TABS = (
    overview,
    queues,
    jobs,
    dead_letters,
    replays,
    replaying,
    records,
    workers,
    doctor,
    enqueue,
)
ROUTES = tuple(route for tab in _TABS for route in tab.ROUTES)
SHAPES = ()
