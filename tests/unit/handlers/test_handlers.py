"""Handlers: what can be declared, what a job offers, how it runs without a database."""

from __future__ import annotations

import asyncio
import contextvars
import functools
import json
import logging
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pgflow_cli import handlers
from pgflow_cli.errors import ConfigurationError, UsageError
from pgflow_cli.handlers import (
    App,
    Fail,
    Handler,
    Hooks,
    Job,
    JobFields,
    Outcome,
    Retry,
    Snooze,
)
from tests.support.leased_jobs import leased


def nothing(job: Job) -> None:
    """Do nothing."""


async def nothing_async(job: Job) -> None:
    """Do nothing, too."""


# Declaring.


def test_a_declared_function_stays_what_it_was() -> None:
    app = App()
    assert app.handler("try", queue="emails", timeout="20s", concurrency=10)(
        nothing
    ) is (nothing)
    handler = app.handlers["try"]
    assert (handler.job_type, handler.kind, handler.queue) == (
        "try",
        "thread",
        "emails",
    )
    assert (handler.timeout, handler.concurrency) == (20.0, 10)
    assert handler.source == "tests.unit.handlers.test_handlers:nothing"


def test_the_defaults_are_those_of_the_contract() -> None:
    app = App()
    app.handler("try")(nothing)
    handler = app.handlers["try"]
    assert (handler.timeout, handler.concurrency, handler.max_attempts) == (
        60,
        None,
        None,
    )
    assert (handler.queue, handler.backoff, dict(handler.errors)) == (None, None, {})


class Callable_:  # noqa: N801 - no other name for it
    async def __call__(self, job: Job) -> None: ...


@pytest.mark.parametrize(
    ("function", "kind"),
    [
        (nothing, "thread"),
        (nothing_async, "async"),
        (functools.partial(nothing_async), "async"),
        (Callable_(), "async"),
        (lambda job: None, "thread"),
    ],
)
def test_async_functions_are_detected(function: Any, kind: str) -> None:
    app = App()
    app.handler("try")(function)
    assert app.handlers["try"].kind == kind
    assert app.run("try").status == "succeeded"


def _yields(job: Job) -> Iterator[int]:
    yield 1


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"type": "a b"}, "'a b' of .*:nothing: job_type must be 1 to 128 letters"),
        ({"type": ""}, "job_type is missing"),
        ({"type": "a" * 129}, "job_type must be"),
        ({"type": "a\n"}, "job_type must be"),
        ({"queue": "a:b"}, "'a:b' of .*:nothing: queue must be 1 to 63 letters"),
        ({"queue": "a" * 64}, "queue must be"),
        ({"timeout": 0}, "timeout 0 of try must be seconds"),
        ({"timeout": "soon"}, "timeout 'soon' of try must be seconds"),
        ({"timeout": "31d"}, "timeout '31d' of try must be seconds"),
        ({"concurrency": 0}, "concurrency of try must be between 1 and 10,000"),
        ({"concurrency": True}, "concurrency of try must be between 1 and 10,000"),
        ({"max_attempts": 10_001}, "max_attempts of try must be between 1 and 10,000"),
        ({"run": "process"}, "run='process' of try is not available"),
        ({"run": "async"}, "run='async' of try is not available"),
        ({"errors": {"ValueError": "X"}}, "'ValueError' is no exception class"),
        ({"errors": {ValueError: "x"}}, "'x' is no error code"),
        ({"function": _yields}, "the handler of try yields"),
        ({"function": nothing_async, "run": "thread"}, "cannot run in a thread"),
        ({"function": lambda: None}, r"takes \(job\) or \(job, payload\)"),
        ({"function": lambda a, b, c: None}, r"takes \(job\) or \(job, payload\)"),
        ({"function": lambda job, *, x: None}, r"takes \(job\) or \(job, payload\)"),
    ],
)
def test_a_declaration_that_cannot_work_is_refused(
    options: dict[str, Any], words: str
) -> None:
    function = options.pop("function", nothing)
    with pytest.raises(ConfigurationError, match=words) as raised:
        App().handler(options.pop("type", "try"), **options)(function)
    assert raised.value.exit_code == 78


def test_a_type_declared_twice_is_refused_and_both_places_are_named() -> None:
    app = App()
    app.handler("try")(nothing)
    with pytest.raises(
        ConfigurationError,
        match=r"try is declared twice: by .*:nothing and by .*_async",
    ):
        app.handler("try")(nothing_async)


