"""Every statement of pgflow as a method; each module holds the methods of one noun."""

from __future__ import annotations

from pgflow_cli.repository.connection import Link
from pgflow_cli.repository.database import Database
from pgflow_cli.repository.enqueue import Enqueuing, borrowed
from pgflow_cli.repository.listener import Listener
from pgflow_cli.repository.repository import Repository
from pgflow_cli.repository.watchdog import Watchdog

__all__ = [
    "Database",
    "Enqueuing",
    "Link",
    "Listener",
    "Repository",
    "Watchdog",
    "borrowed",
]
