"""Faults, each a function with a name. What it chooses, it chooses by its seed.

A fault lasts until its function returns: then everything is as before, and what is
lost has to be got back.
"""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import psycopg

from tests.trials.proxy import Proxy
from tests.trials.rig import QUEUES, ROLE, Rig, Supervisor

Action = Callable[["Stage", random.Random], None]


def pids_cgroup() -> Path | None:
    """Return the folder where control groups bound processes, if it may be used."""
    for folder in (Path("/sys/fs/cgroup/pids"), Path("/sys/fs/cgroup")):
        if (folder / "cgroup.procs").exists() and os.access(folder, os.W_OK):
            controllers = folder / "cgroup.subtree_control"
            if not controllers.exists() or "pids" in controllers.read_text():
                return folder
    return None


@dataclass
class Stage:
    """What faults act upon: a rig, and what stands around it.

    `proxy` stands before one supervisor; `clock` is the file by which libfaketime moves
    the clock of one, or of the server; `disk` is a file system of the server's own;
    `fail_over` moves everything to a standby; with `restores`, dumps may be restored.
    """

    rig: Rig
    proxy: Proxy | None = None
    clock: Path | None = None
    disk: Path | None = None
    clock_of_server: bool = False
    fail_over: Callable[[], None] | None = None
    restores: bool | None = None
    cgroup: Path | None = field(default_factory=pids_cgroup)

    def supervisor(self, chance: random.Random) -> Supervisor:
        """Choose a supervisor."""
        supervisors = self.rig.supervisors
        return supervisors[chance.choice(sorted(supervisors))]

    def past_the_lease(self, chance: random.Random) -> float:
        """Choose how long something stands still, so that its lease runs out."""
        return self.rig.lease * chance.uniform(1.2, 2.0)

    def backends(self) -> list[int]:
        """Return the server processes of workers and producers."""
        rows = self.rig.sql(
            "select pid from pg_stat_activity where usename = %s order by pid", ROLE
        )
        return [int(row[0]) for row in rows]

    def terminate(self) -> None:
        """End every session of workers and producers."""
        self.rig.sql(
            "select pg_terminate_backend(pid) from pg_stat_activity where usename = %s",
            ROLE,
        )


@dataclass(frozen=True)
class Fault:
    """A fault, and what the stage must have for it."""

    name: str
    group: str
    act: Action
    needs: str | None = None

    def fits(self, stage: Stage) -> bool:
        """Return whether the stage has what it needs."""
        return self.needs is None or getattr(stage, self.needs) is not None


FAULTS: dict[str, Fault] = {}


def fault(
    name: str, group: str, *, needs: str | None = None
) -> Callable[[Action], Action]:
    """Register a function as a fault."""

    def register(act: Action) -> Action:
        FAULTS[name] = Fault(name, group, act, needs)
        return act

    return register


# Processes: killed, standing still, asked to end.


@fault("child killed", "processes")
def kill_child(stage: Stage, chance: random.Random) -> None:
    kill_child_of(stage.supervisor(chance), chance)


@fault("supervisor killed", "processes")
def kill_supervisor(stage: Stage, chance: random.Random) -> None:
    supervisor = stage.supervisor(chance)
    children = supervisor.children()
    supervisor.signal(signal.SIGKILL)
    supervisor.restart()
    # They end with it, by themselves.
    _, alive = psutil.wait_procs(children, timeout=10)
    stage.rig.unexpected += [f"{child} outlives its supervisor" for child in alive]


@fault("tree killed", "processes")
def kill_tree(stage: Stage, chance: random.Random) -> None:
    supervisor = stage.supervisor(chance)
    supervisor.signal(signal.SIGKILL, tree=True)
    supervisor.restart()


@fault("child stopped past its lease", "processes")
def stop_child(stage: Stage, chance: random.Random) -> None:
    if children := stage.supervisor(chance).children():
        child = chance.choice(children)
        _signal(child, signal.SIGSTOP)
        time.sleep(stage.past_the_lease(chance))
        _signal(child, signal.SIGCONT)


@fault("supervisor stopped past its lease", "processes")
def stop_supervisor(stage: Stage, chance: random.Random) -> None:
    supervisor = stage.supervisor(chance)
    supervisor.signal(signal.SIGSTOP)
    time.sleep(stage.past_the_lease(chance))
    supervisor.signal(signal.SIGCONT)


