"""Programs as handlers: exit statuses, control file, group, environment."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from pgflow_cli import handlers
from pgflow_cli.handlers import Handler, Job, Outcome
from pgflow_cli.local import descendants, processes
from pgflow_cli.worker.execution import executables
from tests.support.leased_jobs import leased

WaitUntil = Callable[[Callable[[], bool], str], None]

HUGE = 3_000_000


def prepared(script: str, payload: Any = None, **row: Any) -> tuple[Handler, Job]:
    timeout = row.pop("timeout", 60.0)
    handler = Handler("try", command=("/bin/sh", "-c", script), kind="executable")
    return handler, handlers.prepare(handler, leased(payload, **row), timeout=timeout)


def run(script: str, payload: Any = None, **row: Any) -> Outcome:
    return executables.run(*prepared(script, payload, **row))


def is_gone(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def number_in(file: Path) -> int:
    """Return the process id a script has written, 0 if it is not there yet."""
    text = file.read_text() if file.exists() else ""
    return int(text) if text.endswith("\n") else 0


@pytest.fixture
def pids(tmp_path: Path) -> Iterator[Callable[[str], int]]:
    """Read the process ids that scripts have written; kill what is left at the end."""

    def read(name: str) -> int:
        return number_in(tmp_path / name)

    yield read
    for file in tmp_path.glob("*.pid"):
        pid = number_in(file)
        if pid and not is_gone(pid):
            os.kill(pid, signal.SIGKILL)


# Statuses.


@pytest.mark.parametrize(
    ("status", "code", "retried"),
    [
        (64, "NON_RETRYABLE", False),
        (65, "BAD_PAYLOAD", False),
        (69, "DEPENDENCY_DOWN", True),
        (75, "DEPENDENCY_DOWN", True),
        (78, "NON_RETRYABLE", False),
        (124, "TIMEOUT", True),
        (1, "UNKNOWN", True),
        (2, "UNKNOWN", True),
        (70, "UNKNOWN", True),
        (127, "UNKNOWN", True),
        (137, "UNKNOWN", True),
        (255, "UNKNOWN", True),
    ],
)
def test_each_exit_status_has_its_code(status: int, code: str, retried: bool) -> None:
    found = run(f"echo because >&2; exit {status}")
    assert (found.status, found.error_code) == ("failed", code)
    assert found.dlq_reason_code == (None if retried else "NON_RETRYABLE")
    assert found.error_message == "because"


def test_exit_status_0_is_a_success() -> None:
    assert run("echo noise; echo noise >&2") == Outcome("succeeded")


@pytest.mark.parametrize("name", ["SEGV", "KILL", "TERM"])
def test_a_signal_is_a_panic(name: str) -> None:
    found = run(f"kill -{name} $$")
    assert (found.error_code, found.error_message) == (
        "PANIC",
        f"killed by SIG{name}, and nothing on stderr",
    )
    assert found.delay is not None


def test_the_last_attempt_is_a_dead_letter() -> None:
    found = run("exit 75", failed_attempts=4, max_attempts=5)
    assert found.dlq_reason_code == "MAX_ATTEMPTS_EXCEEDED"


# Input and output.


def test_the_payload_comes_on_stdin(tmp_path: Path) -> None:
    payload = {"url": "https://a.example/ü", "n": [1, None]}
    assert run('cat > "$PWD/seen"', payload).status == "succeeded"
    assert json.loads((tmp_path / "seen").read_text()) == payload


def test_much_input_and_output_at_once_block_nobody() -> None:
    script = (
        f"head -c {HUGE} /dev/zero; head -c {HUGE} /dev/zero >&2; wc -c >&2; exit 1"
    )
    found = run(script, "x" * HUGE)
    assert found.error_message is not None
    assert found.error_message.endswith(str(HUGE + 2))


@pytest.mark.parametrize("script", ["exec 0<&-; exit 0", "head -c 10 >/dev/null"])
def test_a_program_need_not_read_its_payload(script: str) -> None:
    assert run(script, "x" * HUGE).status == "succeeded"


def test_the_message_is_the_last_2_kib_of_stderr() -> None:
    found = run("seq 1 100000 >&2; exit 1")
    assert found.error_message is not None
    assert found.error_message.endswith("\n99999\n100000")
    assert 2000 < len(found.error_message) <= 2048


def test_a_message_begins_with_a_whole_character() -> None:
    found = run("yes € | head -n 1000 | tr -d '\\n' >&2; exit 1")
    assert found.error_message is not None
    assert set(found.error_message) == {"€"}


def test_bytes_that_cannot_be_stored_are_replaced() -> None:
    found = run(r"printf 'a\000b\377c' >&2; exit 1")
    assert found.error_message == "a\ufffdb\ufffdc"


def test_a_silent_failure_says_its_status() -> None:
    assert run("exit 3").error_message == "exit status 3, and nothing on stderr"


def test_one_bug_has_one_fingerprint_whatever_it_said_before() -> None:
    script = "echo {0} >&2; echo order {0} has no lines >&2; exit {1}"
    first, second = run(script.format(17, 1)), run(script.format(4711, 1))
    other = run(script.format(17, 2))
    assert first.error_fingerprint == second.error_fingerprint
    assert first.error_fingerprint != other.error_fingerprint


# The control file.


@pytest.mark.parametrize(
    ("written", "status", "delay"),
    [
        ("retry_after=5m", 75, 300.0),
        ("retry_after=90", 69, 90.0),
        (" retry_after = 2h \nother=1", 75, 7200.0),
        ("x=1\nretry_after=1s", 75, 1.0),
    ],
)
def test_the_control_file_says_when_to_come_back(
    written: str, status: int, delay: float
) -> None:
    script = f"printf '%s\\n' '{written}' >> $PGFLOW_CONTROL_FILE; exit {status}"
    assert run(script).delay == delay


@pytest.mark.parametrize(
    "act",
    [
        "echo retry_after=soon > $F",
        "echo retry_after > $F",
        "printf '\\377\\000' > $F",
        "rm $F",
        "rm $F; mkdir $F; touch $F/x",
        "rm $F; mkfifo $F",
        "rm $F; ln -s /etc/passwd $F",
        "head -c 3000000 /dev/zero > $F",
        "chmod 0 $F",
    ],
)
def test_a_control_file_without_sense_leaves_the_back_off(act: str) -> None:
    found = run(f"F=$PGFLOW_CONTROL_FILE; {act}; exit 75")
    assert found.error_code == "DEPENDENCY_DOWN"
    assert found.delay is not None
    assert 1.6 <= found.delay <= 2.4


def test_no_file_is_left_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(scratch))
    run("echo x > $PGFLOW_CONTROL_FILE; echo y > $PGFLOW_CONTROL_FILE.more; exit 1")
    run("exit 0")
    assert list(scratch.iterdir()) == []


# The environment.


def environment_of(added: dict[str, str] | None = None, **row: Any) -> dict[str, str]:
    handler, job = prepared('env -0 > "$PWD/env"', **row)
    assert executables.run(handler, job, added).status == "succeeded"
    lines = Path("env").read_bytes().decode().split("\0")
    return dict(line.split("=", 1) for line in lines if line)


TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


def test_the_environment_describes_the_job() -> None:
    found = environment_of(
        job_type="try",
        queue="images",
        attempt_no=3,
        max_attempts=7,
        meta=json.dumps({"traceparent": TRACE}),
    )
    assert found["PGFLOW_JOB_ID"] == "019ab3c2-7d0e-7c11-8a2b-9f0e9c41e07b"
    assert (found["PGFLOW_JOB_TYPE"], found["PGFLOW_QUEUE"]) == ("try", "images")
    assert (found["PGFLOW_ATTEMPT_NO"], found["PGFLOW_MAX_ATTEMPTS"]) == ("3", "7")
    assert found["PGFLOW_DEADLINE"].endswith("+00:00")
    assert found["TRACEPARENT"] == TRACE
    assert found["PATH"] == os.environ["PATH"]


def test_secrets_and_settings_of_the_worker_are_withheld(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("DATABASE_URL", "DATABASE_URL_FILE", "PGPASSWORD", "PGFLOW_API_TOKEN"):
        monkeypatch.setenv(name, "secret")
    monkeypatch.setenv("TRACEPARENT", TRACE)
    found = environment_of()
    assert "secret" not in found.values()
    assert "TRACEPARENT" not in found


def test_exec_env_hands_the_database_over() -> None:
    found = environment_of({"DATABASE_URL": "postgresql://a", "PGFLOW_QUEUE": "mine"})
    assert (found["DATABASE_URL"], found["PGFLOW_QUEUE"]) == (
        "postgresql://a",
        "default",
    )


@pytest.mark.parametrize("trace", ["x\x00y", "x" * 3_000_000, 7, TRACE + "\n"])
def test_a_traceparent_that_is_none_is_left_out(trace: Any) -> None:
    assert "TRACEPARENT" not in environment_of(meta=json.dumps({"traceparent": trace}))


# Time.


def test_a_timeout_ends_the_whole_group(
    pids: Callable[[str], int], wait_until: WaitUntil
) -> None:
    script = "sleep 600 & echo $! > child.pid; echo half-way >&2; wait"
    found = run(script, timeout=0.5)
    assert (found.error_code, found.status) == ("TIMEOUT", "failed")
    assert found.error_message == "no result within 0.5 s\nhalf-way"
    wait_until(lambda: is_gone(pids("child.pid")), "the group's child is gone")


def test_a_program_that_ignores_term_is_killed(
    monkeypatch: pytest.MonkeyPatch, pids: Callable[[str], int], wait_until: WaitUntil
) -> None:
    monkeypatch.setattr(processes, "GRACE", 0.2)
    script = "trap '' TERM; echo $$ > own.pid; while :; do sleep 0.05; done"
    assert run(script, timeout=0.5).error_code == "TIMEOUT"
    wait_until(lambda: is_gone(pids("own.pid")), "the program is gone")


def test_a_job_that_is_canceled_ends_its_program_and_is_given_back(
    pids: Callable[[str], int], wait_until: WaitUntil
) -> None:
    handler, job = prepared("echo $$ > own.pid; exec sleep 600")
    found: list[Outcome] = []
    thread = threading.Thread(
        target=lambda: found.append(executables.run(handler, job))
    )
    thread.start()
    wait_until(lambda: pids("own.pid") > 0, "the program runs")
    job.canceled.set()
    thread.join(30)
    assert (found[0].status, found[0].delay) == ("released", 0.0)
    assert is_gone(pids("own.pid"))


def test_term_can_be_trapped_though_the_worker_ignores_it(
    tmp_path: Path, pids: Callable[[str], int], wait_until: WaitUntil
) -> None:
    before = signal.signal(signal.SIGTERM, signal.SIG_IGN)
    try:
        script = (
            "trap 'echo y > trapped; exit 0' TERM; echo $$ > own.pid;"
            " while :; do sleep 0.05; done"
        )
        handler, job = prepared(script)
        thread = threading.Thread(target=executables.run, args=(handler, job))
        thread.start()
        wait_until(lambda: pids("own.pid") > 0, "the program runs")
        job.canceled.set()
        thread.join(30)
    finally:
        signal.signal(signal.SIGTERM, before)
    assert (tmp_path / "trapped").exists()


def test_a_program_that_ended_well_in_its_last_second_is_a_timeout() -> None:
    script = "trap 'exit 0' TERM; while :; do sleep 0.05; done"
    assert run(script, timeout=0.3).error_code == "TIMEOUT"


# What it leaves.


def test_what_a_program_leaves_running_ends_with_it(
    pids: Callable[[str], int], wait_until: WaitUntil
) -> None:
    found = run("sleep 600 & echo $! > child.pid; exit 0", timeout=30)
    assert found.status == "succeeded"
    wait_until(lambda: is_gone(pids("child.pid")), "what it left is gone")


def test_a_daemon_that_keeps_the_pipes_open_holds_nobody_up(
    pids: Callable[[str], int],
) -> None:
    script = (
        "setsid sh -c 'echo $$ > child.pid; exec yes' &"
        " while [ ! -s child.pid ]; do :; done; echo no >&2; exit 1"
    )
    found = run(script, timeout=30)
    assert (found.error_code, found.error_message) == ("UNKNOWN", "no")
    assert pids("child.pid") > 0


LEAVES = "setsid sh -c 'echo $$ > child.pid; exec sleep 600' {} &"
WAITS = " while [ ! -s child.pid ]; do sleep 0.01; done; "


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux can promise it")
@pytest.mark.parametrize("quickly", [True, False])
@pytest.mark.parametrize(
    ("script", "code"),
    [
        (LEAVES.format("") + WAITS + "exit 0", None),
        (LEAVES.format("</dev/null >/dev/null 2>&1") + WAITS + "exit 1", "UNKNOWN"),
        (LEAVES.format("") + WAITS + "kill -9 $$", "PANIC"),
        (LEAVES.format("") + WAITS + "exec sleep 600", "TIMEOUT"),
    ],
)
def test_what_a_program_leaves_in_a_session_of_its_own_ends_with_it(
    pids: Callable[[str], int],
    monkeypatch: pytest.MonkeyPatch,
    script: str,
    code: str | None,
    quickly: bool,
) -> None:
    """Also if it has run so long that process ids may have come round."""
    if not quickly:
        monkeypatch.setattr(descendants, "_BEFORE_REUSE", 0.0)
    found = run(script, timeout=1.0 if code == "TIMEOUT" else 60.0)
    assert found.error_code == code
    assert is_gone(pids("child.pid"))


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux can promise it")
def test_what_is_not_the_program_s_own_goes_on(pids: Callable[[str], int]) -> None:
    """Another program's session, and one that was given another environment."""
    other = subprocess.Popen(
        ["sleep", "600"],
        env={**os.environ, "PGFLOW_CONTROL_FILE": "/pgflow-other/control"},
        start_new_session=True,
    )
    try:
        script = "env -u PGFLOW_CONTROL_FILE " + LEAVES.format("") + WAITS + "exit 0"
        assert run(script).status == "succeeded"
        assert not is_gone(pids("child.pid"))
        assert other.poll() is None
    finally:
        other.kill()
        other.wait()


