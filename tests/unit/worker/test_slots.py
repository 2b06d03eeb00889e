"""Slots run what they are given, and no more at once than they may."""

from __future__ import annotations

import asyncio
import contextvars
import errno
import multiprocessing
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from pgflow_cli.handlers import CANCELED, App, Handler, Job, Outcome, outcomes
from pgflow_cli.worker.execution.run import Run
from pgflow_cli.worker.execution.slots import Slots
from pgflow_cli.worker.shared_memory import SharedMemory
from tests.support.leased_jobs import leased

LEASE = str(uuid.uuid4())
Wait = Callable[..., Any]


@pytest.fixture
def app() -> App:
    return App()


@pytest.fixture
def slots() -> Iterator[Callable[..., Slots]]:
    """Make slots whose board holds one lease that does not run out, and a place for
    each job: nothing is settled here.
    """
    made: list[Slots] = []

    def make(concurrency: int) -> Slots:
        context = multiprocessing.get_context("spawn")
        memory = SharedMemory.create(context, runs=500, leases=1)
        memory.hold(LEASE, time.monotonic() + 3600)
        made.append(Slots(concurrency, memory, lambda _: []))
        return made[-1]

    yield make
    for each in made:
        each.stop()


def runs(app: App, job_type: str, count: int, ended: list[Run]) -> list[Run]:
    job = leased(job_type=job_type, lease_id=LEASE)
    handler = app.handlers[job_type]
    now = time.monotonic()
    return [Run(job, handler, ended.append, now, handler.timeout) for _ in range(count)]


def test_every_job_is_delivered_once(
    app: App, slots: Callable[..., Slots], wait_until: Wait
) -> None:
    app.handler("quick")(lambda job: None)
    ended: list[Run] = []
    given = runs(app, "quick", 500, ended)
    slots(4).submit(given)
    wait_until(lambda: len(ended) == 500, "all are delivered")
    assert set(map(id, ended)) == set(map(id, given))
    assert {r.outcome.status for r in ended if r.outcome} == {"succeeded"}


def test_a_deadline_that_passes_while_the_process_stands_still_is_given_a_moment(
    app: App, slots: Callable[..., Slots], wait_until: Wait
) -> None:
    """Its handler may have been done in time, had the interpreter run."""
    gate, began = threading.Event(), threading.Event()

    @app.handler("gated", timeout=10.0)
    def gated(job: Job) -> None:
        began.set()
        gate.wait()

    ended: list[Run] = []
    some = slots(1)
    some.submit(runs(app, "gated", 1, ended))
    began.wait(60)
    now = time.monotonic()
    some.stop_late(now)
    some.stop_late(now + 60)
    some.stop_late(now + 60.1)
    assert ended == []
    some.stop_late(now + 61)
    assert [r.outcome.error_code for r in ended if r.outcome] == ["TIMEOUT"]
    gate.set()


def test_standstills_put_off_the_deadlines_of_jobs_that_run_beside_each_other(
    app: App, slots: Callable[..., Slots], wait_until: Wait
) -> None:
    """One of them holds the process up, lets it turn for an instant, and again. After a
    minute of that all are lost, for none can be told from the others.
    """
    gate, began = threading.Event(), list[Job]()

    @app.handler("gated", timeout=10.0)
    def gated(job: Job) -> None:
        began.append(job)
        gate.wait()

    ended: list[Run] = []
    some = slots(2)
    some.submit(runs(app, "gated", 2, ended))
    wait_until(lambda: len(began) == 2, "both run")
    now = time.monotonic()
    some.stop_late(now)
    for second in (9, 18, 27, 36, 45, 54, 63):
        some.stop_late(now + second)
        some.stop_late(now + second + 0.6)
        assert ended == []
    some.stop_late(now + 72)
    some.stop_late(now + 72.6)
    assert [r.outcome.status for r in ended if r.outcome] == ["lost", "lost"]
    gate.set()


