"""Handlers that do to their process what only a worker may do, and their neighbours.

`pgflow work --app …/selfish_handlers.py`. `gate` in a payload names a file to wait for.
"""

import asyncio
import contextlib
import ctypes
import logging
import multiprocessing
import os
import random
import resource
import signal
import subprocess
import sys
import threading
import time
import uuid
from pathlib import Path

from pgflow_cli import App

app = App()
NEIGHBOURS = []


@app.handler("quick")
def quick(job):
    pass


@app.handler("neighbour", timeout="10m", max_attempts=1)
async def neighbour(job):
    """Ends well if nothing happens to it: with a child task, too."""
    child = asyncio.create_task(gate_opens(job))
    NEIGHBOURS.extend([asyncio.current_task(), child])
    Path(job.payload["began"]).touch()
    await child


@app.handler("neighbour_thread", timeout="10m", max_attempts=1)
def neighbour_thread(job):
    Path(job.payload["began"]).touch()
    while not Path(job.payload["gate"]).exists():
        time.sleep(0.01)


async def gate_opens(job):
    while not Path(job.payload["gate"]).exists():
        await asyncio.sleep(0.01)


# What async handlers do.


@app.handler("cancels_itself", max_attempts=3, backoff=lambda _: 0.0)
async def cancels_itself(job):
    asyncio.current_task().cancel()
    job.canceled.set()
    await asyncio.sleep(0)


@app.handler("cancels_all", max_attempts=1)
async def cancels_all(job):
    tasks = asyncio.all_tasks()
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks - {asyncio.current_task()}, return_exceptions=True)
    await asyncio.sleep(0)


@app.handler("cancels_neighbours", max_attempts=1)
async def cancels_neighbours(job):
    if any([task.cancel() for task in NEIGHBOURS]):  # noqa: C419 - each of them
        raise AssertionError


@app.handler("cancels_neighbours_in_thread", max_attempts=1)
def cancels_neighbours_in_thread(job):
    for task in NEIGHBOURS:
        task.get_loop().call_soon_threadsafe(task.cancel)


@app.handler("stops_loop", max_attempts=1)
async def stops_loop(job):
    asyncio.get_running_loop().stop()


@app.handler("really_stops_loop", max_attempts=1)
async def really_stops_loop(job):
    loop = asyncio.get_running_loop()
    type(loop).stop(loop)


@app.handler("exits_in_task", max_attempts=1)
async def exits_in_task(job):
    async def child():
        sys.exit(3)

    await asyncio.create_task(child())


@app.handler("exits_in_callback", max_attempts=1)
async def exits_in_callback(job):
    asyncio.get_running_loop().call_soon(sys.exit, 3)
    await asyncio.sleep(0.01)


@app.handler("fails_in_callback", max_attempts=1)
async def fails_in_callback(job):
    asyncio.get_running_loop().call_soon(int, "no number")
    await asyncio.sleep(0.01)


@app.handler("runs_a_loop", max_attempts=1)
async def runs_a_loop(job):
    asyncio.run(asyncio.sleep(0))


@app.handler("hears_signals", max_attempts=1)
async def hears_signals(job):
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, print)


@app.handler("closes_selector", max_attempts=1)
async def closes_selector(job):
    asyncio.get_running_loop()._selector.close()


@app.handler("marks_closed", max_attempts=1)
async def marks_closed(job):
    asyncio.get_running_loop()._closed = True


@app.handler("takes_loop_away", max_attempts=1)
async def takes_loop_away(job):
    asyncio.events._set_running_loop(None)


@app.handler("stops_loop_clock", max_attempts=1)
async def stops_loop_clock(job):
    asyncio.get_running_loop().time = lambda: 0.0


@app.handler("bad_timers", max_attempts=1)
async def bad_timers(job):
    for when in ("soon", None, float("nan")):
        with contextlib.suppress(TypeError, ValueError):
            asyncio.get_running_loop().call_at(when, print)


@app.handler("breaks_loop", max_attempts=1)
async def breaks_loop(job):
    if job.attempt_no < 3:
        await others_run(job)
    asyncio.get_running_loop()._selector.select = None
    await asyncio.sleep(600)