@pytest.mark.parametrize("code", ["lower", "", "A" * 65, "TIMEOUT", "1"])
def test_an_error_code_that_cannot_be_one_s_own_is_refused(code: str) -> None:
    with pytest.raises(ConfigurationError):
        App().error_code(code)


def test_applications_can_be_put_together() -> None:
    one, other, whole = App(), App(), App()
    one.handler("a", queue="q")(nothing)
    other.handler("b", errors={ValueError: "DECLINED"})(_raises(ValueError()))
    other.error_code("DECLINED", retry=False)
    one.error_code("DECLINED", retry=False)
    whole.include(one)
    whole.include(other)
    assert set(whole.handlers) == {"a", "b"}
    assert whole.run("b").dlq_reason_code == "NON_RETRYABLE"
    assert whole.handlers["b"].siblings["a"].queue == "q"


def test_two_meanings_of_one_error_code_are_refused() -> None:
    one, other = App(), App()
    one.error_code("DECLINED", retry=False)
    other.error_code("DECLINED", retry=True)
    with pytest.raises(ConfigurationError, match="DECLINED is declared twice"):
        one.include(other)


def _raises(error: BaseException) -> Any:
    def handler(job: Job) -> None:
        raise error

    return handler


# Running without a database.


def test_the_example_of_the_contract() -> None:
    app = App()

    @app.handler("email_send", queue="emails", timeout="20s", concurrency=10)
    def email_send(job: Job) -> None:
        if "to" not in job.payload:
            raise Fail(code="BAD_PAYLOAD", message="missing 'to'")
        if job.attempt_no == 1:
            raise Retry(after="5m", code="RATE_LIMIT")

    assert app.run("email_send", {}, attempt_no=1).error_code == "BAD_PAYLOAD"
    assert app.run("email_send", {"to": "x"}, attempt_no=1).delay == 300
    assert app.run("email_send", {"to": "x"}, attempt_no=2) == Outcome("succeeded")


def test_a_type_without_handler_cannot_be_run() -> None:
    app = App()
    app.handler("try")(nothing)
    with pytest.raises(UsageError, match="no function handles 'other'; there are: try"):
        app.run("other")


@pytest.mark.parametrize("result", [0, False, "x", [1], object(), Exception("no")])
def test_what_a_handler_returns_is_ignored(result: object) -> None:
    app = App()
    app.handler("try")(lambda job: result)
    assert app.run("try") == Outcome("succeeded")


def test_a_signal_that_is_returned_counts_as_raised() -> None:
    app = App()
    app.handler("try")(lambda job: Snooze(3))
    assert app.run("try") == Outcome("snoozed", delay=3.0)


def _later(_: int, job: Job) -> Any:
    return nothing_async(job)


def test_a_coroutine_nobody_awaits_is_no_success() -> None:
    app = App()
    app.handler("try")(functools.partial(_later, 0))
    found = app.run("try")
    assert found.status == "failed"
    assert found.error_message is not None
    assert "declare it with async def" in found.error_message


def _dive(depth: int = 0) -> int:
    return _dive(depth + 1)


def test_endless_recursion_fails_one_job_and_no_more() -> None:
    app = App()
    app.handler("deep")(lambda job: _dive())
    app.handler("try")(nothing)
    assert app.run("deep").error_code == "UNKNOWN"
    assert app.run("try").status == "succeeded"


@pytest.mark.parametrize(
    "payload",
    [
        "[" * 100_000 + "]" * 100_000,
        "1" + "0" * 5_000,
        "[1,",
        "NaN",
        '{"a": Infinity}',
        "",
    ],
)
def test_a_payload_python_cannot_hold_is_that_job_s_own_dead_letter(
    payload: str,
) -> None:
    handler = Handler("try", nothing)
    job = leased(payload=payload)
    with pytest.raises(handlers.PayloadError) as raised:
        handlers.prepare(handler, job)
    found = handlers.conclude(handler, job, raised.value)
    assert (found.error_code, found.dlq_reason_code) == ("BAD_PAYLOAD", "NON_RETRYABLE")


def test_a_payload_nested_deeper_than_its_type_can_follow_is_bad() -> None:
    from tests.unit.handlers.test_payload_types import Tree  # noqa: PLC0415 - only here

    def handler(job: Job, payload: Tree) -> None: ...

    app = App()
    app.handler("try")(handler)
    deep = '{"name":"x","children":[' * 300 + "]}" * 300
    with pytest.raises(handlers.PayloadError, match="nested too deeply"):
        handlers.prepare(app.handlers["try"], leased(payload=deep))