def test_a_standstill_puts_a_deadline_off_though_what_caused_it_has_ended(
    app: App, slots: Callable[..., Slots], wait_until: Wait
) -> None:
    gates, began = [threading.Event(), threading.Event()], list[Job]()
    each = iter(gates)

    @app.handler("gated", timeout=10.0)
    def gated(job: Job) -> None:
        gate = next(each)
        began.append(job)
        gate.wait()

    ended: list[Run] = []
    some = slots(2)
    some.submit(runs(app, "gated", 2, ended))
    wait_until(lambda: len(began) == 2, "both run")
    now = time.monotonic()
    some.stop_late(now)
    gates[0].set()
    wait_until(lambda: len(ended) == 1, "one ends")
    some.stop_late(now + 20)
    some.stop_late(now + 20.6)
    assert len(ended) == 1
    gates[1].set()
    wait_until(lambda: len(ended) == 2, "so does the other")
    assert {r.outcome.status for r in ended if r.outcome} == {"succeeded"}


def test_no_more_jobs_run_at_once_than_there_are_slots(
    app: App, slots: Callable[..., Slots], wait_until: Wait
) -> None:
    gate, inside, most = threading.Event(), set[int](), []

    @app.handler("gated")
    def gated(job: Job) -> None:
        inside.add(threading.get_ident())
        most.append(len(inside))
        gate.wait()
        inside.discard(threading.get_ident())

    ended: list[Run] = []
    slots(3).submit(runs(app, "gated", 9, ended))
    wait_until(lambda: len(inside) == 3, "every slot is busy")
    gate.set()
    wait_until(lambda: len(ended) == 9, "all end")
    assert max(most) == 3


def test_a_job_that_takes_long_does_not_hold_up_those_that_only_compute(
    app: App, slots: Callable[..., Slots], wait_until: Wait
) -> None:
    gate = threading.Event()
    app.handler("quick")(lambda job: None)
    app.handler("gated")(lambda job: bool(gate.wait()) and None)
    slow: list[Run] = []
    quick: list[Run] = []
    some = slots(2)
    some.submit([*runs(app, "gated", 1, slow), *runs(app, "quick", 100, quick)])
    wait_until(lambda: len(quick) == 100, "the others end")
    assert slow == []
    gate.set()
    wait_until(lambda: len(slow) == 1, "so does the slow one")


def test_jobs_given_back_while_others_end_are_delivered_or_given_back_once(
    app: App, slots: Callable[..., Slots], wait_until: Wait
) -> None:
    """A thread that only computes takes its next job without the lock."""
    ended: list[Run] = []
    back: list[Run] = []
    some = slots(2)

    @app.handler("quick")
    def quick(job: Job) -> None:
        if len(ended) % 10 == 9:
            waited = some.give_back()
            back.extend(waited[:2])
            some.submit(waited[2:])

    given = runs(app, "quick", 100, ended)
    some.submit(given)
    wait_until(lambda: len(ended) + len(back) == 100, "none is left")
    assert back
    assert {*ended} | {*back} == {*given}


def test_a_thread_whose_job_was_abandoned_takes_no_other(
    app: App, slots: Callable[..., Slots], wait_until: Wait
) -> None:
    seen: dict[str, list[int]] = {"abandoned": [], "quick": []}
    ended: list[Run] = []
    some = slots(2)

    @app.handler("abandoned")
    def abandoned(job: Job) -> None:
        seen["abandoned"].append(threading.get_ident())
        some.release("the worker stops")

    @app.handler("quick")
    def quick(job: Job) -> None:
        seen["quick"].append(threading.get_ident())

    given = [*runs(app, "abandoned", 1, ended), *runs(app, "quick", 20, ended)]
    some.submit(given)
    wait_until(lambda: len(ended) == 21, "all are delivered")
    assert len({*ended}) == 21
    assert {r.outcome.status for r in ended if r.outcome} == {"released", "succeeded"}
    assert not {*seen["abandoned"]} & {*seen["quick"]}