@fault("tree stopped past its lease", "processes")
def stop_tree(stage: Stage, chance: random.Random) -> None:
    supervisor = stage.supervisor(chance)
    supervisor.signal(signal.SIGSTOP, tree=True)
    time.sleep(stage.past_the_lease(chance))
    supervisor.signal(signal.SIGCONT, tree=True)


@fault("supervisor asked to end", "processes")
def end_supervisor(stage: Stage, chance: random.Random) -> None:
    supervisor = stage.supervisor(chance)
    supervisor.signal(signal.SIGTERM)
    stage.rig.expect_end(supervisor)
    supervisor.restart()


@fault("process dies after its job", "processes")
def die_after(stage: Stage, chance: random.Random) -> None:
    stage.rig.enqueue("dies_after", chance.choice(QUEUES))


# What a process needs of its host.


@fault("forks fail", "host", needs="cgroup")
def fail_forks(stage: Stage, chance: random.Random) -> None:
    """Let a supervisor have no more processes while a child of its dies.

    By a control group, because a limit of the process does not bind root.
    """
    assert stage.cgroup is not None
    supervisor = stage.supervisor(chance)
    group = stage.cgroup / f"pgflow-trial-{os.getpid()}"
    group.mkdir()
    try:
        (group / "pids.max").write_text("1")
        (group / "cgroup.procs").write_text(str(supervisor.pid))
        kill_child_of(supervisor, chance)
        time.sleep(stage.rig.lease)
        (stage.cgroup / "cgroup.procs").write_text(str(supervisor.pid))
    finally:
        group.rmdir()


@fault("descriptors run out", "host")
def run_out_of_descriptors(stage: Stage, chance: random.Random) -> None:
    supervisor = stage.supervisor(chance)
    used = len(os.listdir(f"/proc/{supervisor.pid}/fd"))
    before = supervisor.limit_descriptors(used + 3)
    kill_child_of(supervisor, chance)
    time.sleep(stage.rig.lease)
    supervisor.limit_descriptors(before)


@fault("log is not read", "host")
def leave_log_unread(stage: Stage, chance: random.Random) -> None:
    supervisor = stage.supervisor(chance)
    supervisor.reading.clear()
    time.sleep(stage.past_the_lease(chance))
    supervisor.reading.set()


@fault("clock steps", "host", needs="clock")
def step_clock(stage: Stage, chance: random.Random) -> None:
    assert stage.clock is not None
    # Far ahead, the server prunes what it takes for old: nothing to recover from.
    far = "5d" if stage.clock_of_server else "400d"
    stage.clock.write_text(chance.choice(["+1h", "-1h", f"+{far}", f"-{far}"]))
    time.sleep(chance.uniform(1, stage.rig.lease))
    stage.clock.write_text("+0")
    if stage.clock_of_server:
        # As RUNBOOK says: what was to be tried again by the other clock waits for it.
        late = stage.rig.sql(
            "select job_id::text from pgflow.pending"
            " where run_at > now() + interval '10 minutes'"
        )
        if late:
            stage.rig.pgflow("jobs", "run-now", *(row[0] for row in late), "--yes")


# The database: gone, too busy, short of something.


@fault("server killed", "database")
def kill_server(stage: Stage, chance: random.Random) -> None:
    stage.rig.server.kill()
    stage.rig.server.start()


@fault("server stopped at once", "database")
def stop_server_at_once(stage: Stage, chance: random.Random) -> None:
    stage.rig.server.stop("immediate")
    time.sleep(chance.uniform(0, stage.rig.lease))
    stage.rig.server.start()


@fault("server restarted", "database")
def restart_server(stage: Stage, chance: random.Random) -> None:
    stage.rig.server.stop("fast")
    stage.rig.server.start()


@fault("sessions terminated", "database")
def terminate_sessions(stage: Stage, chance: random.Random) -> None:
    for _ in range(chance.randint(1, 4)):
        stage.terminate()
        time.sleep(chance.uniform(0, 0.3))


@fault("statements canceled", "database")
def cancel_statements(stage: Stage, chance: random.Random) -> None:
    for _ in range(10):
        stage.rig.sql(
            "select pg_cancel_backend(pid) from pg_stat_activity where usename = %s",
            ROLE,
        )
        time.sleep(0.02)


