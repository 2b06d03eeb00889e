"""What RUNBOOK.md tells operators to type exists, and nothing of its seed is lost."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import click
import pytest

from pgflow_cli.cli import program
from pgflow_cli.cli.settings.option import Session

RUNBOOK = Path(__file__).parents[2] / "RUNBOOK.md"
TEXT = RUNBOOK.read_text(encoding="utf-8")
# What stands for something that only the moment knows.
STAND_INS = {
    "ID": "01a2081d-307c-7b77-8a50-0f6c9c41e07b",
    "PLAN": "57",
    "NAME": "worker-1",
    "FILE": "jobs.jsonl",
    "$NEW_DATABASE_URL": "postgres://postgres@127.0.0.1:1/copy",
}
# What the seed names, but for commands of PowerShell that are repeated whole.
NAMES_OF_THE_SEED = [
    "DATABASE_URL",
    "PGFLOW_WORKER_ID",
    "PGFLOW_QUEUE",
    "PGFLOW_LEASE_SECONDS",
    "PGFLOW_ADMIN_ADDR",
    "PGFLOW_MIGRATE_ON_STARTUP",
    "PGFLOW_MAX_PAYLOAD_BYTES",
    "PGFLOW_MAX_ENQUEUE_PER_MINUTE",
    "ARCHIVE_SUCCEEDED_AFTER_DAYS",
    "PRUNE_HISTORY_AFTER_DAYS",
    "MAINTENANCE_INTERVAL_SECS",
    "/health",
    "/metrics",
    "/metrics/prom",
    "/dlq",
    "/ingest/decisions",
    "/jobs/:id/timeline",
    "/jobs/:id/explain",
    "runnable_queue_depth",
    "jobs_per_sec",
    "retry_rate",
    "queue_policies",
    "policy_decisions",
    "reap_expired_locks",
    "dlq_reason_code",
    "last_error_code",
    "PAYLOAD_TOO_LARGE",
    "ENQUEUE_RATE_EXCEEDED",
]
SENTENCES_OF_THE_SEED = (
    "docker compose up --build -d",
    "docker compose --profile worker up -d --scale worker=4",
    "docker compose down",
    "Invoke-WebRequest -Uri http://localhost:3003/health -UseBasicParsing",
    'Invoke-RestMethod -Uri "http://localhost:3003/metrics"',
    'Invoke-RestMethod -Uri "http://localhost:3003/dlq"',
    "POST /jobs/:id/replay",
    "New-Item -ItemType Directory -Force -Path backups | Out-Null",
    "docker compose exec -T db pg_dump -U postgres postgresflow_dev"
    " > backups/postgresflow_dev.sql",
    "Get-Content backups/postgresflow_dev.sql | docker compose exec -T db"
    " psql -U postgres -d postgresflow_dev",
    "point-in-time recovery",
)


def commands() -> list[str]:
    """Return every command of pgflow in a block of code or in backquotes."""
    blocks = re.findall(r"```sh\n(.*?)```", TEXT, re.DOTALL)
    lines = [line.strip() for block in blocks for line in block.splitlines()]
    lines += re.findall(r"`(pgflow [^`]+)`", re.sub(r"```.*?```", "", TEXT, flags=re.S))
    # What comes after a pipe is a command of its own.
    parts = {part.strip() for line in lines for part in re.split(r"\s\|\s", line)}
    return sorted(part for part in parts if part.startswith("pgflow "))


def words_of(line: str) -> list[str]:
    words = shlex.split(line, comments=True)[1:]
    return [STAND_INS.get(word, word) for word in words]


@pytest.mark.parametrize("line", commands())
def test_a_command_of_the_runbook_is_one_that_pgflow_takes(
    line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    takes(line)


def takes(line: str) -> None:
    """Fail unless the line is a command of pgflow with options that it has."""
    command: click.Command = program.program
    context = click.Context(command, obj=Session())
    words = words_of(line)
    while isinstance(command, click.Group):
        made = command.make_context("pgflow", words, parent=context)
        context, words = made, [*made._protected_args, *made.args]
        name, found, words = command.resolve_command(made, words)
        assert found is not None, name
        command = found
    command.make_context("pgflow", words, parent=context)


@pytest.mark.parametrize("name", NAMES_OF_THE_SEED)
def test_every_name_of_the_seed_is_in_the_runbook(name: str) -> None:
    assert name in TEXT


@pytest.mark.parametrize("sentence", SENTENCES_OF_THE_SEED)
def test_every_command_of_the_seed_is_in_the_runbook(sentence: str) -> None:
    assert sentence in TEXT


def test_every_link_inside_the_runbook_leads_somewhere() -> None:
    headings = {
        heading.lower().replace(" ", "-")
        for heading in re.findall(r"^## (.+)$", TEXT, re.MULTILINE)
    }
    assert set(re.findall(r"\(#([\w-]+)\)", TEXT)) <= headings


def test_every_file_of_the_tree_that_the_runbook_names_is_there() -> None:
    named = set(re.findall(r"\b(?:docker|tests|sql)/[\w./-]*\w", TEXT))
    assert len(named) > 10
    assert {name for name in named if not (RUNBOOK.parent / name).exists()} == set()


def test_lines_of_the_runbook_fit_a_screen() -> None:
    assert max(len(line) for line in TEXT.splitlines()) <= 160
