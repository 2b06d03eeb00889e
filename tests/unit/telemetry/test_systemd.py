"""What a supervisor says to systemd, on a socket as systemd makes it."""

from __future__ import annotations

import os
import socket
import uuid
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from pgflow_cli.cli import settings
from pgflow_cli.telemetry import systemd
from pgflow_cli.telemetry.systemd import Notices


class Running:
    """A process with so many jobs."""

    def __init__(self, jobs: int = 0) -> None:
        self.jobs = jobs

    def running(self) -> list[object]:
        return [object()] * self.jobs


@pytest.fixture(params=["a path", "an abstract name"])
def manager(
    request: pytest.FixtureRequest, tmp_path: Path
) -> Iterator[tuple[socket.socket, str]]:
    """The manager's socket, and its name as NOTIFY_SOCKET has it."""
    abstract = request.param == "an abstract name"
    written = f"@pgflow-{uuid.uuid4()}" if abstract else str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(written.replace("@", "\0") if abstract else written)
        listening.setblocking(False)
        yield listening, written


def heard(listening: socket.socket) -> list[str]:
    lines: list[str] = []
    while True:
        try:
            lines += listening.recv(4096).decode().splitlines()
        except BlockingIOError:
            return lines


def test_ready_is_said_once_when_the_first_process_is(
    manager: tuple[socket.socket, str],
) -> None:
    listening, name = manager
    told = Notices(name, 0.0)
    told.turn([], ending=False)
    assert heard(listening) == []
    told.turn([Running(3)], ending=False)
    status = "STATUS=working; processes: 1, jobs running: 3"
    assert heard(listening) == ["READY=1", status]
    told.turn([Running(2)], ending=False)
    assert heard(listening) == []


def test_the_end_is_announced_once(manager: tuple[socket.socket, str]) -> None:
    listening, name = manager
    told = Notices(name, 0.0)
    told.turn([Running()], ending=False)
    heard(listening)
    told.turn([Running(1)], ending=True)
    told.turn([], ending=True)
    status = "STATUS=ending, waiting for what runs; processes: 1, jobs running: 1"
    assert heard(listening) == ["STOPPING=1", status]


def test_the_watchdog_hears_a_third_of_its_patience_apart(
    manager: tuple[socket.socket, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    listening, name = manager
    clock = iter((100.0, 105.0, 109.9, 110.0, 119.0, 121.0))
    # The module's own clock: that of `time` itself is every thread's.
    ours = SimpleNamespace(monotonic=lambda: next(clock))
    monkeypatch.setattr("pgflow_cli.telemetry.systemd.time", ours)
    told = Notices(name, 30.0)
    beats = []
    for _ in range(6):
        told.turn([], ending=False)
        beats.append(heard(listening))
    assert beats == [["WATCHDOG=1"], [], [], ["WATCHDOG=1"], [], ["WATCHDOG=1"]]


def test_a_manager_that_is_gone_or_deaf_stops_nobody(tmp_path: Path) -> None:
    Notices(str(tmp_path / "nobody"), 30.0).turn([Running()], ending=False)
    Notices("vsock:2:1234", 30.0).turn([Running()], ending=False)
    Notices(None, 30.0).turn([Running()], ending=False)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as full:
        full.bind(str(tmp_path / "full"))
        for _ in range(2000):  # more than a socket holds: this must not wait
            systemd.say(str(tmp_path / "full"), "WATCHDOG=1")


def test_what_meets_a_full_queue_is_said_again(
    manager: tuple[socket.socket, str],
) -> None:
    listening, name = manager
    told = Notices(name, 0.0)
    while systemd.say(name, "EXTEND_TIMEOUT_USEC=1"):
        pass
    told.turn([Running()], ending=False)
    assert "READY=1" not in heard(listening)
    told.turn([Running()], ending=False)
    assert heard(listening)[0] == "READY=1"
    while systemd.say(name, "EXTEND_TIMEOUT_USEC=1"):
        pass
    told.turn([Running()], ending=True)
    assert "STOPPING=1" not in heard(listening)
    told.turn([Running()], ending=True)
    assert heard(listening)[0] == "STOPPING=1"
    told.turn([Running()], ending=True)
    assert heard(listening) == []


@pytest.mark.parametrize(
    ("micros", "pid", "seconds"),
    [
        ("30000000", None, 30.0),
        ("30000000", "ours", 30.0),
        ("30000000", "1", 0.0),
        ("", None, 0.0),
        ("soon", None, 0.0),
        (None, None, 0.0),
    ],
)
def test_the_watchdog_is_heeded_if_it_is_meant_for_this_process(
    micros: str | None,
    pid: str | None,
    seconds: float,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Not in the list above: each process of a parallel run would collect other tests.
    pid = str(os.getpid()) if pid == "ours" else pid
    for name, value in (("WATCHDOG_USEC", micros), ("WATCHDOG_PID", pid)):
        if value is None:
            monkeypatch.delenv(name, raising=False)
        else:
            monkeypatch.setenv(name, value)
    assert settings.watchdog_seconds() == seconds
