"""Scenarios: what is measured, a row and a small function each."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

import psycopg

from tests.benchmarks.peers.figures import Measure
from tests.benchmarks.peers.protocol import NOTHING, PeerFailed, Task
from tests.benchmarks.peers.rounds import BULK, Plan, Round
from tests.benchmarks.peers.starts import WrongJobs

COMMITS = 40  # a second, at a steady rate
IDLE_RATE = 37.0  # a second: no multiple of it is the interval of a poll
QUEUES = 20
PAUSE = 0.001  # seconds that an async handler awaits
CONCURRENCIES = (4, 16, 64, 256)
PAUSES = 500  # jobs for each that runs at once
SIZES = (10_000, 200_000)  # bytes of a payload
VOLUME = 40_000_000  # bytes of all payloads
CALL = 2_000_000  # bytes of the payloads of one call
PREPARED = 3.0  # seconds for a fresh database with its programs

SCENARIOS = ("single", "bulk", "drain1", "drain2", "idle", "steady", "first",
             "held", "queues", "fails", "async", "payload", "backlog")  # fmt: skip
DEFAULT = SCENARIOS[:7]
# Those where settings of a worker matter most; a queue at its defaults runs no others.
OF_DEFAULTS = ("drain1", "idle", "steady")


@dataclass(frozen=True)
class Row:
    """A scenario, or a part of one: how it is played, and what it gives.

    `seconds` is about what it takes, the cut-off included.
    """

    name: str
    play: Callable[[Round], None]
    measures: Mapping[str, Measure]
    seconds: float


def rows_of(plan: Plan) -> list[Row]:
    """What a plan measures, in the order in which it is played and shown."""
    drained = PREPARED + 2 + plan.limit
    rows = [
        _row("single", single, "enqueue, one a call", PREPARED + plan.single / 800),
        _row("bulk", bulk, f"enqueue, {BULK:,} a call", PREPARED + plan.jobs / 10_000),
        _row("drain1", drain1, "drain, 1 process, jobs first", 2 + plan.limit),
        _row("drain2", drain2, "drain, 2 processes, jobs first", drained),
        Row("idle", idle, _waits("idle", "idle pick-up"),
            PREPARED + 3 + plan.samples / IDLE_RATE),
        *(_steady_row(plan, rate) for rate in plan.rates),
        _first_row(plan),
        _row("held", held, "drain, a snapshot held", drained),
        _row("queues", queues, f"drain, {QUEUES} queues", drained),
        _row("fails", fails, "drain, each fails once", drained + plan.limit),
        *(
            _row(f"async-{count}", partial(pause, concurrency=count),
                 f"async 1 ms, concurrency {count}", drained)
            for count in CONCURRENCIES
        ),
        *(_payload_row(plan, size) for size in SIZES),
        _row("backlog", backlog, f"drain, {plan.backlog:,} behind",
             drained + min(plan.loading, plan.backlog / 10_000)),
    ]  # fmt: skip
    return [row for row in rows if scenario_of(row.name) in plan.scenarios]


def measures_of(rows: list[Row]) -> dict[str, Measure]:
    """All figures by their key, in the table's order."""
    return {key: measure for row in rows for key, measure in row.measures.items()}


def scenario_of(key: str) -> str:
    """The scenario that a row's name or a measure's key belongs to."""
    return key.partition("-")[0]


def play(played: Round, rows: list[Row], say: Callable[[str], None]) -> None:
    """Play all rows; one that fails has no figure but a note that says why."""
    peer = played.base.peer
    for row in rows:
        say(f"  {row.name}")
        name = scenario_of(row.name)
        try:
            row.play(played)
            said = peer.unlike.get(name, "")
        except (PeerFailed, WrongJobs, psycopg.Error) as error:
            said = str(error) or type(error).__name__
            played.stale()
        for key in row.measures:
            if said or key not in played.figures:
                found = [said or "not measured", played.notes.get(key, "")]
                played.notes[key] = "; ".join(filter(None, found))
    played.close()


def _row(key: str, play: Callable[[Round], None], name: str, seconds: float) -> Row:
    return Row(key, play, {key: Measure(name, "jobs/s")}, seconds)


def _waits(key: str, name: str) -> dict[str, Measure]:
    return {
        f"{key}-p50": Measure(f"{name} p50", "ms", False),
        f"{key}-p99": Measure(f"{name} p99", "ms", False),
    }