def test_context_variables_do_not_reach_the_next_job() -> None:
    variable = contextvars.ContextVar("variable", default="unset")
    app = App()
    seen = []

    @app.handler("try")
    def handler(job: Job) -> None:
        seen.append(variable.get())
        variable.set("set")

    app.run("try")
    app.run("try")
    assert seen == ["unset", "unset"]


# The job.


def test_a_job_has_what_its_row_has() -> None:
    job = handlers.prepare(
        Handler("email_send", nothing),
        leased(
            {"to": "x"},
            job_type="email_send",
            queue="emails",
            attempt_no=5,
            failed_attempts=2,
            max_attempts=7,
            meta='{"tenant": "a"}',
            replay_of_job_id="019ab3c2-0000-7c11-8a2b-9f0e9c41ffff",
        ),
        timeout=12.5,
    )
    assert (job.type, job.queue, job.payload) == ("email_send", "emails", {"to": "x"})
    assert (job.attempt_no, job.failed_attempts, job.max_attempts) == (5, 2, 7)
    assert job.id == "019ab3c2-7d0e-7c11-8a2b-9f0e9c41e07b"
    assert job.replay_of == "019ab3c2-0000-7c11-8a2b-9f0e9c41ffff"
    assert (job.meta, job.timeout) == ({"tenant": "a"}, 12.5)
    assert job.run_at == datetime(2026, 11, 23, 15, 20, 41, 123456, tzinfo=UTC)
    assert not job.canceled.is_set()
    left = job.deadline - datetime.now(UTC)
    assert timedelta() < left <= timedelta(seconds=12.5)


def test_progress_goes_to_the_worker() -> None:
    told: list[tuple[float, float]] = []
    hooks = Hooks(report_progress=lambda n, total: told.append((n, total)))
    job = handlers.prepare(Handler("try", nothing), leased(), hooks)
    job.progress(1, 3)
    job.progress(2, 3)
    assert told == [(1.0, 3.0), (2.0, 3.0)]
    assert job.progress_made == (2.0, 3.0)


def _enqueues(job: Job) -> None:
    job.enqueue("b", {"n": 1}, priority=3)
    job.enqueue("c", run_at=datetime(2026, 11, 24, tzinfo=UTC), meta={"k": "v"})
    if job.payload.get("fail"):
        raise ValueError


def test_followers_go_with_the_success() -> None:
    app = App()
    app.handler("a")(_enqueues)
    app.handler("b", queue="emails", max_attempts=3)(nothing)
    assert app.run("a").followers == (
        {
            "job_type": "b",
            "payload_json": {"n": 1},
            "queue": "emails",
            "priority": 3,
            "max_attempts": 3,
        },
        {
            "job_type": "c",
            "payload_json": {},
            "run_at": "2026-11-24T00:00:00+00:00",
            "meta": {"k": "v"},
        },
    )


def test_a_failure_enqueues_nothing() -> None:
    app = App()
    app.handler("a")(_enqueues)
    assert app.run("a", {"fail": True}).followers == ()


def test_now_enqueues_at_once() -> None:
    written: list[dict[str, object]] = []

    def write(bodies: list[dict[str, object]]) -> list[str]:
        written.extend(bodies)
        return ["id-1"]

    handler = Handler("a", nothing)
    job = handlers.prepare(handler, leased(), Hooks(enqueue_now=write))
    assert job.enqueue("b", [1], now=True) == "id-1"
    assert written == [{"job_type": "b", "payload_json": [1]}]
    assert job.followers == ()


@pytest.mark.parametrize(
    ("job_type", "options"),
    [
        ("b", {"payload": {1, 2}}),
        ("b", {"payload": float("nan")}),
        ("b", {"payload": "a\x00b"}),
        ("b", {"payload": "\ud800"}),
        ("b", {"payload": 10**400}),
        ("a b", {}),
        ("b", {"queue": "a:b"}),
        ("b", {"priority": 101}),
        ("b", {"run_at": datetime(2026, 11, 24)}),  # no zone
        ("b", {"job_timeout": "soon"}),
        ("b", {"job_timeout": "31d"}),
        ("b", {"meta": {"x": object()}}),
    ],
)
def test_a_follower_the_gate_refuses_fails_where_it_is_made(
    job_type: str, options: dict[str, Any]
) -> None:
    job = handlers.prepare(Handler("a", nothing), leased())
    with pytest.raises(UsageError):
        job.enqueue(job_type, **options)
    assert job.followers == ()


