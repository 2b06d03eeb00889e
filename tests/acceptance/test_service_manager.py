"""A worker that systemd started tells it when it is ready, alive and ending."""

from __future__ import annotations

import signal
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from tests.acceptance.conftest import Worker
from tests.support.jobs import plant, status_of

Connection = psycopg.Connection[Any]
Start = Callable[..., Worker]
Wait = Callable[..., Any]


class Manager:
    """Systemd's side: the lines that it has heard so far, in order."""

    def __init__(self, listening: socket.socket) -> None:
        self._listening = listening
        self._lines: list[str] = []

    def lines(self) -> list[str]:
        while True:
            try:
                self._lines += self._listening.recv(4096).decode().splitlines()
            except BlockingIOError:
                return self._lines


@pytest.fixture
def manager(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Manager]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(str(tmp_path / "notify"))
        listening.setblocking(False)
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        monkeypatch.setenv("WATCHDOG_USEC", "900000")
        yield Manager(listening)


def test_a_worker_says_when_it_is_ready_alive_and_ending(
    connection: Connection,
    manager: Manager,
    start_worker: Start,
    witness: Callable[[str], list[tuple[str, int]]],
    wait_until: Wait,
    tmp_path: Path,
) -> None:
    gate = tmp_path / "gate"
    [job] = plant(connection, 1, job_type="gated", payload=f'{{"gate": "{gate}"}}')
    worker = start_worker()
    wait_until(lambda: witness(job), "its job starts")
    busy = "STATUS=working; processes: 1, jobs running: 1"
    wait_until(lambda: busy in manager.lines(), "its job is seen")
    heard = manager.lines()
    waiting = "STATUS=waiting for the database and its schema"
    assert heard[0] == waiting
    assert heard.count("READY=1") == 1
    beats = heard.count("WATCHDOG=1")
    wait_until(lambda: manager.lines().count("WATCHDOG=1") > beats + 2, "it beats on")
    assert "STOPPING=1" not in manager.lines()
    worker.send(signal.SIGTERM)
    wait_until(lambda: "STOPPING=1" in manager.lines(), "it says that it ends")
    gate.touch()
    assert worker.wait() == 0
    assert manager.lines().count("READY=1") == 1


def test_a_supervisor_that_stands_still_says_nothing(
    manager: Manager, start_worker: Start, wait_until: Wait
) -> None:
    worker = start_worker()
    wait_until(lambda: "READY=1" in manager.lines(), "it is ready")
    worker.send(signal.SIGSTOP)
    wait_until(lambda: _stopped(worker), "its loop stands still")
    heard = len(manager.lines())
    # Longer than the watchdog's patience: systemd would replace it by now.
    with pytest.raises(AssertionError, match="not within"):
        wait_until(lambda: len(manager.lines()) > heard, "it speaks", seconds=1)
    worker.send(signal.SIGCONT)
    wait_until(lambda: len(manager.lines()) > heard, "it speaks again")


def test_a_worker_without_handlers_is_ready_warns_and_leases_nothing(
    connection: Connection, manager: Manager, start_worker: Start, wait_until: Wait
) -> None:
    [job] = plant(connection, job_type="quick")
    worker = start_worker(app=False)
    wait_until(lambda: "READY=1" in manager.lines(), "it is ready")
    wait_until(lambda: "no handlers" in worker.log, "it warns")
    assert status_of(connection, job) == "queued"
    assert worker.process.poll() is None


def _stopped(worker: Worker) -> bool:
    status = Path(f"/proc/{worker.pid}/stat").read_text()
    return status.rpartition(")")[2].split()[0] == "T"
