"""Backups that are restored beside running workers and producers, as faults.

What was confirmed after the dump may be lost or run again, and nothing else. A dump
that is loaded over the tables costs nothing at all, once the fence is accepted.
"""

from __future__ import annotations

import random
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import psycopg
from psycopg.conninfo import make_conninfo

from tests.trials.faults import Stage, fault
from tests.trials.history import Scribe
from tests.trials.rig import Rig

DATABASE = "postgres"
_STRICT = ("-v", "ON_ERROR_STOP=1", "--single-transaction")
_KEPT = "select job_id::text, attempt_no from pgflow.any_attempts"


@dataclass(frozen=True)
class Dump:
    """A dump, and what it has for certain."""

    file: Path
    began: float
    kept: list[tuple[str, int]]


def _dump(rig: Rig, name: str, take: Callable[[Path], object]) -> Dump:
    file = rig.folder / name
    file.unlink(missing_ok=True)
    began = time.monotonic()
    kept = [(str(job_id), int(number)) for job_id, number in rig.sql(_KEPT)]
    take(file)
    return Dump(file, began, kept)


def _go_on(stage: Stage, chance: random.Random, dump: Dump) -> None:
    """Let jobs end that the dump does not know, so that there is something to lose."""
    rig = stage.rig
    before = rig.succeeded()
    rig.wait(lambda: rig.succeeded() > before, f"jobs end after {dump.file.name}")
    time.sleep(chance.uniform(0, rig.lease))


def _write_down(rig: Rig, dump: Dump) -> None:
    Scribe(rig.restores)("restored", dumped=dump.began, kept=dump.kept)


def _accept(stage: Stage, chance: random.Random) -> None:
    fate = chance.choice(["requeue", "dlq", "cancel"])
    words = ("fence", "accept", "--interrupted", fate, "--no-pause")
    # Refused as long as it cannot be known which workers live.
    stage.rig.wait(
        lambda: stage.rig.pgflow(*words, "--confirm", DATABASE).returncode == 0,
        "fence accept",
    )


def _pg_dump(rig: Rig, file: Path) -> None:
    program = rig.server.binaries / "pg_dump"
    subprocess.run([program, "-d", rig.server.url, "-f", file], check=True)


def _psql(rig: Rig, file: Path, *options: str) -> None:
    """Load a dump; with strict options it must go through."""
    program = rig.server.binaries / "psql"
    with file.open("rb") as dump:
        ended = subprocess.run(
            [program, "-X", "-q", "-d", rig.server.url, *options],
            stdin=dump,
            capture_output=True,
            text=True,
            check=False,
        )
    if ended.returncode != 0:
        rig.unexpected.append(f"psql ends {ended.returncode}: {ended.stderr[-300:]}")


@fault("restored beside workers", "restores", needs="restores")
def restore(stage: Stage, chance: random.Random) -> None:
    rig = stage.rig
    dump = _dump(rig, "trial.dump", lambda f: rig.pgflow("backup", str(f), may_end=[0]))
    _go_on(stage, chance, dump)
    words = ("restore", str(dump.file), "--clean", "--force", "--confirm", DATABASE)
    rig.pgflow(*words, may_end=[0])
    _write_down(rig, dump)
    _accept(stage, chance)


@fault("restored by psql", "restores", needs="restores")
def restore_by_psql(stage: Stage, chance: random.Random) -> None:
    """As RUNBOOK says, but that workers and producers go on."""
    rig = stage.rig
    dump = _dump(rig, "trial.sql", lambda file: _pg_dump(rig, file))
    _go_on(stage, chance, dump)
    elsewhere = make_conninfo(rig.server.url, dbname="template1")
    with psycopg.connect(elsewhere, autocommit=True) as connection:
        connection.execute(f"drop database {DATABASE} with (force)")
        connection.execute(f"create database {DATABASE}")
    _psql(rig, dump.file, *_STRICT)
    _write_down(rig, dump)
    _accept(stage, chance)


@fault("dump loaded over the tables", "restores", needs="restores")
def load_over(stage: Stage, chance: random.Random) -> None:
    """The mistake: psql goes on after each error, and rows of the dump come back."""
    rig = stage.rig
    dump = _dump(rig, "trial.sql", lambda file: _pg_dump(rig, file))
    _go_on(stage, chance, dump)
    _psql(rig, dump.file)
    _accept(stage, chance)
