"""Backups: taken in one snapshot, verified before they are published, and restored
behind the fence.
"""

from __future__ import annotations

from pgflow_cli.backups.backup import Taken, Teller, Wanted, take

__all__ = ["Taken", "Teller", "Wanted", "take"]
