"""A line is written, or waits, or is dropped and counted: its caller goes on."""

from __future__ import annotations

import io
import logging
import os
import re
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TextIO

import pytest

from pgflow_cli.telemetry import log_writer, logs
from pgflow_cli.telemetry.log_writer import LineWriter

Wait = Callable[..., Any]
LINE = "x" * 1000


class Pipe:
    """A pipe as a process's stderr, and how its lines are read."""

    def __init__(self) -> None:
        self.reader, writer = os.pipe()
        self.stream: TextIO = os.fdopen(writer, "w")
        self.read = b""
        self._writers: list[LineWriter] = []

    def writer(self) -> LineWriter:
        self._writers.append(LineWriter(self.stream))
        return self._writers[-1]

    def is_still(self) -> bool:
        """Read what comes; say whether no thread writes any more."""
        self.drain()
        return not any(writer.is_waiting() for writer in self._writers)

    def lines(self) -> list[str]:
        return self.read.decode().splitlines()

    def drain(self) -> None:
        os.set_blocking(self.reader, False)
        try:
            while data := os.read(self.reader, 65536):
                self.read += data
        except BlockingIOError:
            return


@pytest.fixture
def pipe(wait_until: Wait) -> Iterator[Pipe]:
    made = Pipe()
    yield made
    # Else a thread would write to the next test's pipe, which has the same number.
    wait_until(made.is_still, "no thread writes to it")
    made.stream.close()
    os.close(made.reader)


@pytest.fixture(params=["at once", "by a thread"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """With and without a system that says it would have to wait."""
    if request.param == "by a thread":
        monkeypatch.setattr(log_writer, "_AT_ONCE", None)


def logger_to(handler: logging.Handler) -> logging.Logger:
    logger = logging.Logger("tests.logwriter")
    logger.addHandler(handler)
    return logger


@pytest.mark.usefixtures("way")
def test_lines_arrive_in_their_order(pipe: Pipe, wait_until: Wait) -> None:
    logger = logger_to(pipe.writer())
    for number in range(300):
        logger.info("%d %s", number, LINE)
    wait_until(lambda: pipe.drain() or len(pipe.lines()) == 300, "all are there")
    assert pipe.lines() == [f"{number} {LINE}" for number in range(300)]


@pytest.mark.usefixtures("way")
def test_a_pipe_that_nothing_reads_holds_up_no_thread(
    pipe: Pipe, wait_until: Wait, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log_writer, "MOST", 100_000)
    monkeypatch.setattr(log_writer, "PATIENCE", 0.1)
    writer = pipe.writer()
    logger = logger_to(writer)
    for number in range(1000):
        logger.info("%d %s", number, LINE)
    writer.flush()  # waits no longer, either
    dropped = writer.take_dropped()
    assert dropped > 700
    assert writer.take_dropped() == 0

    def told() -> bool:
        pipe.drain()
        logger.info("next")
        return "next" in pipe.lines()

    wait_until(told, "the next line gets through")
    *kept, notice = pipe.lines()[: pipe.lines().index("next")]
    assert kept == [f"{number} {LINE}" for number in range(len(kept))]
    late = writer.take_dropped()  # lines "next" before there was room
    found = re.fullmatch(
        r"(\d+) log lines were dropped: nothing read the log for \d+ s", notice
    )
    assert found is not None
    assert int(found[1]) == dropped + late
    assert len(kept) == 1000 - dropped


def test_who_waits_for_room_goes_on_when_it_is_read(
    pipe: Pipe, wait_until: Wait, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log_writer, "MOST", 100_000)
    monkeypatch.setattr(log_writer, "PATIENCE", 60.0)
    writer = pipe.writer()
    logger = logger_to(writer)

    def log() -> None:
        for number in range(1000):
            logger.info("%d %s", number, LINE)

    thread = threading.Thread(target=log)
    thread.start()
    wait_until(lambda: pipe.drain() or len(pipe.lines()) == 1000, "all are there")
    thread.join()
    assert writer.take_dropped() == 0


@pytest.mark.usefixtures("way")
def test_a_reader_that_is_gone_holds_up_no_thread(pipe: Pipe) -> None:
    writer = pipe.writer()
    logger = logger_to(writer)
    gone, pipe.reader = pipe.reader, os.open(os.devnull, os.O_RDONLY)
    os.close(gone)
    for _ in range(10):
        logger.info(LINE)
    writer.flush()
    assert writer.take_dropped() == 10


def test_a_full_disk_is_named_when_it_is_full_no_more(tmp_path: Path) -> None:
    log = tmp_path / "log"
    with log.open("w") as file, open("/dev/full", "w") as full:
        before = os.dup(file.fileno())
        writer = LineWriter(file)
        logger = logger_to(writer)
        os.dup2(full.fileno(), file.fileno())
        logger.info("a")
        logger.info("b")
        os.dup2(before, file.fileno())
        os.close(before)
        logger.info("c")
    assert log.read_text().splitlines() == [
        "2 log lines were dropped: No space left on device",
        "c",
    ]
    assert writer.take_dropped() == 2


def test_a_process_without_stderr_drops_its_lines() -> None:
    writer = LineWriter(None)
    logger_to(writer).info("a")
    assert writer.take_dropped() == 1


def test_a_line_that_cannot_be_formatted_costs_no_more() -> None:
    class Broken(logging.Formatter):
        def format(self, record: logging.LogRecord) -> str:
            raise RecursionError

    stream = io.StringIO()
    writer = LineWriter(stream)
    writer.setFormatter(Broken())
    logger_to(writer).info("a")
    assert stream.getvalue() == "a log line cannot be formatted: 'a'\n"


def test_the_fork_of_a_handler_writes_by_itself(pipe: Pipe) -> None:
    writer = pipe.writer()
    logger = logger_to(writer)
    with writer._changed:  # as if another thread wrote just then
        if (child := os.fork()) == 0:
            logger.info("of the fork")
            os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    pipe.drain()
    assert pipe.lines() == ["of the fork"]


def test_stacks_are_lines_of_the_log(caplog: pytest.LogCaptureFixture) -> None:
    logs.say_stacks()
    [line] = [r.getMessage() for r in caplog.records if "MainThread" in r.getMessage()]
    assert f"in {test_stacks_are_lines_of_the_log.__name__} ({__file__}:" in line