def test_a_type_runs_no_more_often_at_once_than_its_limit(
    app: App, slots: Callable[..., Slots], wait_until: Wait
) -> None:
    gate, inside = threading.Event(), []

    @app.handler("limited", concurrency=1)
    def limited(job: Job) -> None:
        inside.append(1)
        gate.wait()

    ended: list[Run] = []
    some = slots(4)
    some.submit(runs(app, "limited", 3, ended))
    wait_until(lambda: inside, "one runs")
    assert some.full_types() == {"limited"}
    assert some.busy == 1
    gate.set()
    wait_until(lambda: len(ended) == 3, "one after the other")


def test_jobs_that_waited_in_vain_are_not_asked_for_again_until_one_ends(
    app: App, slots: Callable[..., Slots], wait_until: Wait
) -> None:
    gate = threading.Event()
    app.handler("gated")(lambda job: bool(gate.wait()) and None)
    ended: list[Run] = []
    some = slots(1)
    assert some.prefetch(0.1, 100) == 1
    some.submit(runs(app, "gated", 3, ended))
    wait_until(lambda: some.busy == 1, "one runs")
    assert some.give_back(waiting_since=0.0) == []
    assert len(some.give_back(waiting_since=time.monotonic())) == 2
    assert some.prefetch(0.1, 100) == 0
    gate.set()
    wait_until(lambda: len(ended) == 1, "it ends")
    assert some.prefetch(3600.0, 100) == 100


def test_slow_jobs_are_not_prefetched_and_quick_ones_are(
    app: App, slots: Callable[..., Slots], wait_until: Wait
) -> None:
    app.handler("quick")(lambda job: None)
    ended: list[Run] = []
    some = slots(2)
    some.submit(runs(app, "quick", 50, ended))
    wait_until(lambda: len(ended) == 50, "all end")
    assert some.prefetch(1e-9, 100) == 0
    assert some.prefetch(1e9, 100) == 100


def test_a_thread_that_ignores_its_timeout_is_counted_out(
    app: App, slots: Callable[..., Slots], wait_until: Wait
) -> None:
    gate = threading.Event()

    @app.handler("stuck", timeout=0.001)
    def stuck(job: Job) -> None:
        gate.wait()

    ended: list[Run] = []
    some = slots(1)
    some.submit(runs(app, "stuck", 1, ended))
    wait_until(lambda: some.busy == 1, "it runs")
    some.stop_late(time.monotonic() + 1)
    [run] = ended
    assert run.outcome is not None
    assert run.outcome.error_code == "TIMEOUT"
    assert run.job is not None
    assert run.job.canceled.is_set()
    assert some.stuck == 1
    gate.set()
    assert len(ended) == 1


def test_a_job_whose_lease_has_run_out_is_not_begun(
    app: App, slots: Callable[..., Slots], wait_until: Wait
) -> None:
    begun = []
    app.handler("quick")(begun.append)
    ended: list[Run] = []
    [run] = runs(app, "quick", 1, ended)
    run.leased = run.leased._replace(lease_id=str(uuid.uuid4()))
    slots(1).submit([run])
    wait_until(lambda: ended, "it is handed back")
    assert begun == []
    assert run.outcome is None


def test_a_canceled_job_that_waits_never_begins(
    app: App, slots: Callable[..., Slots], wait_until: Wait
) -> None:
    gate, begun = threading.Event(), []

    @app.handler("gated")
    def gated(job: Job) -> None:
        begun.append(job.id)
        gate.wait()

    ended: list[Run] = []
    first, second = runs(app, "gated", 2, ended)
    second.leased = second.leased._replace(job_id=str(uuid.uuid4()))
    some = slots(1)
    some.submit([first, second])
    wait_until(lambda: begun, "the first one runs")
    some.cancel({second.leased.job_id})
    assert ended == [second]
    assert second.outcome is CANCELED
    gate.set()
    wait_until(lambda: len(ended) == 2, "the first one ends")
    assert first.outcome is not CANCELED
    assert len(begun) == 1


