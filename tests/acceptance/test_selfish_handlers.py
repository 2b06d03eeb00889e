"""What a handler does to its process costs its own job, and no neighbour."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import psycopg
import pytest

from pgflow_cli.worker import safeguards
from tests.acceptance.conftest import Worker
from tests.acceptance.forked import Started
from tests.conftest import RunsPgflow
from tests.support.jobs import attempts_of, plant, status_of
from tests.support.servers import Database

Connection = psycopg.Connection[Any]
Start = Callable[..., Worker]
Wait = Callable[..., Any]

APP = Path(__file__).with_name("selfish_handlers.py")
OPTIONS = ("--app", str(APP), "--log-format", "json")


@pytest.fixture
def start(start_worker: Start) -> Start:
    """Start a worker with these handlers."""
    return lambda *options, **rest: start_worker(*OPTIONS, *options, app=False, **rest)


def settled(connection: Connection, *jobs: str) -> Callable[[], bool]:
    return lambda: all(status_of(connection, j) in ("succeeded", "dlq") for j in jobs)


def lines(worker: Worker) -> list[dict[str, Any]]:
    """Return the log; every line of it is one of ours."""
    return [json.loads(line) for line in worker.log.splitlines()]


Ends = tuple[str, str | None]
Beside = Callable[[dict[str, Ends]], tuple[dict[str, str], Worker]]


@pytest.fixture
def run_beside(
    connection: Connection, start: Start, wait_until: Wait, tmp_path: Path
) -> Beside:
    """Run jobs, one after the other, while others are at work in their process; then
    let those end. Returns the job of each type.

    The process outlives them all, and the others succeed at the first attempt.
    """

    def run(ends: dict[str, Ends]) -> tuple[dict[str, str], Worker]:
        gate = tmp_path / "gate"
        others = []
        for kind in ("neighbour", "neighbour", "neighbour_thread"):
            began = tmp_path / f"began-{len(others)}"
            text = json.dumps({"gate": str(gate), "began": str(began)})
            others += plant(connection, job_type=kind, payload=text, max_attempts=1)
        worker = start()
        wait_until(
            lambda: len([*tmp_path.glob("began-*")]) == len(others), "they begin"
        )
        [process] = worker.children()
        jobs = {}
        for job_type, end in ends.items():
            [job] = plant(connection, job_type=job_type, max_attempts=1)
            wait_until(settled(connection, job), f"{job_type} is settled")
            assert attempts_of(connection, job) == [(1, *end)], job_type
            [after] = plant(connection, job_type="quick")
            wait_until(settled(connection, after), f"{job_type} stops no other job")
            assert worker.children() == [process], job_type
            jobs[job_type] = job
        gate.touch()
        wait_until(settled(connection, *others), "the others are settled")
        for other in others:
            assert attempts_of(connection, other) == [(1, "succeeded", None)]
        assert worker.children() == [process]
        return jobs, worker

    return run


# Async handlers.


def test_a_job_that_cancels_its_own_task_fails_and_does_not_run_without_end(
    connection: Connection, start: Start
) -> None:
    [job] = plant(connection, job_type="cancels_itself", max_attempts=3)
    assert start("--drain").wait() == 0
    assert attempts_of(connection, job) == [
        (number, "failed", "TASK_CANCELED") for number in (1, 2, 3)
    ]
    assert status_of(connection, job) == "dlq"


def test_whatever_it_does_to_the_event_loop_its_neighbours_go_on(
    run_beside: Beside,
) -> None:
    jobs, worker = run_beside(
        {
            "cancels_all": ("failed", "TASK_CANCELED"),
            "cancels_neighbours": ("succeeded", None),
            "cancels_neighbours_in_thread": ("succeeded", None),
            "stops_loop": ("failed", "UNKNOWN"),
            "really_stops_loop": ("succeeded", None),
            "exits_in_task": ("failed", "UNKNOWN"),
            "exits_in_callback": ("succeeded", None),
            "fails_in_callback": ("succeeded", None),
            "runs_a_loop": ("failed", "UNKNOWN"),
            "hears_signals": ("failed", "UNKNOWN"),
            "closes_selector": ("failed", "UNKNOWN"),
            "marks_closed": ("failed", "UNKNOWN"),
            "takes_loop_away": ("failed", "UNKNOWN"),
            "stops_loop_clock": ("failed", "UNKNOWN"),
            "bad_timers": ("succeeded", None),
        }
    )
    # An error in a callback is one line, with its job.
    [line] = [
        each
        for each in lines(worker)
        if each["event"] == "loop_error" and "no number" in each.get("traceback", "")
    ]
    job = jobs["fails_in_callback"]
    assert (line["job_id"], line["job_type"]) == (job, "fails_in_callback")


def test_a_job_that_blocks_the_event_loop_pays_alone(
    connection: Connection, start: Start, wait_until: Wait, tmp_path: Path
) -> None:
    """Coroutines beside it run elsewhere, functions in threads go on."""
    gate, others = tmp_path / "gate", {}
    for number, kind in enumerate(("waits", "waits", "neighbour_thread")):
        payload = {"gate": str(gate), "began": str(tmp_path / f"began-{number}")}
        text = json.dumps(payload)
        [job] = plant(connection, job_type=kind, payload=text, max_attempts=1)
        others[job] = kind
    text = json.dumps({"folder": str(tmp_path), "others": len(others)})
    [bad] = plant(connection, job_type="blocks_loop", payload=text, max_attempts=1)
    start()
    wait_until(settled(connection, bad), "it is settled")
    gate.touch()
    wait_until(settled(connection, *others), "the others are, too")
    assert attempts_of(connection, bad) == [(1, "failed", "TIMEOUT")]
    [[message]] = connection.execute(
        "select error_message from pgflow.job_attempts where job_id = %s", (bad,)
    ).fetchall()
    assert "blocked the event loop" in message
    for job, kind in others.items():
        *before, last = attempts_of(connection, job)
        assert last[1:] == ("succeeded", None), kind
        assert {each[1] for each in before} <= {"released"}, kind
        assert not (before and kind == "neighbour_thread")


def test_a_job_that_breaks_the_event_loop_pays_alone_in_the_end(
    connection: Connection, start: Start, wait_until: Wait, tmp_path: Path
) -> None:
    text = json.dumps({"folder": str(tmp_path), "others": 2})
    kind = "beside_async"
    others = plant(connection, 2, job_type=kind, payload=text, max_attempts=1)
    [bad] = plant(connection, job_type="breaks_loop", payload=text, max_attempts=1)
    start()
    wait_until(settled(connection, bad, *others), "they are settled", seconds=120)
    assert attempts_of(connection, bad) == [
        (1, "lost", "WORKER_LOST"),
        (2, "lost", "WORKER_LOST"),
        (3, "failed", "UNKNOWN"),
    ]
    assert_uncharged(connection, *others)


def assert_uncharged(connection: Connection, *jobs: str) -> None:
    """Assert that jobs succeeded, and lost no more than twice what they had done."""
    for job in jobs:
        *before, last = attempts_of(connection, job)
        assert last[1:] == ("succeeded", None)
        assert {each[1] for each in before} <= {"lost"}
        assert len(before) <= 2


def test_a_coroutine_that_was_done_while_another_job_held_the_interpreter_succeeds(
    connection: Connection, start: Start, wait_until: Wait, tmp_path: Path
) -> None:
    text = json.dumps({"folder": str(tmp_path), "others": 2})
    naps = plant(connection, 2, job_type="naps", payload=text, max_attempts=1)
    [holds] = plant(connection, job_type="holds", payload=text, max_attempts=1)
    start()
    wait_until(settled(connection, holds, *naps), "they are settled", seconds=150)
    for job in (holds, *naps):
        assert attempts_of(connection, job) == [(1, "succeeded", None)]


# Threads.


def test_an_exception_outside_of_its_handler_ends_no_process(
    run_beside: Beside,
) -> None:
    jobs, worker = run_beside(
        {
            "thread_fails": ("succeeded", None),
            "thread_exits": ("succeeded", None),
            "exits": ("failed", "UNKNOWN"),
            "interrupts": ("failed", "UNKNOWN"),
            "destructor_fails": ("succeeded", None),
        }
    )
    told = [
        (line["event"], line["job_id"])
        for line in lines(worker)
        if line["event"] in ("handler_thread_failed", "unraisable")
    ]
    assert told == [
        ("handler_thread_failed", jobs["thread_fails"]),
        ("unraisable", jobs["destructor_fails"]),
    ]


# What it does to Python's modules.


def test_a_job_that_replaces_clocks_and_random_numbers_harms_no_other(
    run_beside: Beside,
) -> None:
    run_beside(
        {
            "replaces": ("succeeded", None),
            "outruns": ("failed", "TIMEOUT"),
            "replaces_again": ("succeeded", None),
            "cancels_itself": ("failed", "TASK_CANCELED"),
        }
    )


# Signals.


def test_an_alarm_ends_no_process(run_beside: Beside) -> None:
    run_beside({"sets_alarm": ("succeeded", None)})


@pytest.mark.long
@pytest.mark.timeout(400)
def test_a_job_that_stops_its_process_pays_alone(
    connection: Connection, start: Start, wait_until: Wait, tmp_path: Path
) -> None:
    """Its neighbours lose what they have done, twice at most, and no failed attempt."""
    text = json.dumps({"folder": str(tmp_path), "others": 2})
    others = plant(connection, 2, job_type="beside", payload=text, max_attempts=1)
    [bad] = plant(connection, job_type="stops_process", payload=text, max_attempts=1)
    start("--worker-id", "w")
    wait_until(settled(connection, bad, *others), "they are settled", seconds=300)
    assert attempts_of(connection, bad) == [
        (1, "lost", "WORKER_LOST"),
        (2, "lost", "WORKER_LOST"),
        (3, "failed", "TIMEOUT"),
    ]
    assert_uncharged(connection, *others)


def test_programs_and_processes_of_a_handler_hear_signals(
    connection: Connection, start: Start
) -> None:
    cases = (
        ("terminates", {"signal": "SIGTERM"}),
        ("terminates", {"signal": "SIGINT"}),
        ("reads_mask", {"inherited": inherited_mask()}),
        ("pools", {"how": "fork"}),
        ("pools", {"how": "spawn"}),
    )
    for job_type, payload in cases:
        text = json.dumps(payload)
        plant(connection, job_type=job_type, payload=text, max_attempts=1)
    assert start("--drain").wait() == 0
    failed = connection.execute(
        "select job_type, payload, error_code, error_message"
        " from pgflow.any_attempts join pgflow.jobs on id = job_id"
        " where status <> 'succeeded'"
    ).fetchall()
    assert failed == []
    ended = "select count(*) from pgflow.any_attempts"
    assert connection.execute(ended).fetchone() == (len(cases),)


def inherited_mask() -> int:
    """Return the signals that are blocked or ignored in every program that the tests
    start, for whatever started them has it so; of those that a worker decides on, none.
    """
    found = subprocess.run(
        ["cat", "/proc/self/status"], capture_output=True, text=True, check=True
    ).stdout
    masks = dict(line.split(":\t") for line in found.splitlines() if ":\t" in line)
    ours = sum(1 << number - 1 for number in safeguards.group_signals())
    return (int(masks["SigBlk"], 16) | int(masks["SigIgn"], 16)) & ~ours


def test_a_signal_to_every_process_leaves_the_decision_to_the_supervisor(
    connection: Connection, start: Start, wait_until: Wait, tmp_path: Path
) -> None:
    gate, began = tmp_path / "gate", tmp_path / "began"
    text = json.dumps({"gate": str(gate), "began": str(began)})
    [job] = plant(connection, job_type="neighbour_thread", payload=text)
    worker = start()
    wait_until(began.exists, "it begins")
    for process in worker.children():
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1):
            process.send_signal(number)
    worker.send(signal.SIGTERM)
    wait_until(lambda: "leasing no more" in worker.log, "the supervisor has heard")
    gate.touch()
    assert worker.wait() == 0
    assert attempts_of(connection, job) == [(1, "succeeded", None)]


# What it prints and reads.


@pytest.mark.parametrize("encoding", ["ascii", "cp1252", "utf-8"])
def test_what_a_stream_cannot_carry_is_printed_as_an_escape(
    connection: Connection,
    start: Start,
    monkeypatch: pytest.MonkeyPatch,
    encoding: str,
) -> None:
    monkeypatch.setenv("PYTHONIOENCODING", encoding)
    [job] = plant(connection, job_type="prints", max_attempts=1)
    worker = start("--drain")
    assert worker.wait() == 0
    assert attempts_of(connection, job) == [(1, "succeeded", None)]
    snowman = "\u2603" if encoding == "utf-8" else "\\u2603"
    assert worker.log.count(f"snow: {snowman} \\udcff\n") == 2


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has /proc")
def test_a_program_cannot_read_the_secrets_of_the_processes_it_comes_from(
    connection: Connection,
    start: Start,
    wait_until: Wait,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    monkeypatch.setenv("PGPASSWORD", "a-secret")
    seen = tmp_path / "seen"
    text = json.dumps({"seen": str(seen)})
    [job] = plant(connection, job_type="reads_secrets", payload=text, max_attempts=1)
    worker = start(how=Started)  # with variables of its own
    wait_until(settled(connection, job), "it is settled")
    assert attempts_of(connection, job) == [(1, "succeeded", None)]
    if os.geteuid() != 0:  # root reads everything
        assert seen.read_bytes() == b""
    shown = [
        Path(f"/proc/{child.pid}/environ").read_bytes()
        for child in psutil.Process(worker.pid).children()
        if "resource_tracker" in " ".join(child.cmdline())
    ]
    assert len(shown) == 1
    assert b"a-secret" not in shown[0]
    assert b"DATABASE_URL" not in shown[0]


# Descriptors.


def test_descriptors_of_the_worker_cannot_be_closed(run_beside: Beside) -> None:
    _, worker = run_beside(
        {
            "closes": ("failed", "UNKNOWN"),
            "closes_in_fork": ("succeeded", None),
            "closes_each": ("succeeded", None),
        }
    )
    assert lines(worker)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has /proc")
def test_a_fork_has_no_connection_of_the_worker_s(
    connection: Connection, start: Start, wait_until: Wait, tmp_path: Path
) -> None:
    seen = tmp_path / "seen"
    plant(connection, job_type="forks", payload=json.dumps({"seen": str(seen)}))
    assert start("--drain").wait() == 0
    wait_until(seen.exists, "the fork has looked")
    assert "socket:" not in seen.read_text()
    assert "/dev/null" in seen.read_text()


def test_a_process_whose_descriptors_are_closed_all_the_same_is_replaced(
    connection: Connection, start: Start, wait_until: Wait
) -> None:
    [bad] = plant(connection, job_type="closes_in_c")
    worker = start()
    wait_until(settled(connection, bad), "its crash budget is spent")
    [good] = plant(connection, job_type="quick")
    wait_until(settled(connection, good), "a new process runs the next one")
    assert [each[1] for each in attempts_of(connection, bad)] == ["lost"] * 3
    assert worker.log.count('"exit_code": 70') == 3


@pytest.mark.parametrize("number", [0, 1, 2])
@pytest.mark.parametrize("opens", [True, False])
def test_a_process_whose_standard_descriptor_is_closed_in_c_is_replaced(
    connection: Connection, start: Start, wait_until: Wait, number: int, opens: bool
) -> None:
    """What another job opens under its number it may close, until then."""
    text = json.dumps({"number": number, "opens": opens})
    [bad] = plant(connection, job_type="closes_standard_in_c", payload=text)
    worker = start("--crash-budget", "1")
    wait_until(settled(connection, bad), "its crash budget is spent")
    [good] = plant(connection, job_type="quick")
    wait_until(settled(connection, good), "a new process runs the next one")
    assert attempts_of(connection, bad) == [(1, "lost", "WORKER_LOST")]
    assert worker.log.count('"exit_code": 70') == 1
    assert worker.log.count('"process_failed"') == int(number != 2)


def test_a_job_may_redirect_what_is_printed(run_beside: Beside) -> None:
    run_beside({"replaces_standard": ("succeeded", None)})


# Limits.


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has prlimit")
def test_a_job_that_would_lower_the_limits_of_its_process_fails_alone(
    run_beside: Beside,
) -> None:
    run_beside({"lowers_limits": ("failed", "UNKNOWN")})


@pytest.mark.skipif(sys.platform != "linux", reason="the constants are Linux's")
@pytest.mark.parametrize("fails", [True, False])
def test_a_process_whose_limits_are_lowered_in_c_is_replaced(
    connection: Connection, start: Start, wait_until: Wait, fails: bool
) -> None:
    """Its jobs are lost, not failed: which one has done it is not known."""
    text = json.dumps({"fails": fails})
    [bad] = plant(connection, job_type="lowers_limits_in_c", payload=text)
    worker = start("--crash-budget", "1")
    wait_until(settled(connection, bad), "its crash budget is spent")
    [good] = plant(connection, job_type="quick")
    wait_until(settled(connection, good), "a new process runs the next one")
    assert attempts_of(connection, bad) == [(1, "lost", "WORKER_LOST")]
    said = "a handler has lowered the resource limits of its process: it ends"
    assert worker.log.count(said) == 1


@pytest.mark.skipif(sys.platform != "linux", reason="the constants are Linux's")
def test_a_drain_settles_a_job_that_fails_in_the_process_that_it_has_spoilt(
    connection: Connection, start: Start
) -> None:
    [bad] = plant(connection, job_type="lowers_limits_in_c", payload='{"fails": true}')
    worker = start("--drain", "--crash-budget", "1", "--reap-interval", "10m")
    assert worker.wait(120) == 0
    assert attempts_of(connection, bad) == [(1, "lost", "WORKER_LOST")]
    assert connection.execute("select from pgflow.leases").fetchall() == []


# Users.


@pytest.mark.skipif(not hasattr(os, "setuid"), reason="there are no such users")
def test_a_job_that_would_change_the_user_of_its_process_fails_alone(
    run_beside: Beside,
) -> None:
    """It may in a fork, and run a program as another user."""
    run_beside(
        {
            "changes_user": ("failed", "UNKNOWN"),
            "changes_user_in_fork": ("succeeded", None),
        }
    )


# Forks.


def test_a_fork_that_comes_back_from_its_handler_ends(
    connection: Connection, start: Start, wait_until: Wait, tmp_path: Path
) -> None:
    job_types = (
        "fork_returns",
        "fork_fails",
        "fork_exits",
        "async_fork_returns",
        "async_fork_fails",
        "async_fork_awaits",
        "async_fork_in_task",
    )
    jobs = []
    for job_type in job_types:
        text = json.dumps({"seen": str(tmp_path / job_type)})
        jobs += plant(connection, job_type=job_type, payload=text, max_attempts=1)
        jobs += plant(connection, job_type="quick")
    # One by one: what each fork says stands alone in the log.
    worker = start("--concurrency", "1")
    wait_until(settled(connection, *jobs), "they are settled")
    for job_type in job_types:
        seen = tmp_path / job_type
        wait_until(lambda f=seen: f.exists() and f.read_text(), "it has forked")
        fork = int(seen.read_text())
        try:
            wait_until(lambda f=fork: has_ended(f), f"the fork of {job_type} has ended")
        finally:
            if not has_ended(fork):
                os.kill(fork, signal.SIGKILL)
    assert worker.log.count("ValueError: in a fork") == 2
    assert worker.log.count("RuntimeError: a forked process cannot await") == 2
    worker.send(signal.SIGTERM)
    assert worker.wait() == 0
    for job in jobs:
        assert attempts_of(connection, job) == [(1, "succeeded", None)]


def has_ended(pid: int) -> bool:
    """Return whether a process is gone, or would be if its parent looked."""
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


# Log handlers.


def test_log_handlers_that_raise_stop_nothing(run_beside: Beside) -> None:
    _, worker = run_beside({"ships_log": ("failed", "UNKNOWN")})
    told = [e["message"] for e in lines(worker) if e["event"] == "log_handler_failed"]
    shipper = "the log handler selfish_handlers.Shipper has raised ConnectionError: "
    assert len(told) == 2
    assert any(each.startswith(shipper) for each in told)
    assert any("a filter of the logger pgflow.worker" in each for each in told)


# Programs that cannot be started.


def test_an_interpreter_that_is_missing_is_told_at_run_time_too(
    connection: Connection, start_worker: Start, tmp_path: Path
) -> None:
    folder = tmp_path / "handlers"
    folder.mkdir()
    for name, text in (
        ("no_interpreter", "#!/usr/bin/env nonesuch\n"),
        ("its_own_127", "#!/usr/bin/env sh\nexit 127\n"),
    ):
        (folder / name).write_text(text)
        (folder / name).chmod(0o755)
    [missing] = plant(connection, job_type="no_interpreter", max_attempts=1)
    [other] = plant(connection, job_type="its_own_127", max_attempts=1)
    worker = start_worker("--handlers-dir", str(folder), "--drain", app=False)
    assert worker.wait() == 0
    assert attempts_of(connection, missing) == [(1, "failed", "NOT_STARTED")]
    assert attempts_of(connection, other) == [(1, "failed", "UNKNOWN")]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no named pipes")
def test_a_named_pipe_among_the_handlers_is_passed_over(
    pgflow: RunsPgflow, tmp_path: Path
) -> None:
    folder = tmp_path / "handlers"
    folder.mkdir()
    (folder / "good").write_text("#!/bin/sh\n")
    (folder / "good").chmod(0o755)
    os.mkfifo(folder / "pipe", 0o755)
    found = pgflow("work", "--check", "--handlers-dir", str(folder))
    assert found.returncode == 0
    assert "pipe is no regular file and is not a handler" in found.stderr
    named = pgflow("work", "--check", "--exec", f"a={folder / 'pipe'}")
    assert named.returncode == 78
    assert "pipe is no regular file" in named.stderr


# Standard streams that are closed.


@pytest.mark.parametrize("closed", [">&-", "2>&-", "<&- >&- 2>&-"])
def test_a_worker_without_standard_streams_works(
    connection: Connection, database: Database, closed: str
) -> None:
    [job] = plant(connection, job_type="prints", max_attempts=1)
    done = run_without(closed, database, "work", *OPTIONS, "--drain")
    assert (done.returncode, attempts_of(connection, job)) == (
        0,
        [(1, "succeeded", None)],
    ), done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("arguments", "closed", "code"),
    [
        (["queues", "list"], ">&-", 74),
        (["queues", "list", "-o", "json"], ">&-", 74),
        (["jobs", "list", "-o", "csv"], ">&-", 74),
        (["--version"], ">&-", 74),
        (["queues", "list"], "2>&-", 0),
        (["queues", "list"], "<&-", 0),
        (["no-such-command"], "2>&-", 2),
    ],
)
def test_what_cannot_be_printed_is_an_error_of_its_own(
    connection: Connection,
    database: Database,
    arguments: list[str],
    closed: str,
    code: int,
) -> None:
    plant(connection, job_type="quick")
    done = run_without(closed, database, *arguments)
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    assert "Exception ignored" not in done.stderr
    if code == 74:
        assert "cannot write to stdout: it is closed" in done.stderr


def run_without(
    closed: str, database: Database, *arguments: str
) -> subprocess.CompletedProcess[str]:
    """Run the program with streams closed, as a shell closes them."""
    program = Path(sys.executable).with_name("pgflow")
    words = shlex.join([str(program), *arguments])
    return subprocess.run(
        ["sh", "-c", f"exec {words} {closed}"],
        env={**os.environ, "DATABASE_URL": database.url},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


def test_a_handler_that_cannot_be_started_fails_and_the_check_finds_it(
    connection: Connection,
    start_worker: Start,
    pgflow: RunsPgflow,
    tmp_path: Path,
) -> None:
    folder = tmp_path / "handlers"
    folder.mkdir()
    (folder / "no_first_line").write_text("exit 0\n")
    (folder / "no_first_line").chmod(0o755)
    [job] = plant(connection, job_type="no_first_line", max_attempts=1)
    worker = start_worker("--handlers-dir", str(folder), "--drain", app=False)
    assert worker.wait() == 0
    assert attempts_of(connection, job) == [(1, "failed", "NOT_STARTED")]
    assert "event=handler_not_startable" in worker.log
    found = pgflow("work", "--check", "--handlers-dir", str(folder))
    assert found.returncode == 78
    assert "no_first_line has no first line #!" in found.stderr
    assert "make the file executable" in pgflow("explain", job).stdout.lower()
