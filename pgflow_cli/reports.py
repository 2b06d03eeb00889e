"""What `doctor` found: as a screen, as SQL to run, as a file for a bug report."""

from __future__ import annotations

import json
import os
import platform
import textwrap
import zipfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from importlib.metadata import version as version_of
from io import BytesIO
from pathlib import Path
from typing import Any

from pgflow_cli import escaping, sqlfiles
from pgflow_cli.diagnosis import FAIL, OK, WARN, Finding
from pgflow_cli.errors import OutputFailed, UsageError
from pgflow_cli.repository import Database

_MARGIN = 28
_NARROWEST = 30


def lines(findings: Iterable[Finding], width: int) -> Iterator[str]:
    """Return a screen: by area, details wrapped, fixes whole so that they can be
    copied.
    """
    area = None
    for finding in findings:
        here, _, name = finding.check.partition(".")
        if here != area:
            area = here
            yield here
        wrapped = textwrap.wrap(
            finding.detail, max(_NARROWEST, width - _MARGIN), break_on_hyphens=False
        )
        yield f"  {finding.result:<4}  {name:<19} {wrapped[0] if wrapped else ''}"
        for line in wrapped[1:]:
            yield " " * _MARGIN + line
        for fix in filter(None, (finding.sql, finding.command)):
            yield f"        fix: {fix}"


def script(findings: Iterable[Finding]) -> Iterator[str]:
    """Return the SQL of the fixes for psql, each below a comment that says why."""
    for finding in findings:
        if finding.sql:
            yield f"-- {finding.check}: {finding.detail}"
            yield finding.sql


def summary(findings: Sequence[Finding]) -> str:
    """Return how many findings are OK, WARN and FAIL."""
    counts = dict.fromkeys((OK, WARN, FAIL), 0)
    for finding in findings:
        counts[finding.result] += 1
    return ", ".join(f"{count} {result}" for result, count in counts.items())


def write(
    path: Path, database: Database, findings: Sequence[Finding], settings: Sequence[Any]
) -> None:
    """Write a report that its owner alone can read; a .zip has a file for each part."""
    parts = _parts(database, findings, settings)
    if path.suffix == ".zip":
        content = _zipped(parts)
    elif path.suffix == ".json":
        content = _text(parts).encode()
    else:
        raise UsageError(f"--bundle takes a file that ends in .zip or .json: {path}")
    partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
    try:
        descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(content)
            partial.replace(path)
        finally:
            partial.unlink(missing_ok=True)
    except OSError as error:
        raise OutputFailed(f"cannot write {path}: {error.strerror}") from None


def _parts(
    database: Database, findings: Sequence[Finding], settings: Sequence[Any]
) -> Mapping[str, Any]:
    return {
        "versions": {
            "pgflow": version_of("pgflow"),
            "schema_expected": sqlfiles.latest_version(),
            "python": platform.python_version(),
            "platform": platform.platform(),
            "psycopg": version_of("psycopg"),
            "click": version_of("click"),
        },
        "database": database.display(),
        "written_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "findings": [{**asdict(finding), "fix": finding.fix} for finding in findings],
        "settings": [asdict(setting) for setting in settings],
    }


def _zipped(parts: Mapping[str, Any]) -> bytes:
    buffer = BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, part in parts.items():
            archive.writestr(f"{name}.json", _text(part))
    return buffer.getvalue()


def _text(value: Any) -> str:
    """Return a document; whatever still looks like a password is masked."""
    return json.dumps(_masked(value), indent=2, ensure_ascii=True) + "\n"


def _masked(value: Any) -> Any:
    if isinstance(value, str):
        return escaping.redact(value)
    if isinstance(value, Mapping):
        return {key: _masked(part) for key, part in value.items()}
    if isinstance(value, list):
        return [_masked(part) for part in value]
    return value
