"""How a setting is declared, and the units that several of them use."""

from __future__ import annotations

from itertools import chain
from typing import Any

import click

from pgflow_cli.options import Setting

DAY = 86_400.0  # seconds
TEN_YEARS = 3650 * DAY


def flag(
    *flags: str,
    help: str,  # noqa: A002 - named as in click
    variable: bool | str = False,
    **more: Any,
) -> Setting:
    """Declare a setting; `variable=True` derives the variable from the flag."""
    derived = f"PGFLOW_{Setting(flags, help).name.upper()}"
    name = derived if variable is True else variable or None
    return Setting(flags, help, variable=name, **more)


def flattened(
    _ctx: click.Context, _param: click.Parameter, value: tuple[tuple[str, ...], ...]
) -> tuple[str, ...]:
    """Return the values of an option that may be given several times, each once."""
    return tuple(dict.fromkeys(chain.from_iterable(value)))