def test_descriptors_are_not_leaked() -> None:
    run("exit 0")
    before = psutil.Process().num_fds()
    for script in ("exit 0", "exit 1", "kill -9 $$", "exec 0<&- 1>&- 2>&-"):
        run(script, "x" * HUGE)
    assert psutil.Process().num_fds() == before


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux can promise it")
def test_a_program_dies_with_its_worker(
    pids: Callable[[str], int], wait_until: WaitUntil, tmp_path: Path
) -> None:
    code = (
        "from tests.unit.worker.test_executables import run\n"
        "run('echo $$ > own.pid; exec sleep 600')"
    )
    root = Path(__file__).parents[3]
    worker = subprocess.Popen(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": str(root), "TMPDIR": str(tmp_path)},
    )
    try:
        wait_until(lambda: pids("own.pid") > 0, "the program runs")
    finally:
        worker.kill()
        worker.wait()
    wait_until(lambda: is_gone(pids("own.pid")), "the program died with its worker")


# What cannot start (F10).


def unstartable(folder: Path, how: str) -> Path:
    """Make a file that the kernel refuses to run."""
    file = folder / "program"
    if how == "missing":
        return file
    first = {
        "no first line": "echo\n",
        "bad interpreter": "#!/nowhere/sh\n",
        "windows": "#!/bin/sh\r\n",
        "no program for env": "#!/usr/bin/env no-such-program\n",
        "empty": "",
    }.get(how, "#!/bin/sh\n")
    file.write_bytes(first.encode())
    file.chmod(0o644 if how == "not executable" else 0o755)
    return file