@pytest.mark.parametrize("asynchronous", [False, True])
def test_a_canceled_job_that_runs_is_told_and_its_outcome_is_that(
    app: App, slots: Callable[..., Slots], wait_until: Wait, asynchronous: bool
) -> None:
    begun = threading.Event()
    if asynchronous:

        @app.handler("patient", timeout=60)
        async def waits(job: Job) -> None:
            begun.set()
            await asyncio.sleep(60)

    else:

        @app.handler("patient", timeout=60)
        def polls(job: Job) -> None:
            begun.set()
            job.canceled.wait(60)

    ended: list[Run] = []
    [run] = runs(app, "patient", 1, ended)
    some = slots(1)
    some.submit([run])
    assert begun.wait(10)
    some.cancel({run.leased.job_id})
    some.cancel({run.leased.job_id})
    wait_until(lambda: ended, "it ends")
    assert run.outcome is CANCELED
    assert some.stuck == 0


def test_a_canceled_thread_that_does_not_listen_stays_canceled_at_its_timeout(
    app: App, slots: Callable[..., Slots], wait_until: Wait
) -> None:
    gate = threading.Event()
    app.handler("deaf", timeout=0.001)(lambda job: bool(gate.wait()) and None)
    ended: list[Run] = []
    [run] = runs(app, "deaf", 1, ended)
    some = slots(1)
    some.submit([run])
    wait_until(lambda: run.job, "it runs")
    some.cancel({run.leased.job_id})
    some.stop_late(time.monotonic() + 1)
    assert ended == [run]
    assert run.outcome is CANCELED
    gate.set()


@pytest.mark.parametrize(
    "error",
    [RuntimeError("can't start new thread"), AssertionError("of a handler's mock")],
    ids=["limit", "mock"],
)
def test_jobs_that_find_no_thread_are_given_back_and_run_later(
    app: App,
    slots: Callable[..., Slots],
    monkeypatch: pytest.MonkeyPatch,
    error: Exception,
) -> None:
    def refuse(_thread: threading.Thread) -> None:
        raise error

    app.handler("quick")(lambda job: None)

    @app.handler("coroutine")
    async def coroutine(job: Job) -> None:
        """Needs the thread of the loop."""

    made, ended, done = slots(2), [], threading.Event()
    with monkeypatch.context() as limits:
        limits.setattr(threading.Thread, "start", refuse)
        made.submit(runs(app, "quick", 3, ended))
        made.submit(runs(app, "coroutine", 3, ended))
    assert made.is_short()
    back = made.give_back(waiting_since=time.monotonic())
    assert (len(back), made.busy, ended) == (6, 0, [])
    for run in back:
        run.deliver = lambda _: done.set()
    made.submit(back[:1])
    assert done.wait(60)


MARK = contextvars.ContextVar("mark", default="none")


def test_what_a_coroutine_leaves_in_its_context_does_not_reach_the_next(
    app: App, slots: Callable[..., Slots], wait_until: Wait
) -> None:
    seen: list[str] = []

    @app.handler("marks")
    async def marks(job: Job) -> None:
        seen.append(MARK.get())
        MARK.set("mine")

    ended: list[Run] = []
    slots(1).submit(runs(app, "marks", 3, ended))
    wait_until(lambda: len(ended) == 3, "all end")
    assert seen == ["none"] * 3


