"""Backups: taken in one snapshot, proved before they are published, restored fenced."""

from __future__ import annotations

from pgflow_cli.backups.backup import Taken, Teller, Wanted, take

__all__ = ["Taken", "Teller", "Wanted", "take"]
