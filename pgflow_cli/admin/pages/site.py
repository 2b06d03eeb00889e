"""All routes of the page."""

from __future__ import annotations

from pgflow_cli.admin.pages import (
    dead_letters,
    doctor,
    jobs,
    overview,
    queues,
    records,
    replays,
    workers,
)

_TABS = (
    overview,
    queues,
    jobs,
    dead_letters,
    replays,
    records,
    workers,
    doctor,
)
ROUTES = tuple(route for tab in _TABS for route in tab.ROUTES)
SHAPES = ()