@pytest.mark.parametrize("others", [0, 2])
def test_what_ran_in_a_loop_that_a_handler_has_broken_is_lost_or_has_broken_it(
    app: App, slots: Callable[..., Slots], wait_until: Wait, others: int
) -> None:
    """Lost jobs run apart in the end: there, the one that does it is known."""
    broken: list[Any] = []

    def fail(*_: object) -> None:
        raise OSError(errno.EBADF, "a handler has closed it")

    @app.handler("closes")
    async def closes(job: Job) -> None:
        broken.append(asyncio.get_running_loop())
        broken[0]._selector.select = fail
        await asyncio.Event().wait()

    @app.handler("waits")
    async def waits(job: Job) -> None:
        began.append(job)
        await asyncio.Event().wait()

    ended: list[Run] = []
    began: list[Job] = []
    some = slots(3)
    some.submit(runs(app, "waits", others, ended))
    wait_until(lambda: len(began) == others, "the others run")
    some.submit(runs(app, "closes", 1, ended))
    wait_until(lambda: len(ended) == 1 + others, "all end")
    assert {(r.outcome.status, r.outcome.error_code) for r in ended if r.outcome} == (
        {("lost", "WORKER_LOST")} if others else {("failed", "UNKNOWN")}
    )
    assert some.stuck == 1 + others, "the process is replaced"
    for task in asyncio.all_tasks(broken[0]):
        task._log_destroy_pending = False  # type: ignore[attr-defined]
        task.get_coro().close()  # type: ignore[union-attr]
    type(broken[0]).close(broken[0])


def test_a_coroutine_whose_deadline_passes_while_the_process_stands_still_may_end(
    app: App, slots: Callable[..., Slots], wait_until: Wait
) -> None:
    """Its loop does not judge it: it may turn again before anything else does."""
    gate = threading.Event()

    @app.handler("brief", timeout=0.2, max_attempts=1)
    async def brief(job: Job) -> None:
        while not gate.is_set():
            await asyncio.sleep(0.01)

    ended: list[Run] = []
    some = slots(1)
    some.submit(runs(app, "brief", 1, ended))
    wait_until(some._memory.running, "it runs")
    some.stop_late(time.monotonic())
    time.sleep(1.5)  # no look for more than a second
    some.stop_late(time.monotonic())
    gate.set()
    wait_until(lambda: ended, "it ends")
    assert [r.outcome.status for r in ended if r.outcome] == ["succeeded"]


def test_the_last_loss_of_a_crash_budget_is_a_crash_loop() -> None:
    def lost(before: int) -> Outcome:
        job = leased(job_type="x")._replace(lost_attempts=before)
        return outcomes.broken_loop(Handler("x"), job, 3, alone=False)

    first, last = lost(1), lost(2)
    assert (first.dlq_reason_code, first.delay) == (None, 0.0)
    assert (last.dlq_reason_code, last.delay) == ("CRASH_LOOP", None)
    assert outcomes.told_apart(last) == "dlq"


# One coroutine that blocks the event loop of the others.


class Blockade:
    """A coroutine that blocks its loop until it is told, while another one waits that
    has a second, and then a hundred turns of the loop to make.
    """

    def __init__(self, app: App, slots: Slots) -> None:
        self.slots, self.ended = slots, list[Run]()
        self.began, self.blocks, self.gate = (threading.Event() for _ in range(3))
        self.now = time.monotonic()

        @app.handler("neighbour", timeout=1.0, max_attempts=1)
        async def neighbour(job: Job) -> None:
            gate = asyncio.Event()
            self.open = gate.set
            self.began.set()
            await gate.wait()
            for _ in range(100):
                await asyncio.sleep(0)

        self.slots.submit(runs(app, "neighbour", 1, self.ended))
        assert self.began.wait(60)

    def block(self) -> None:
        self.blocks.set()
        self.gate.wait()
        self.open()

    def pass_on(self, seconds: float) -> None:
        """Look at the deadlines, as often as a worker does, so much later."""
        self.blocks.wait(60)
        until = self.now + seconds
        while self.now < until:
            self.now += 0.05
            self.slots.stop_late(self.now)

    def end(self, wait_until: Wait) -> None:
        """Let the loop go on, and leave no coroutine in it."""
        self.gate.set()
        loop = self.slots._loop
        assert loop is not None
        wait_until(lambda: not asyncio.all_tasks(loop._loop), "all tasks end")

    def outcomes(self) -> dict[str, tuple[str, str | None]]:
        return {
            run.leased.job_type: (run.outcome.status, run.outcome.error_message)
            for run in self.ended
            if run.outcome
        }


