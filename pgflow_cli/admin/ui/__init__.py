"""The page for operators: a module for each tab, its routes at its end.

Views are thin: they ask what the API and the commands ask, and hand it to a template.
"""

from __future__ import annotations

from pgflow_cli.admin.ui import (
    audit,
    dead_letters,
    decisions,
    doctor,
    enqueue,
    jobs,
    overview,
    queues,
    replays,
    workers,
)

_TABS = (
    overview,
    queues,
    jobs,
    dead_letters,
    replays,
    decisions,
    audit,
    workers,
    doctor,
    enqueue,
)
ROUTES = tuple(route for tab in _TABS for route in tab.ROUTES)
SHAPES = ()
