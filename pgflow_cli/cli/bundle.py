"""Writes a document for a support case into a file: whole, or not at all."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Mapping
from io import BytesIO
from typing import Any

from pgflow_cli.errors import OutputFailed, UsageError
from pgflow_cli.formats import safe_text
from pgflow_cli.local import output_files

_AS_IT_IS = "payload_json"  # asked for by name; masked, it would be another one


def write(target: str, document: Mapping[str, Any]) -> None:
    """Write a document as JSON that only its owner may read; into a .zip, part by part.

    Passwords are masked. A file of that name stays as it is until all of the new one is
    on the disk. Raises `OutputFailed`.
    """
    if target == "-":
        raise UsageError("--bundle takes the name of a file; for stdout use -o json")
    whole = masked(document)
    content = _zipped(whole) if target.endswith(".zip") else _json(whole)
    try:
        with output_files.opened(target) as file:
            file.write(content)
    except OSError as error:
        raise OutputFailed(
            f"cannot write {target}: {error.strerror or error}",
            "Choose another place with --bundle FILE.",
        ) from None


def masked(value: Any) -> Any:
    """Return a document with what looks like a password masked in its texts."""
    if isinstance(value, str):
        return safe_text.redact(value)
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


def _json(document: Any) -> bytes:
    text = json.dumps(document, indent=2, default=str, allow_nan=False)
    return f"{text}\n".encode()


def _zipped(document: Mapping[str, Any]) -> bytes:
    buffer = BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, part in document.items():
            archive.writestr(f"{name}.json", _json(part))
    return buffer.getvalue()
