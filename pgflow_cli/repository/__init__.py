"""Every statement, one method each; the methods of a noun stand together in a
module.
"""

from __future__ import annotations

from pgflow_cli.repository.connection import Database, Link, Watchdog
from pgflow_cli.repository.listening import Listener
from pgflow_cli.repository.producing import Producing, borrowed
from pgflow_cli.repository.repository import Repository

__all__ = [
    "Database",
    "Link",
    "Listener",
    "Producing",
    "Repository",
    "Watchdog",
    "borrowed",
]