UNSTARTABLE = [
    "missing",
    "not executable",
    "no first line",
    "bad interpreter",
    "windows",
    "empty",
]


@pytest.mark.parametrize("how", UNSTARTABLE)
def test_a_program_that_cannot_be_started_is_a_failure(
    how: str, tmp_path: Path
) -> None:
    command = (str(unstartable(tmp_path, how)),)
    handler = Handler("try", command=command, kind="executable")
    found = executables.run(handler, handlers.prepare(handler, leased()))
    assert (found.status, found.error_code) == ("failed", "NOT_STARTED")
    assert found.delay
    assert found.error_message
    assert found.error_message.startswith(f"cannot start {command[0]}: ")


@pytest.mark.parametrize("how", [*UNSTARTABLE, "no program for env"])
def test_its_file_tells_before_it_is_started(how: str, tmp_path: Path) -> None:
    file = unstartable(tmp_path, how)
    assert str(file) in (executables.fault_of([str(file)]) or "")


def test_nothing_is_said_of_what_can_be_started(tmp_path: Path) -> None:
    script = unstartable(tmp_path, "good")
    env = tmp_path / "env"
    env.write_text("#!/usr/bin/env -S sh -e\n")
    env.chmod(0o755)
    for program in (sys.executable, "sh", str(script), str(env)):
        assert executables.fault_of([program]) is None