def test_a_follower_is_a_copy() -> None:
    job = handlers.prepare(Handler("a", nothing), leased())
    payload = {"lines": [(1, 2)]}
    job.enqueue("b", payload, job_timeout=1.5)
    payload["lines"].clear()
    assert job.followers == (
        {
            "job_type": "b",
            "payload_json": {"lines": [[1, 2]]},
            "job_timeout": "1500ms",
        },
    )


# The log.


@pytest.fixture
def lines(caplog: pytest.LogCaptureFixture) -> Iterator[pytest.LogCaptureFixture]:
    fields = JobFields()
    caplog.handler.addFilter(fields)
    caplog.set_level("INFO")
    yield caplog
    caplog.handler.removeFilter(fields)


def test_every_line_of_a_handler_carries_its_job(
    lines: pytest.LogCaptureFixture,
) -> None:
    app = App()

    @app.handler("try")
    def handler(job: Job) -> None:
        job.log.info("one", extra={"step": 1})
        logging.getLogger("somebody.else").info("two")

    @app.handler("try_async")
    async def handler_async(job: Job) -> None:
        await asyncio.sleep(0)
        logging.getLogger("somebody.else").info("three")

    app.run("try", attempt_no=3)
    app.run("try_async")
    logging.getLogger("outside").info("four")
    found = [
        (r.getMessage(), vars(r).get("job_type"), vars(r).get("attempt_no"))
        for r in lines.records
    ]
    assert found == [
        ("one", "try", 3),
        ("two", "try", 3),
        ("three", "try_async", 1),
        ("four", None, None),
    ]
    assert vars(lines.records[0])["step"] == 1
    assert vars(lines.records[0])["job_id"] == vars(lines.records[1])["job_id"]


def test_the_traceback_goes_to_the_log_and_not_to_the_message(
    lines: pytest.LogCaptureFixture,
) -> None:
    app = App()
    app.handler("try")(_raises(ValueError("no lines")))
    assert app.run("try").error_message == "ValueError: no lines"
    (record,) = lines.records
    assert record.exc_info is not None
    assert vars(record)["event"] == "handler_error"
    assert "Traceback" not in record.getMessage()


def test_a_signal_leaves_no_traceback(lines: pytest.LogCaptureFixture) -> None:
    app = App()
    app.handler("try")(_raises(Fail(message="no")))
    app.run("try")
    assert lines.records == []


def test_a_broken_log_handler_does_not_cost_the_outcome() -> None:
    class Broken(logging.Filter):
        def filter(self, record: logging.LogRecord) -> bool:
            raise OSError("disk full")

    app = App()
    app.handler("try")(_raises(ValueError("x")))
    broken, logger = Broken(), logging.getLogger("pgflow.jobs")
    logger.addFilter(broken)
    try:
        assert app.run("try").error_message == "ValueError: x"
    finally:
        logger.removeFilter(broken)


# Coroutines.


def prepared(function: Any, timeout: float = 60) -> tuple[Handler, Job]:
    app = App()
    app.handler("try")(function)
    handler = app.handlers["try"]
    return handler, handlers.prepare(handler, leased(), timeout=timeout)


TASK_CANCELED = ("failed", "TASK_CANCELED")


def run_async(function: Any, timeout: float = 60) -> tuple[Outcome, Job]:
    handler, job = prepared(function, timeout)
    return asyncio.run(handlers.run_async(handler, job)), job


def test_a_coroutine_is_canceled_at_its_time_limit() -> None:
    ended = []

    async def slow(job: Job) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.append(True)

    outcome, job = run_async(slow, timeout=0.02)
    assert (outcome.error_code, outcome.error_message) == (
        "TIMEOUT",
        "no result within 0.02 s",
    )
    assert ended == [True]
    assert job.canceled.is_set()


@pytest.mark.parametrize("then", ["return", "raise", "snooze"])
def test_what_a_coroutine_does_after_its_time_is_a_timeout(then: str) -> None:
    async def stubborn(job: Job) -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            if then == "raise":
                raise ValueError("late") from None
            if then == "snooze":
                raise Snooze(1) from None

    assert run_async(stubborn, timeout=0.02)[0].error_code == "TIMEOUT"