def _steady_row(plan: Plan, rate: int) -> Row:
    key, name = f"steady-{rate}", f"steady {rate:,}/s:"
    measures = {
        f"{key}-done": Measure(f"{name} started", "jobs/s"),
        **_waits(key, f"{name} wait"),
    }
    return Row(key, partial(steady, rate=rate), measures, plan.seconds + plan.limit)


def _first_row(plan: Plan) -> Row:
    measures = {"first": Measure("drain, 1 process, worker first", "jobs/s")}
    if "drain1" in plan.scenarios:
        measures["first-share"] = Measure("worker first / jobs first", "ratio")
    return Row("first", first, measures, PREPARED + plan.limit)


def _payload_row(plan: Plan, size: int) -> Row:
    key, name = f"payload-{size}", f"payloads of {size // 1000:,} kB:"
    measures = {
        f"{key}-bulk": Measure(f"{name} enqueue", "jobs/s"),
        f"{key}-drain": Measure(f"{name} drain", "jobs/s"),
    }
    seconds = PREPARED + 4 + plan.limit
    return Row(key, partial(payload, size=size), measures, seconds)


def single(played: Round) -> None:
    played.prepare()
    played.figures["single"] = played.send(played.plan.single, each=1)[1].rate
    played.stale()  # these jobs wait


def bulk(played: Round) -> None:
    played.prepare()
    # A drain that follows takes these jobs.
    played.figures["bulk"] = played.load(played.plan.jobs).rate


def drain1(played: Round) -> None:
    _drain(played, "drain1")


def drain2(played: Round) -> None:
    _drain(played, "drain2", processes=2)


def held(played: Round) -> None:
    _drain(played, "held", held=True)


def queues(played: Round) -> None:
    _drain(played, "queues", Task(queues=QUEUES))


def fails(played: Round) -> None:
    task, jobs = Task(fails=True), max(1, played.plan.jobs // 4)
    _drain(played, "fails", task, jobs=jobs, longer=2 * played.base.peer.backoff)


def pause(played: Round, *, concurrency: int) -> None:
    task, jobs = Task(pause=PAUSE), min(played.plan.jobs, PAUSES * concurrency)
    played.prepare(task, concurrency)
    played.take_rate(f"async-{concurrency}", played.drain(jobs), jobs)


def payload(played: Round, *, size: int) -> None:
    key, jobs = f"payload-{size}", min(played.plan.jobs, VOLUME // size)
    played.prepare(Task(bytes=size))
    played.figures[f"{key}-bulk"] = played.load(jobs, each=CALL // size).rate
    played.take_rate(f"{key}-drain", played.drain(jobs), jobs)


def backlog(played: Round) -> None:
    played.stale()
    played.prepare()
    wanted, jobs = played.plan.backlog, played.plan.jobs
    waiting = played.load_backlog(wanted + jobs)
    played.take_rate("backlog", played.drain_part(waiting, jobs), jobs)
    if waiting < wanted + jobs:
        played.notes["backlog"] = (
            f"only {waiting:,} jobs could be loaded in {played.plan.loading:g} s"
        )


def idle(played: Round) -> None:
    played.prepare()
    played.warm()
    played.waits("idle", played.plan.samples, each=1, rate=IDLE_RATE)


def steady(played: Round, *, rate: int) -> None:
    played.prepare()
    played.warm()
    key, each = f"steady-{rate}", max(2, rate // COMMITS)
    jobs = int(rate * played.plan.seconds)
    rows, sent = played.waits(key, jobs, each=each, rate=rate)
    done = sum(row.at <= sent.ended for row in rows)
    played.figures[f"{key}-done"] = done / (sent.ended - sent.began)


def first(played: Round) -> None:
    played.prepare()
    played.warm()
    jobs = played.plan.jobs
    number, _ = played.send(jobs, each=BULK)
    played.take_rate("first", played.finish(number, jobs), jobs)
    if jobs_first := played.figures.get("drain1"):
        played.figures["first-share"] = played.figures["first"] / jobs_first


def _drain(
    played: Round,
    key: str,
    task: Task = NOTHING,
    *,
    jobs: int | None = None,
    processes: int = 1,
    held: bool = False,
    longer: float = 0.0,
) -> None:
    jobs = jobs or played.plan.jobs
    played.prepare(task)
    rows = played.drain(jobs, processes=processes, held=held, longer=longer)
    played.take_rate(key, rows, jobs)