async def others_run(job):
    """Wait until those run that share this process the first two times."""
    folder = Path(job.payload["folder"])
    while len([*folder.glob(f"*-{os.getpid()}")]) < job.payload["others"]:
        await asyncio.sleep(0.01)


@app.handler("beside_async", max_attempts=1)
async def beside_async(job):
    Path(job.payload["folder"], f"{job.id}-{os.getpid()}").touch()
    await asyncio.sleep(1)


@app.handler("holds", timeout="60s", max_attempts=1)
def holds(job):
    """Hold the interpreter, once the others run, past their deadlines."""
    while len([*Path(job.payload["folder"]).glob("*-*")]) < job.payload["others"]:
        time.sleep(0.01)
    ctypes.PyDLL(None).sleep(4)


@app.handler("naps", timeout="2s", max_attempts=1)
async def naps(job):
    Path(job.payload["folder"], f"{job.id}-{os.getpid()}").touch()
    await asyncio.sleep(1.5)


@app.handler("blocks_loop", timeout="1s", max_attempts=1)
async def blocks_loop(job):
    while len([*Path(job.payload["folder"]).glob("began-*")]) < job.payload["others"]:
        await asyncio.sleep(0.01)
    time.sleep(600)


@app.handler("waits", timeout="2s", max_attempts=1)
async def waits(job):
    Path(job.payload["began"]).touch()
    await gate_opens(job)


@app.handler("outruns", timeout="100ms", max_attempts=1)
async def outruns(job):
    await asyncio.Event().wait()


# What handlers do with threads.


@app.handler("thread_fails")
def thread_fails(job):
    def fail():
        raise ValueError("in a thread of its own")

    thread = threading.Thread(target=fail)
    thread.start()
    thread.join()


@app.handler("thread_exits")
def thread_exits(job):
    thread = threading.Thread(target=sys.exit, args=(3,))
    thread.start()
    thread.join()


@app.handler("exits", max_attempts=1)
def exits(job):
    sys.exit(3)


@app.handler("interrupts", max_attempts=1)
def interrupts(job):
    raise KeyboardInterrupt


class Clumsy:
    def __del__(self):
        raise ValueError("in a destructor")


@app.handler("destructor_fails")
def destructor_fails(job):
    Clumsy()


# What they do with processes.


@app.handler("terminates", timeout="20s", max_attempts=1)
def terminates(job):
    process = subprocess.Popen(["sleep", "600"])
    process.send_signal(getattr(signal, job.payload["signal"]))
    status = process.wait()
    if status != -getattr(signal, job.payload["signal"]):
        raise AssertionError(status)


@app.handler("reads_mask", max_attempts=1)
def reads_mask(job):
    """No signal is blocked or ignored in a program but those that were in the worker
    when it started: nohup's, for one.
    """
    text = subprocess.run(
        ["cat", "/proc/self/status"], capture_output=True, text=True, check=True
    ).stdout
    masks = dict(line.split(":\t") for line in text.splitlines() if ":\t" in line)
    found = [masks["SigBlk"], masks["SigIgn"]]
    if any(int(mask, 16) & ~job.payload["inherited"] for mask in found):
        raise AssertionError(found)


@app.handler("pools", timeout="30s", max_attempts=1)
def pools(job):
    context = multiprocessing.get_context(job.payload["how"])
    with context.Pool(2) as pool:
        if pool.map(abs, [-1, -2]) != [1, 2]:
            raise AssertionError
    pool.join()
    process = context.Process(target=time.sleep, args=(600,))
    process.start()
    process.terminate()
    process.join()
    if process.exitcode != -signal.SIGTERM:
        raise AssertionError(process.exitcode)


@app.handler("closes_standard_in_c", max_attempts=1)
def closes_standard_in_c(job):
    """Close one of 0, 1, 2, and give its number to a file at once; then stay."""
    number = job.payload["number"]
    ctypes.CDLL(None).close(number)
    if job.payload["opens"]:
        # As another job would that has opened a file just now: it may close it again.
        descriptor = os.open(__file__, os.O_RDONLY)
        os.close(descriptor)
        os.open(__file__, os.O_RDONLY)
    time.sleep(600)