@fault("session stands still", "database")
def stop_session(stage: Stage, chance: random.Random) -> None:
    if backends := stage.backends():
        backend = psutil.Process(chance.choice(backends))
        _signal(backend, signal.SIGSTOP)
        time.sleep(stage.past_the_lease(chance))
        _signal(backend, signal.SIGCONT)


@fault("connections run out", "database")
def run_out_of_connections(stage: Stage, chance: random.Random) -> None:
    stage.terminate()
    with ExitStack() as held:
        deadline = time.monotonic() + stage.rig.lease
        while time.monotonic() < deadline:
            try:
                held.enter_context(psycopg.connect(stage.rig.url, connect_timeout=2))
            except psycopg.OperationalError:
                time.sleep(0.05)


@fault("table locked", "database")
def lock_table(stage: Stage, chance: random.Random) -> None:
    table = chance.choice(["leases", "pending", "job_attempts", "workers", "jobs"])
    with psycopg.connect(stage.rig.server.url) as connection:
        # As a change of the schema does, and for longer than it should.
        connection.execute(f"lock table pgflow.{table} in access exclusive mode")
        time.sleep(chance.uniform(0.5, stage.rig.lease * 1.5))
        connection.rollback()


@fault("failover to the standby", "database", needs="fail_over")
def fail_over(stage: Stage, chance: random.Random) -> None:
    assert stage.fail_over is not None
    stage.fail_over()


@fault("disk full", "database", needs="disk")
def fill_disk(stage: Stage, chance: random.Random) -> None:
    assert stage.disk is not None
    ballast = stage.disk / "ballast"
    with ballast.open("wb", buffering=0) as file, suppress(OSError):
        while True:
            file.write(bytes(1 << 20))
    time.sleep(chance.uniform(1, stage.rig.lease))
    ballast.unlink()
    # Without room for its log the server ends itself.
    with suppress(Exception):
        stage.rig.server.start()


# Roles and settings, changed while everything runs.


@fault("role may not log in", "settings")
def forbid_login(stage: Stage, chance: random.Random) -> None:
    stage.rig.sql(f"alter role {ROLE} nologin")
    stage.terminate()
    time.sleep(stage.rig.lease)
    stage.rig.sql(f"alter role {ROLE} login")
    stage.rig.tend_refused()


@fault("host rejected", "settings")
def reject_host(stage: Stage, chance: random.Random) -> None:
    file = stage.rig.server.folder / "data" / "pg_hba.conf"
    before = file.read_text()
    file.write_text(f"local all {ROLE} reject\n{before}")
    stage.rig.sql("select pg_reload_conf()")
    stage.terminate()
    time.sleep(stage.rig.lease)
    file.write_text(before)
    stage.rig.sql("select pg_reload_conf()")
    stage.rig.tend_refused()


@fault("password changed", "settings")
def change_password(stage: Stage, chance: random.Random) -> None:
    file = stage.rig.server.folder / "data" / "pg_hba.conf"
    before = file.read_text()
    stage.rig.sql(f"alter role {ROLE} password 'another'")
    file.write_text(f"local all {ROLE} scram-sha-256\n{before}")
    stage.rig.sql("select pg_reload_conf()")
    stage.terminate()
    time.sleep(stage.rig.lease)
    file.write_text(before)
    stage.rig.sql("select pg_reload_conf()")
    stage.rig.sql(f"alter role {ROLE} password null")
    stage.rig.tend_refused()


@fault("settings of the role changed", "settings")
def change_settings(stage: Stage, chance: random.Random) -> None:
    setting = chance.choice(
        [
            "default_transaction_isolation = 'serializable'",
            "default_transaction_read_only = on",
            "statement_timeout = '20ms'",
            "lock_timeout = '5ms'",
            "idle_session_timeout = '200ms'",
            "search_path = ''",
            "datestyle = 'German'",
            "timezone = 'America/St_Johns'",
            "synchronous_commit = off",
        ]
    )
    name = setting.split(" = ")[0]
    stage.rig.sql(f"alter role {ROLE} set {setting}")
    stage.terminate()
    time.sleep(stage.rig.lease)
    stage.rig.sql(f"alter role {ROLE} reset {name}")
    stage.terminate()


