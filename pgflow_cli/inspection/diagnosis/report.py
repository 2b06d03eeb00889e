"""The findings of `doctor` as a screen, as SQL to run, or as a document for a bug
report.
"""

from __future__ import annotations

import platform
import textwrap
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from importlib.metadata import version as version_of

from pgflow_cli.inspection.diagnosis import FAIL, OK, WARN, Finding
from pgflow_cli.repository import Database, sqlfiles

_MARGIN = 28  # columns before the details of a finding: result and name of the check
_NARROWEST = 30  # columns that details have at least, however narrow the terminal is


def lines(findings: Iterable[Finding], width: int) -> Iterator[str]:
    """Return the lines of a screen, by area. Details are wrapped, fixes are not, so
    that they can be copied.
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


def document(
    database: Database,
    findings: Sequence[Finding],
    settings: Sequence[Mapping[str, str]],
) -> dict[str, object]:
    """Return the document for a bug report: versions, findings, settings; no
    payload.
    """
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
        "findings": [{**asdict(each), "fix": each.fix} for each in findings],
        "settings": settings,
    }
