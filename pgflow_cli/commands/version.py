"""Print the versions of everything that takes part."""

from __future__ import annotations

from pgflow_cli import output
from pgflow_cli.context import command
from pgflow_cli import versions