# The network, by a proxy before one of the supervisors.


def _proxied(name: str, act: Callable[[Proxy, float], None]) -> None:
    def on_stage(stage: Stage, chance: random.Random) -> None:
        assert stage.proxy is not None
        act(stage.proxy, stage.past_the_lease(chance))

    fault(name, "network", needs="proxy")(on_stage)


def _freeze(proxy: Proxy, seconds: float) -> None:
    proxy.frozen = True
    time.sleep(seconds)
    proxy.frozen = False


def _slow_down(proxy: Proxy, seconds: float) -> None:
    proxy.delay = 0.2
    time.sleep(seconds)
    proxy.delay = 0.0


def _drop_reply(proxy: Proxy, seconds: float) -> None:
    for _ in range(3):
        proxy.drop_next_reply = True
        time.sleep(0.3)
    proxy.drop_next_reply = False


_proxied("connections reset", lambda proxy, _: proxy.reset())
_proxied("connections cut", lambda proxy, _: proxy.cut())
_proxied("connections half closed", lambda proxy, _: proxy.half_close())
_proxied("connections silent", lambda proxy, _: proxy.silence())
_proxied("network frozen", _freeze)
_proxied("network slow", _slow_down)
_proxied("reply lost after the commit", _drop_reply)


# What operators do, while everything runs.


@fault("jobs canceled", "operators")
def cancel_jobs(stage: Stage, chance: random.Random) -> None:
    kinds = ("-t", "long", "-t", "long_async", "-t", "retried")
    queue = chance.choice(QUEUES)
    stage.rig.pgflow("jobs", "cancel", "-q", queue, *kinds, "--kill", "--yes")


@fault("queue paused", "operators")
def pause_queue(stage: Stage, chance: random.Random) -> None:
    queue = chance.choice(QUEUES)
    stage.rig.pgflow("queues", "pause", queue, "--for", "1m", "--yes")
    time.sleep(chance.uniform(0, stage.rig.lease))
    stage.rig.pgflow("queues", "resume", queue, "--yes")


@fault("dead letters replayed", "operators")
def replay(stage: Stage, chance: random.Random) -> None:
    stage.rig.pgflow("replay", "-q", chance.choice(QUEUES), "--yes", "--limit", "20")


@fault("jobs reordered", "operators")
def reorder(stage: Stage, chance: random.Random) -> None:
    waiting = stage.rig.sql(
        "select job_id::text from pgflow.pending order by job_id limit 20"
    )
    ids = [str(row[0]) for row in waiting]
    if ids:
        stage.rig.pgflow("jobs", "reprioritize", *ids, "9", "--yes")
        stage.rig.pgflow("jobs", "run-now", *ids, "--yes")


@fault("upkeep at its smallest", "operators")
def maintain(stage: Stage, chance: random.Random) -> None:
    stage.rig.pgflow(
        "maintain", "--archive-after", "1s", "--prune-after", "30d", "--lock-wait", "9s"
    )


@fault("fence raised and accepted", "operators")
def raise_fence(stage: Stage, chance: random.Random) -> None:
    fate = chance.choice(["requeue", "dlq", "cancel"])
    stage.rig.pgflow("fence", "raise", "--yes")
    time.sleep(chance.uniform(0, 1))
    # Refused as long as it cannot be known which workers live.
    words = ("fence", "accept", "--interrupted", fate, "--no-pause")
    stage.rig.wait(
        lambda: stage.rig.pgflow(*words, "--confirm", "postgres").returncode == 0,
        "fence accept",
    )


@fault("backup taken", "operators")
def back_up(stage: Stage, chance: random.Random) -> None:
    file = stage.rig.folder / "backup.dump"
    file.unlink(missing_ok=True)
    # Restored into a database of its own, and compared, every other time.
    verify = chance.choice(["list", "restore"])
    stage.rig.pgflow("backup", str(file), "--verify", verify, may_end=[0])


def _signal(process: psutil.Process, number: int) -> None:
    with suppress(psutil.NoSuchProcess):
        process.send_signal(number)


def kill_child_of(supervisor: Supervisor, chance: random.Random) -> None:
    """Kill one of a supervisor's processes."""
    if children := supervisor.children():
        _signal(chance.choice(children), signal.SIGKILL)
