"""Writes what is to be shown to somebody else into a file: whole, or not at all."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pgflow_cli import escaping
from pgflow_cli.errors import OutputFailed, UsageError

_AS_IT_IS = "payload_json"  # asked for by name; masked, it would be another one


def write(target: str, document: Mapping[str, Any]) -> None:
    """Write a document as JSON that only its owner may read.

    Passwords are masked. A file of that name stays as it is until all of the new one is
    on the disk. Raises `OutputFailed`.
    """
    if target == "-":
        raise UsageError("--bundle takes the name of a file; for stdout use -o json")
    text = json.dumps(masked(document), indent=2, default=str, allow_nan=False)
    try:
        _replace(target, text + "\n")
    except OSError as error:
        raise OutputFailed(
            f"cannot write {target}: {error.strerror or error}",
            "Choose another place with --bundle FILE.",
        ) from None


def masked(value: Any) -> Any:
    """Return a document with what looks like a password masked in its texts."""
    if isinstance(value, str):
        return escaping.redact(value)
    if isinstance(value, Mapping):
        return {
            name: part if name == _AS_IT_IS else masked(part)
            for name, part in value.items()
        }
    if isinstance(value, list | tuple):
        return [masked(part) for part in value]
    # JSON knows no infinity.
    if isinstance(value, float) and value - value != 0:
        return str(value)
    return value


def _replace(target: str, text: str) -> None:
    partial = Path(f"{target}.partial")
    partial.unlink(missing_ok=True)
    # Never through a link that somebody has put there, and readable by its owner only.
    descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
            stream.write(text)
            stream.flush()
            os.fsync(stream.fileno())
        partial.replace(target)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
