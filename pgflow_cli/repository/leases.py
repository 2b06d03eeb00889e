"""Statements of the cycle: settle, lease, extend, reap."""

from __future__ import annotations

from pgflow_cli.repository.base import Part


class Leases(Part):
    """What workers and their supervisor say."""
