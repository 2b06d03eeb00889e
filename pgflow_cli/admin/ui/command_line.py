"""The command line that does what a panel does, ready to be pasted; pure."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping
from typing import Any

from werkzeug.datastructures import MultiDict

from pgflow_cli.models.selection import FILTER_FIELDS

# Flags that are not named for what they set.
_OPTIONS = {
    **{each.name: each.flags.split()[0] for each in FILTER_FIELDS.values()},
    "delay": "--in",
    "length": "--for",
}
_UNITS = {"rate": "/s"}


def line(*arguments: str, **options: Any) -> str:
    """Return a command; options without a value are left out, a true one is a flag."""
    return shlex.join(["pgflow", *arguments, *_options(options)])


def given(values: Mapping[str, Any], *names: str) -> dict[str, Any]:
    """Return some of the values of a request, as they were typed.

    A field that was left empty is no value, though a button of its name sent one, too.
    """
    several = values.getlist if isinstance(values, MultiDict) else None
    typed = {
        name: [text for text in several(name) if text]
        if several
        else [values.get(name)]
        for name in names
    }
    return {name: texts[-1] for name, texts in typed.items() if texts and texts[-1]}


def _options(options: Mapping[str, Any]) -> Iterator[str]:
    for name, value in options.items():
        flag = _OPTIONS.get(name, f"--{name.replace('_', '-')}")
        if value is True:
            yield flag
        elif value not in (None, "", False):
            yield from (flag, f"{value}{_UNITS.get(name, '')}")