def test_an_environment_that_is_too_large_is_a_failure() -> None:
    found = executables.run(*prepared("exit 0"), {"LARGE": "x" * HUGE})
    assert (found.status, found.error_code) == ("failed", "NOT_STARTED")


@pytest.mark.parametrize(
    ("number", "ends"),
    [
        (errno.EAGAIN, "released"),
        (errno.ENOMEM, "released"),
        (errno.EMFILE, "released"),
        (errno.ETXTBSY, "failed"),
        (errno.EPERM, "failed"),
    ],
)
def test_a_shortage_of_the_host_is_no_fault_of_the_job_and_ends_some_time(
    number: int, ends: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(processes, "_start", refuse)
    delays = []
    for spared in range(executables.MOST_SPARED):
        found = run("exit 0", attempt_no=spared + 1)
        assert found.status == ends
        delays.append(found.delay or 0.0)
    if ends == "released":
        assert delays[-1] > 100
        assert 1 < delays[0] < 3
        last = run("exit 0", attempt_no=executables.MOST_SPARED + 1)
        assert (last.status, last.error_code) == ("failed", "NOT_STARTED")


EXHAUSTED = """
import os, resource
from tests.unit.worker.test_executables import run
print(run("exit 0").status)
resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
taken = []
try:
    while True:
        taken.append(os.open("/dev/null", os.O_RDONLY))
except OSError:
    pass
seen = set()
while taken:
    outcome = run("exit 0")
    seen.add(outcome.status)
    if outcome.status == "released":
        assert "Too many open files" in outcome.error_message, outcome
    os.close(taken.pop())
print(" ".join(sorted(seen)))
print(run("exit 0").status)
"""


def test_too_few_descriptors_charge_nobody_and_pass() -> None:
    root = Path(__file__).parents[3]
    found = subprocess.run(
        [sys.executable, "-c", EXHAUSTED],
        env={**os.environ, "PYTHONPATH": str(root)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert found.stderr == ""
    # At no number of descriptors in between is a job charged.
    assert found.stdout.split("\n") == [
        "succeeded",
        "released succeeded",
        "succeeded",
        "",
    ]


def test_a_limit_on_processes_charges_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: object, **options: object) -> None:
        raise BlockingIOError(11, "Resource temporarily unavailable")

    monkeypatch.setattr(subprocess, "Popen", refuse)
    found = run("exit 0")
    assert (found.status, found.error_message) == (
        "released",
        "cannot start /bin/sh: Resource temporarily unavailable",
    )


def test_many_programs_side_by_side() -> None:
    found: list[str] = []
    threads = [
        threading.Thread(
            target=lambda: found.append(run("cat >/dev/null", "x" * 100_000).status)
        )
        for _ in range(12)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert found == ["succeeded"] * 12
