"""What runs beside handlers looks up nothing that one of them can replace."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import pgflow_cli

PACKAGE = Path(pgflow_cli.__file__).parent
FILES = sorted(
    path
    for pattern in (
        "handlers/*.py",
        "worker/execution/*.py",
        "worker/leasing/*.py",
        "worker/channel.py",
        "worker/descriptors.py",
        "worker/safeguards.py",
        "worker/shared_memory.py",
        "worker/worker.py",
        "repository/connection.py",
        "repository/leases.py",
        "repository/negotiation.py",
        "repository/watchdog.py",
        "telemetry/log_writer.py",
        "telemetry/logs.py",
    )
    for path in PACKAGE.glob(pattern)
    # What a handler is made of before it runs, in no worker process.
    if path.name not in ("app.py", "examples.py")
)
LATE = re.compile(
    r"\btime\.\w+\(|\brandom\.\w+\(|\buuid\.uuid\d\(|\bos\.getpid\("
    r"|\bthreading\.(?:get_ident|Event)\(\)"
)
# Made before a handler runs.
EARLY = {"worker/leasing/capacity.py": 2, "worker/leasing/exchange.py": 1}


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_clocks_and_random_numbers_are_taken_at_import(path: Path) -> None:
    found = LATE.findall(path.read_text(encoding="utf-8"))
    early = EARLY.get(str(path.relative_to(PACKAGE)), 0)
    assert len(found) == early, found


def test_there_are_such_files() -> None:
    assert len(FILES) > 30