def test_a_timeout_of_the_handler_s_own_is_one_too() -> None:
    async def impatient(job: Job) -> None:
        async with asyncio.timeout(0.01):
            await asyncio.Event().wait()

    outcome, job = run_async(impatient)
    assert (outcome.error_code, outcome.error_message) == ("TIMEOUT", "TimeoutError")
    assert not job.canceled.is_set()


@pytest.mark.parametrize(
    ("is_stopped", "ends"), [(True, ("released", None)), (False, TASK_CANCELED)]
)
def test_a_canceled_coroutine_is_released_only_if_the_worker_has_asked_for_it(
    is_stopped: bool, ends: tuple[str, str | None]
) -> None:
    async def slow(job: Job) -> None:
        await asyncio.Event().wait()

    async def worker() -> Outcome:
        task = asyncio.create_task(
            handlers.run_async(*prepared(slow), is_stopped=lambda: is_stopped)
        )
        await asyncio.sleep(0)
        task.cancel()
        return await task

    outcome = asyncio.run(worker())
    assert (outcome.status, outcome.error_code) == ends


async def raises_it(job: Job) -> None:
    raise asyncio.CancelledError


async def cancels_its_task(job: Job) -> None:
    task = asyncio.current_task()
    assert task
    task.cancel()
    job.canceled.set()  # as the worker does, when it asks
    await asyncio.sleep(0)


@pytest.mark.parametrize("odd", [raises_it, cancels_its_task])
def test_a_coroutine_that_cancels_itself_has_failed(odd: Any) -> None:
    outcome = run_async(odd)[0]
    assert (outcome.status, outcome.error_code) == TASK_CANCELED
    assert outcome.delay
    assert (
        outcome.error_message
        == "the handler's task was canceled, and not by the worker"
    )


@pytest.mark.parametrize("error", [SystemExit(1), KeyboardInterrupt(), GeneratorExit()])
def test_one_coroutine_does_not_end_the_loop_of_all(error: BaseException) -> None:
    async def good(job: Job) -> None:
        await asyncio.sleep(0.01)

    async def bad(job: Job) -> None:
        await asyncio.sleep(0)
        raise error

    async def worker() -> list[Outcome]:
        jobs = (good, bad, good)
        return await asyncio.gather(*(handlers.run_async(*prepared(f)) for f in jobs))

    assert [o.status for o in asyncio.run(worker())] == [
        "succeeded",
        "failed",
        "succeeded",
    ]


def test_coroutines_side_by_side_know_their_own_job(
    lines: pytest.LogCaptureFixture,
) -> None:
    async def handler(job: Job) -> None:
        await asyncio.sleep(0)
        logging.getLogger("x").info(job.id)

    async def worker() -> None:
        app = App()
        app.handler("try")(handler)
        found = app.handlers["try"]
        pairs = [handlers.prepare(found, leased(job_id=f"job-{n}")) for n in range(5)]
        await asyncio.gather(
            *(asyncio.create_task(handlers.run_async(found, job)) for job in pairs)
        )

    asyncio.run(worker())
    assert len(lines.records) == 5
    assert all(vars(r)["job_id"] == r.getMessage() for r in lines.records)


def test_a_thread_can_wait_for_the_end_of_its_time() -> None:
    stopped = threading.Event()

    def patient(job: Job) -> None:
        if job.canceled.wait(30):
            stopped.set()

    handler, job = prepared(patient)
    thread = threading.Thread(target=handlers.run, args=(handler, job))
    thread.start()
    outcome = handlers.timed_out(handler, job)
    thread.join(30)
    assert stopped.is_set()
    assert json.dumps(outcome.error_message) == '"no result within 60 s"'


VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(min_value=-(10**400), max_value=10**400)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner) | st.dictionaries(st.text("ab\n"), inner),
    max_leaves=8,
)


@given(VALUES)
def test_a_payload_arrives_as_pythons_own_decoder_reads_it(value: Any) -> None:
    """Whichever decoder has read it: what one of them refuses the other reads."""
    text = json.dumps(value, ensure_ascii=False)
    app = App()
    app.handler("try")(nothing)
    job = handlers.prepare(app.handlers["try"], leased(payload=text))
    assert repr(job.payload) == repr(json.loads(text))


def test_a_number_beyond_a_float_arrives_as_it_did() -> None:
    app = App()
    app.handler("try")(nothing)
    job = handlers.prepare(app.handlers["try"], leased(payload='{"n": 1e400}'))
    assert job.payload == {"n": float("inf")}