@app.handler("replaces_standard")
def replaces_standard(job):
    """Redirect stdout for a while, by Python and in C, as libraries do."""
    for dup2 in (os.dup2, ctypes.CDLL(None).dup2):
        saved = os.dup(1)
        with open(os.devnull, "wb") as nothing:
            dup2(nothing.fileno(), 1)
        turns = threading.Event()
        turns.wait(0.2)
        dup2(saved, 1)
        os.close(saved)
    with open(os.devnull, "wb") as nothing:
        os.dup2(nothing.fileno(), 1, inheritable=False)
    os.set_inheritable(0, False)
    turns.wait(0.2)


# What they do to the limits of their process.


@app.handler("lowers_limits", max_attempts=1)
def lowers_limits(job):
    """Fails if each way is refused; a fork may, a program may, and so may a limit be
    raised, or lowered where no other job shares it.
    """
    kind = resource.RLIMIT_NOFILE
    soft, hard = resource.getrlimit(kind)
    resource.setrlimit(kind, (soft, hard))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if not (child := os.fork()):
        resource.setrlimit(kind, (4, hard))
        os._exit(0)
    if os.waitpid(child, 0)[1]:
        raise AssertionError
    subprocess.run(
        ["true"], preexec_fn=lambda: resource.setrlimit(kind, (64, hard)), check=True
    )
    for pid in (0, os.getpid()):
        with contextlib.suppress(RuntimeError):
            resource.prlimit(pid, kind, (4, hard))
            return
    resource.setrlimit(kind, (4, hard))


@app.handler("lowers_limits_in_c", max_attempts=1)
def lowers_limits_in_c(job):
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    limits = (ctypes.c_ulong * 2)(4, hard)
    ctypes.CDLL(None).setrlimit(resource.RLIMIT_NOFILE, limits)
    if job.payload["fails"]:
        raise ValueError("as any other job of the process would, now")
    time.sleep(600)


@app.handler("forks", max_attempts=1)
def forks(job):
    """Leave a process behind, which says what sockets it has."""
    if not os.fork():
        links = []
        for entry in os.listdir("/proc/self/fd"):
            with contextlib.suppress(OSError):
                links.append(os.readlink(f"/proc/self/fd/{entry}"))
        seen = Path(job.payload["seen"])
        seen.with_suffix(".new").write_text("\n".join(links))
        seen.with_suffix(".new").rename(seen)
        os._exit(0)


def fork_and(job, go_on):
    """Fork; the child says who it is, and goes on as it is told."""
    if not os.fork():
        Path(job.payload["seen"]).write_text(str(os.getpid()))
        go_on()


def fail():
    raise ValueError("in a fork")


@app.handler("fork_returns", max_attempts=1)
def fork_returns(job):
    fork_and(job, print)


@app.handler("fork_fails", max_attempts=1)
def fork_fails(job):
    fork_and(job, fail)


@app.handler("fork_exits", max_attempts=1)
def fork_exits(job):
    fork_and(job, sys.exit)


@app.handler("async_fork_returns", max_attempts=1)
async def async_fork_returns(job):
    fork_and(job, print)


@app.handler("async_fork_fails", max_attempts=1)
async def async_fork_fails(job):
    fork_and(job, fail)


@app.handler("async_fork_awaits", max_attempts=1)
async def async_fork_awaits(job):
    fork_and(job, print)
    await asyncio.sleep(0)


@app.handler("async_fork_in_task", max_attempts=1)
async def async_fork_in_task(job):
    async def child():
        fork_and(job, print)

    await asyncio.create_task(child())


# What they do to the user of their process.


@app.handler("changes_user", max_attempts=1)
def changes_user(job):
    """Fails if each change is refused, of its own ids, too."""
    user, group = os.getuid(), os.getgid()
    changes = {
        "setgroups": [os.getgroups()],
        "initgroups": ["nobody", group],
        "setgid": [group],
        "setresgid": [group] * 3,
        "setreuid": [user] * 2,
        "seteuid": [user],
    }
    for name, ids in changes.items():
        with contextlib.suppress(RuntimeError):
            getattr(os, name)(*ids)
            return
    os.setuid(65534)