def test_a_deadline_that_passes_while_another_job_blocks_the_loop_is_put_off(
    app: App, slots: Callable[..., Slots], wait_until: Wait
) -> None:
    blockade = Blockade(app, slots(2))

    @app.handler("blocks", timeout=60.0)
    async def blocks(job: Job) -> None:
        blockade.block()

    blockade.slots.submit(runs(app, "blocks", 1, blockade.ended))
    blockade.pass_on(30)
    assert blockade.ended == []
    [[shown]] = [[r.deadline for r in blockade.slots._memory.running()][:1]]
    assert shown > blockade.now, "its supervisor waits, too"
    time.sleep(1.5)  # the loop's own clock: the neighbour's second is over by it
    blockade.end(wait_until)
    assert blockade.outcomes() == {
        "neighbour": ("succeeded", None),
        "blocks": ("succeeded", None),
    }


def test_a_job_that_blocks_the_loop_past_its_deadline_pays_alone(
    app: App, slots: Callable[..., Slots], wait_until: Wait
) -> None:
    blockade = Blockade(app, slots(2))

    @app.handler("blocks", timeout=2.0)
    async def blocks(job: Job) -> None:
        async def child() -> None:
            blockade.block()

        await asyncio.create_task(child())

    blockade.slots.submit(runs(app, "blocks", 1, blockade.ended))
    blockade.pass_on(10)
    blockade.end(wait_until)
    assert blockade.outcomes() == {
        "blocks": (
            "failed",
            "no result within 2 s: the handler blocked the event loop that it shares"
            " with other jobs",
        ),
        "neighbour": ("released", "another job blocked the event loop"),
    }
    assert blockade.slots.stuck == 2, "the process is replaced"


def test_a_loop_that_is_blocked_by_no_job_that_runs_is_given_up(
    app: App, slots: Callable[..., Slots], wait_until: Wait
) -> None:
    blockade = Blockade(app, slots(2))

    @app.handler("leaves_behind")
    async def leaves_behind(job: Job) -> None:
        asyncio.get_running_loop().call_later(0.01, blockade.block)

    blockade.slots.submit(runs(app, "leaves_behind", 1, blockade.ended))
    blockade.pass_on(1)
    blockade.now += 3600  # the machine was paused
    blockade.pass_on(1)
    assert [*blockade.outcomes()] == ["leaves_behind"]
    blockade.pass_on(10)
    blockade.end(wait_until)
    assert blockade.outcomes() == {
        "leaves_behind": ("succeeded", None),
        "neighbour": ("released", "another job blocked the event loop"),
    }


def test_many_short_steps_of_other_jobs_put_no_deadline_off(
    app: App, slots: Callable[..., Slots], wait_until: Wait
) -> None:
    """A loop that turns slowly is not blocked: a job that waits on fails in time."""
    stopped = threading.Event()

    @app.handler("computes", timeout=600.0)
    async def computes(job: Job) -> None:
        while not stopped.is_set():
            time.sleep(0.005)
            await asyncio.sleep(0)

    @app.handler("hangs", timeout=0.5, max_attempts=1)
    async def hangs(job: Job) -> None:
        await asyncio.Event().wait()

    ended: list[Run] = []
    some = slots(30)
    some.submit(runs(app, "computes", 20, ended))
    some.submit(runs(app, "hangs", 1, ended))

    def fails() -> bool:
        some.stop_late(time.monotonic())
        time.sleep(0.05)
        return bool(ended)

    wait_until(fails, "it times out")
    stopped.set()
    assert [r.outcome.error_code for r in ended if r.outcome] == ["TIMEOUT"]
    wait_until(lambda: len(ended) == 21, "the others end")
