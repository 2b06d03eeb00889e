"""Find what is wrong with a database, its jobs and their upkeep."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from pgflow_cli.cli import settings
from pgflow_cli.cli.context import command, pass_database
from pgflow_cli.cli.output import messages, records
from pgflow_cli.cli.output.cells import Column
from pgflow_cli.cli.settings import report

if TYPE_CHECKING:
    from pgflow_cli.repository import Database

COLUMNS = (
    Column("check"),
    Column("result"),
    Column("detail"),
    Column("fix"),
)
MARKS = {"OK": "green", "WARN": "yellow", "FAIL": "red"}


@command("doctor")
@click.option(
    "--check",
    "checks",
    multiple=True,
    metavar="NAME",
    help="Only this check, or this area of checks; repeatable.",
)
@click.option("--strict", is_flag=True, help="Exit 5 for a WARN, too.")
@click.option("--fix-sql", is_flag=True, help="Print only the SQL of the fixes.")
@click.option(
    "--bundle",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Write a report of a bug, too: .zip or .json; no payload, no secret.",
)
@pass_database
def doctor(
    database: Database,
    checks: tuple[str, ...],
    strict: bool,
    fix_sql: bool,
    bundle: Path | None,
) -> int:
    """Find what is wrong with a database, its jobs and their upkeep.

    Checks have an area: server, schema, jobs, vacuum, upkeep. Each is OK, WARN or FAIL
    and says how to mend it. Nothing is changed. Exit 5 for a FAIL.

    \b
    Examples:
      pgflow doctor
      pgflow doctor --check jobs --check vacuum.xmin
      pgflow doctor --fix-sql
      pgflow doctor --strict -o json
      pgflow doctor --bundle report.zip
    """
    from pgflow_cli.cli.bundle import write
    from pgflow_cli.inspection.diagnosis import report as diagnosis_report
    from pgflow_cli.inspection.diagnosis.checks import examine
    from pgflow_cli.inspection.diagnosis.doctor import STATEMENT_SECONDS, Surroundings

    findings = list(
        examine(
            database,
            checks,
            surroundings=Surroundings(
                report.secret_files(),
                report.password_is_typed(),
                report.open_address(),
            ),
            audit_seconds=settings.given("timeout")
            if {"audit", "jobs.audit"} & {*checks}
            else STATEMENT_SECONDS,
        )
    )
    if bundle is not None:
        settings_in_force = [asdict(value) for value in report.values()]
        write(
            str(bundle),
            diagnosis_report.document(database, findings, settings_in_force),
        )
        messages.say(
            f"wrote {bundle}: no payload, no secret; read it before you send it"
        )
    if fix_sql:
        records.write_text(diagnosis_report.script(findings))
    elif records.chosen_format() in ("table", "wide"):
        records.write_text(
            diagnosis_report.lines(findings, records.width() or 80), marks=MARKS
        )
    else:
        records.write(findings, COLUMNS)
    messages.say(diagnosis_report.summary(findings))
    bad = {"FAIL", "WARN"} if strict else {"FAIL"}
    return 5 if any(finding.result in bad for finding in findings) else 0