@app.handler("changes_user_in_fork", max_attempts=1)
def changes_user_in_fork(job):
    child = os.fork()
    if not child:
        os.setgid(os.getgid())
        os.setuid(os.getuid())
        os._exit(7)
    if os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) != 7:
        raise AssertionError
    command = ["true"]
    subprocess.run(command, user=os.getuid(), check=True)
    subprocess.run(command, preexec_fn=lambda: os.setuid(os.getuid()), check=True)


# What they do to Python.


@app.handler("replaces", max_attempts=1)
def replaces(job):
    """Replace what others look up in modules, as a test's mocks do, and leave it so."""

    def broken(*_, **__):
        raise AssertionError("a job has replaced this")

    time.monotonic = time.time = lambda: 0.0
    time.monotonic_ns = time.time_ns = lambda: 0
    time.sleep = lambda _: None
    time.thread_time = broken
    os.getpid = lambda: 1
    random.uniform = random.random = random.sample = uuid.uuid4 = broken


@app.handler("replaces_again", max_attempts=1)
def replaces_again(job):
    time.monotonic = lambda: 1e12


@app.handler("sets_alarm", max_attempts=1)
def sets_alarm(job):
    signal.setitimer(signal.ITIMER_REAL, 0.001)
    while signal.getitimer(signal.ITIMER_REAL)[0]:
        pass


@app.handler("beside", max_attempts=1)
def beside(job):
    Path(job.payload["folder"], f"{job.id}-{os.getpid()}").touch()
    time.sleep(1)


@app.handler("stops_process", timeout="5s", max_attempts=1)
def stops_process(job):
    """Stop it once the others run in it; the third time there are none."""
    folder = Path(job.payload["folder"])
    others = job.payload["others"] if job.attempt_no < 3 else 0
    while len([*folder.glob(f"*-{os.getpid()}")]) < others:
        time.sleep(0.01)
    os.kill(os.getpid(), signal.SIGSTOP)
    time.sleep(600)


# What they do to the log.


class Shipper(logging.Handler):
    """Sends lines to a server that is away."""

    def __init__(self, kind):
        super().__init__()
        self.kind = kind

    def emit(self, record):
        raise self.kind("the log server is away")


class Sieve(logging.Filter):
    def filter(self, record):
        raise SystemExit(3)


@app.handler("ships_log", max_attempts=1)
def ships_log(job):
    """Install handlers that raise, and a filter, then fail, so that there are lines."""
    for kind in (ConnectionError, SystemExit):
        logging.getLogger().addHandler(Shipper(kind))
    logging.getLogger("pgflow.worker").addFilter(Sieve())
    thread = threading.Thread(target=fail)
    thread.start()
    thread.join()
    raise ValueError("a line of pgflow's own")


@app.handler("prints", max_attempts=1)
def prints(job):
    print("snow: \u2603 \udcff", flush=True)
    print("snow: \u2603 \udcff", file=sys.stderr, flush=True)


@app.handler("reads_secrets", max_attempts=1)
def reads_secrets(job):
    """A program of the same user reads what it can of its parents."""
    found = subprocess.run(
        ["sh", "-c", f"cat /proc/{os.getpid()}/environ /proc/{os.getppid()}/environ"],
        capture_output=True,
        check=False,
    )
    Path(job.payload["seen"]).write_bytes(found.stdout)
    if ctypes.CDLL(None).prctl(3, 0, 0, 0, 0) != 0:  # PR_GET_DUMPABLE
        raise AssertionError


@app.handler("closes", max_attempts=1)
def closes(job):
    os.closerange(3, 256)


@app.handler("closes_each", max_attempts=1)
def closes_each(job):
    """Close what can be closed, one by one."""
    for number in range(256):
        with contextlib.suppress(OSError):
            os.close(number)
        with contextlib.suppress(OSError):
            os.dup2(number, number)


@app.handler("closes_in_c")
def closes_in_c(job):
    libc = ctypes.CDLL(None)
    for number in range(3, 256):
        libc.close(number)
    time.sleep(60)


@app.handler("closes_in_fork", max_attempts=1)
def closes_in_fork(job):
    child = os.fork()
    if not child:
        os.closerange(3, 256)
        os._exit(7)
    if os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) != 7:
        raise AssertionError
