"""Outcomes: every ending of a handler and every error code (WORKER.md §3)."""

from __future__ import annotations

import json
import logging
import math
from dataclasses import fields
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pgflow_cli import handlers
from pgflow_cli.errors import Refused
from pgflow_cli.formats import error_text
from pgflow_cli.handlers import App, Fail, Handler, Outcome, Retry, Snooze
from tests.support.leased_jobs import leased


def ending(
    error: BaseException | type[BaseException] | None,
    *,
    max_attempts: int = 25,
    failed_attempts: int = 0,
    **options: Any,
) -> Outcome:
    """Return the outcome of a handler that ends with `error`."""
    app = App()
    app.error_code("CARD_DECLINED", retry=False, action="Ask for another card.")
    app.error_code("WAREHOUSE_BUSY")

    @app.handler("try", **options)
    def handler(job: Any) -> None:
        if error is not None:
            raise error

    return app.run(
        "try",
        attempt_no=failed_attempts + 1,
        failed_attempts=failed_attempts,
        max_attempts=max_attempts,
    )


class DatabaseError(Exception):
    def __init__(self, sqlstate: str) -> None:
        self.sqlstate = sqlstate


class WrappedError(Exception):
    def __init__(self, orig: Exception) -> None:
        self.orig = orig


class HttpError(Exception):
    def __init__(self, code: int) -> None:
        self.code = code


# How an attempt ends.


def test_a_handler_that_returns_has_succeeded() -> None:
    assert ending(None) == Outcome("succeeded")


def test_retry_runs_again_after_its_delay() -> None:
    found = ending(Retry(after="5m", code="RATE_LIMIT", message="later"))
    assert (found.status, found.delay, found.dlq_reason_code) == ("failed", 300, None)
    assert (found.error_code, found.error_message) == ("RATE_LIMIT", "later")


def test_retry_without_a_delay_asks_the_back_off() -> None:
    found = ending(Retry(), failed_attempts=3)
    assert found.delay is not None
    assert 16 * 0.8 <= found.delay <= 16 * 1.2
    assert found.error_code == "RATE_LIMIT"


def test_the_last_retry_is_a_dead_letter() -> None:
    found = ending(Retry(after=5), max_attempts=3, failed_attempts=2)
    assert found.dlq_reason_code == "MAX_ATTEMPTS_EXCEEDED"
    assert found.delay is None


def test_retry_insists_whatever_the_class_of_its_code() -> None:
    assert ending(Retry(after=1, code="BAD_PAYLOAD")).delay == 1


def test_snooze_is_not_a_failure() -> None:
    found = ending(Snooze("30s"), max_attempts=1)
    assert found == Outcome("snoozed", delay=30)


def test_fail_is_a_dead_letter_at_once() -> None:
    found = ending(Fail(code="TIMEOUT", message="no use"))
    assert (found.status, found.delay) == ("failed", None)
    assert (found.error_code, found.dlq_reason_code) == ("TIMEOUT", "NON_RETRYABLE")


def test_fail_without_code_is_non_retryable() -> None:
    found = ending(Fail(message="gave up"))
    assert (found.error_code, found.error_message) == ("NON_RETRYABLE", "gave up")


def test_a_signal_without_words_is_explained_by_its_cause() -> None:
    cause = ConnectionRefusedError("port 25")
    error = Retry(after=1)
    error.__cause__ = cause
    assert ending(error).error_message == "ConnectionRefusedError: port 25"


@pytest.mark.parametrize(
    ("failed_attempts", "reason"),
    [(0, None), (1, None), (2, "MAX_ATTEMPTS_EXCEEDED"), (9, "MAX_ATTEMPTS_EXCEEDED")],
)
def test_only_failed_attempts_count(failed_attempts: int, reason: str | None) -> None:
    job = leased(attempt_no=50, failed_attempts=failed_attempts, max_attempts=3)
    found = handlers.conclude(Handler("try"), job, ValueError())
    assert found.dlq_reason_code == reason
    assert (found.delay is None) == (reason is not None)


def test_released_goes_back_uncharged() -> None:
    found = handlers.released("the worker was stopped")
    assert (found.status, found.delay) == ("released", 0.0)
    assert found.dlq_reason_code is None


def test_timed_out_fails_the_attempt_and_tells_the_job() -> None:
    handler = Handler("try", lambda job: None, timeout=20)
    job = handlers.prepare(handler, leased())
    found = handlers.timed_out(handler, job)
    assert (found.error_code, found.error_message) == (
        "TIMEOUT",
        "no result within 20 s",
    )
    assert job.canceled.is_set()


def test_a_job_s_own_time_limit_wins() -> None:
    found = handlers.timed_out(Handler("try"), leased(timeout_ms=1500))
    assert found.error_message == "no result within 1.5 s"


def test_an_unknown_type_is_a_dead_letter_where_that_was_asked_for() -> None:
    job = handlers.prepare(handlers.UNKNOWN, leased(job_type="nobody"))
    found = handlers.run(handlers.UNKNOWN, job)
    assert (found.error_code, found.dlq_reason_code) == (
        "UNKNOWN_JOB_TYPE",
        "NON_RETRYABLE",
    )
    assert found.error_message == "no handler for job type nobody"


# Which code.


@pytest.mark.parametrize(
    ("error", "code", "retried"),
    [
        (TimeoutError(), "TIMEOUT", True),
        (ConnectionResetError(), "DEPENDENCY_DOWN", True),
        (HttpError(429), "RATE_LIMIT", True),
        (HttpError(500), "UNKNOWN", True),
        (DatabaseError("40P01"), "DB_DEADLOCK", True),
        (DatabaseError("40001"), "SERIALIZATION", True),
        (WrappedError(DatabaseError("40P01")), "DB_DEADLOCK", True),
        (DatabaseError("22003"), "UNKNOWN", True),
        (DatabaseError("PF003"), "TOO_MANY_QUEUES", True),
        (Refused("no", reason_code="PAYLOAD_TOO_LARGE"), "PAYLOAD_TOO_LARGE", True),
        (Refused("no"), "UNKNOWN", True),
        (ValueError("x"), "UNKNOWN", True),
        (SystemExit(3), "UNKNOWN", True),
        (KeyboardInterrupt(), "UNKNOWN", True),
        (GeneratorExit(), "UNKNOWN", True),
        (RecursionError(), "UNKNOWN", True),
        (MemoryError(), "UNKNOWN", True),
        (handlers.PayloadError("payload.to: missing"), "BAD_PAYLOAD", False),
    ],
)
def test_the_code_of_an_exception(
    error: BaseException, code: str, retried: bool
) -> None:
    found = ending(error)
    assert (found.status, found.error_code) == ("failed", code)
    assert found.dlq_reason_code == (None if retried else "NON_RETRYABLE")


class DeclinedError(Exception):
    pass


class DeclinedForGoodError(DeclinedError, TimeoutError):
    pass


@pytest.mark.parametrize(
    ("errors", "code", "retried"),
    [
        ({DeclinedError: "CARD_DECLINED"}, "CARD_DECLINED", False),
        ({Exception: "WAREHOUSE_BUSY"}, "WAREHOUSE_BUSY", True),
        ({DeclinedError: "NEVER_DECLARED"}, "NEVER_DECLARED", True),
        ({Exception: "A", DeclinedError: "B", TimeoutError: "C"}, "B", True),
        ({DeclinedError: "BAD_PAYLOAD"}, "BAD_PAYLOAD", False),
        ({KeyError: "A"}, "TIMEOUT", True),
    ],
)
def test_the_nearest_class_of_the_mapping_wins(
    errors: dict[type[BaseException], str], code: str, retried: bool
) -> None:
    found = ending(DeclinedForGoodError(), errors=errors)
    assert (found.error_code, found.dlq_reason_code is None) == (code, retried)


@pytest.mark.parametrize(
    "code", ["bad code", "", "1A", "É", "A" * 65, 7, b"X", "A\x00"]
)
@pytest.mark.parametrize("signal", [Fail, Retry])
def test_a_code_that_is_none_is_unknown_and_says_so(signal: Any, code: Any) -> None:
    found = ending(signal(code=code, message="stop"))
    assert found.error_code == "UNKNOWN"
    assert found.error_message is not None
    assert found.error_message.startswith("stop (its error code ")
    assert (found.dlq_reason_code == "NON_RETRYABLE") == (signal is Fail)


def test_the_built_in_codes_are_those_of_the_contract() -> None:
    rows = {c["code"]: c["retry_class"] for c in handlers.declared_codes(App())}
    assert rows == {
        "TIMEOUT": "retry",
        "DEPENDENCY_DOWN": "retry",
        "RATE_LIMIT": "retry",
        "DB_DEADLOCK": "retry",
        "SERIALIZATION": "retry",
        "PANIC": "retry",
        "UNKNOWN": "retry",
        "BAD_PAYLOAD": "never",
        "UNKNOWN_JOB_TYPE": "never",
        "NON_RETRYABLE": "never",
        "NOT_STARTED": "retry",
        "OUTCOME_REFUSED": "retry",
        "PAYLOAD_TOO_LARGE": "retry",
        "ENQUEUE_RATE_EXCEEDED": "retry",
        "TOO_MANY_QUEUES": "retry",
        "TASK_CANCELED": "retry",
        "UNREADABLE": "never",
        "WORKER_LOST": "crash_budget",
    }


def test_own_codes_are_kept_with_the_built_in_ones() -> None:
    app = App()
    app.error_code("CARD_DECLINED", retry=False, action="Ask for another card.")
    assert handlers.declared_codes(app)[-1] == {
        "code": "CARD_DECLINED",
        "retry_class": "never",
        "suggested_action": "Ask for another card.",
    }
    assert all(row["suggested_action"] for row in handlers.declared_codes(app))


# Delays.


@pytest.mark.parametrize(
    ("given_delay", "seconds"),
    [
        (5, 5.0),
        (0, 0.0),
        (1.5, 1.5),
        (-3, 0.0),
        ("30s", 30.0),
        ("1d12h", 129600.0),
        ("120", 120.0),
        (timedelta(minutes=2), 120.0),
        (timedelta(minutes=-2), 0.0),
        (1e300, 315360000.0),
        ("9999d", 315360000.0),
    ],
)
def test_delays_are_bounded(given_delay: Any, seconds: float) -> None:
    assert ending(Retry(after=given_delay)).delay == seconds
    assert ending(Snooze(given_delay)).delay == seconds


@pytest.mark.parametrize(
    "delay",
    [math.nan, math.inf, -math.inf, "nan", "inf", "soon", "", 10**400, True, [], b"5"],
)
def test_a_delay_that_cannot_be_read_is_the_handler_s_mistake(delay: Any) -> None:
    """It is told, and it is charged: a Snooze would go on without end."""
    for error in (Retry(after=delay), Snooze(delay)):
        found = ending(error)
        assert found.status == "failed"
        assert found.delay is not None
        assert 1.6 <= found.delay <= 2.4
        assert found.error_message is not None
        assert f"{type(error).__name__}(" in found.error_message
        assert "is no delay: seconds, a timedelta" in found.error_message
    assert ending(Retry(after=delay)).error_code == "RATE_LIMIT"
    assert ending(Snooze(delay)).error_code == "UNKNOWN"


def test_a_retry_keeps_its_own_words_beside_that_mistake() -> None:
    found = ending(Retry(after=math.inf, code="BUSY", message="later"))
    assert (found.error_code, found.error_message) == (
        "BUSY",
        "later; Retry('inf') is no delay: seconds, a timedelta, or text such as 30s",
    )


@given(st.one_of(st.floats(), st.integers(), st.text(), st.binary(), st.none()))
def test_whatever_the_delay_the_job_has_an_outcome(delay: Any) -> None:
    for error in (Retry(after=delay), Snooze(delay)):
        found = handlers.conclude(Handler("try"), leased(), error)
        assert found.delay is not None
        assert 0 <= found.delay <= 315360000


def test_a_handler_s_own_back_off_is_asked_for_the_failed_attempts() -> None:
    asked = []

    def own(failures: int) -> float:
        asked.append(failures)
        return 7.0

    assert ending(ValueError(), failed_attempts=4, backoff=own).delay == 7.0
    assert asked == [5]


@pytest.mark.parametrize("answer", [math.nan, None, "soon", ZeroDivisionError("x")])
def test_a_back_off_that_fails_is_replaced_and_told(
    answer: Any, caplog: pytest.LogCaptureFixture
) -> None:
    def own(failures: int) -> Any:
        if isinstance(answer, Exception):
            raise answer
        return answer

    found = ending(ValueError(), backoff=own)
    assert found.delay is not None
    assert 1.6 <= found.delay <= 2.4
    assert "the back-off of" in caplog.text


# Messages (F13).


def storable(outcome: Outcome) -> None:
    """Assert that PostgreSQL can hold every text of an outcome."""
    for field in fields(outcome):
        text = getattr(outcome, field.name)
        if isinstance(text, str):
            assert "\x00" not in text
            assert len(text.encode()) <= error_text.LIMIT
    json.dumps(outcome.error_message)


class HostileError(Exception):
    """An exception whose methods run a program of their own."""

    def __init__(self, act: Any) -> None:
        self.act = act

    def __str__(self) -> str:
        return self.act(self)  # type: ignore[no-any-return]

    __repr__ = __str__


def _exit(error: HostileError) -> str:
    raise SystemExit(9)


def _interrupt(error: HostileError) -> str:
    raise KeyboardInterrupt


def _again(error: HostileError) -> str:
    raise HostileError(error.act)


class _Text(str):
    __slots__ = ()

    def __getitem__(self, key: object) -> str:
        raise SystemExit

    encode = __len__ = __str__ = __getitem__  # type: ignore[assignment]


@pytest.mark.parametrize(
    "act",
    [
        str,  # calls itself
        repr,
        _exit,
        _interrupt,
        _again,
        lambda error: 7,
        lambda error: None,
        lambda error: "\x00" * 100_000,
        lambda error: "\ud800" * 100_000,
        lambda error: _Text("\x00\ud800"),
        lambda error: "€" * 10_000,
    ],
)
def test_an_exception_that_cannot_be_read_still_ends_its_job(act: Any) -> None:
    found = ending(HostileError(act))
    assert found.status == "failed"
    assert found.error_code == "UNKNOWN"
    assert found.error_message
    assert found.error_message.startswith("HostileError")
    storable(found)


class LyingError(Exception):
    @property
    def sqlstate(self) -> str:
        raise RecursionError

    @property
    def response(self) -> Any:
        return self

    status_code = property(lambda self: 1 / 0)


def test_properties_that_raise_do_not_matter() -> None:
    assert ending(LyingError("x")).error_code == "UNKNOWN"


any_text = st.text(st.characters(exclude_categories=()))


@settings(max_examples=500)
@given(
    st.one_of(any_text, st.binary(), st.integers(), st.none()),
    st.sampled_from([Fail, Retry]),
)
def test_every_message_can_be_stored(message: Any, signal: Any) -> None:
    found = handlers.conclude(Handler("try"), leased(), signal(message=message))
    assert found.status == "failed"
    storable(found)


@given(any_text, st.integers(0, 20_000))
def test_a_message_is_cut_at_8_kb_and_marked(text: str, times: int) -> None:
    whole = text * times
    found = error_text.excerpt(whole)
    assert len(found.encode()) <= error_text.LIMIT
    if len(whole.encode(errors="replace")) > error_text.LIMIT * 3:
        assert found.endswith(f" … [cut: {len(whole):,} characters in all]")


def test_a_short_message_is_kept_as_it_is() -> None:
    assert error_text.excerpt("naïve ✓ 𝕏") == "naïve ✓ 𝕏"
    assert error_text.excerpt("a\x00b\ud800c") == "a�b�c"
    assert error_text.excerpt(b"caf\xc3\xa9 \xff") == "café �"


def test_fingerprints_follow_the_bug_not_the_job() -> None:
    first = ending(ValueError("order 17 has no lines"))
    second = ending(ValueError("order 4711 has no lines"))
    other = ending(ValueError("order 17 has no customer"))
    assert first.error_fingerprint == second.error_fingerprint
    assert first.error_fingerprint != other.error_fingerprint


# The log.


def test_an_outcome_is_one_line_with_its_fields(
    caplog: pytest.LogCaptureFixture,
) -> None:
    job = leased(job_type="email_send", attempt_no=3, max_attempts=1)
    found = handlers.conclude(Handler("email_send"), job, ValueError("no\nlines"))
    handlers.log_outcome(logging.getLogger("t"), job, found, 0.0123)
    (record,) = caplog.records
    assert record.getMessage() == (
        "email_send attempt 3 failed with UNKNOWN, dead: MAX_ATTEMPTS_EXCEEDED:"
        " ValueError: no\nlines"
    )
    assert record.levelname == "ERROR"
    line = vars(record)
    assert (line["event"], line["job_id"]) == ("job_dlq", job.job_id)
    assert (line["latency_ms"], line["attempt_no"]) == (12.3, 3)
    assert (line["queue"], line["job_type"]) == ("default", "email_send")
    assert (line["error_code"], line["reason_code"]) == (
        "UNKNOWN",
        "MAX_ATTEMPTS_EXCEEDED",
    )
    assert "delay" not in line


@pytest.mark.parametrize(
    ("outcome", "level", "words"),
    [
        (Outcome("succeeded"), "INFO", "try attempt 1 succeeded"),
        (
            Outcome("snoozed", delay=30),
            "INFO",
            "try attempt 1 snoozed, again in 30.0 s",
        ),
        (handlers.released("stop"), "WARNING", "try attempt 1 was given back: stop"),
        (
            Outcome("failed", delay=2.0, error_code="TIMEOUT", error_message="slow"),
            "WARNING",
            "try attempt 1 failed with TIMEOUT, again in 2.0 s: slow",
        ),
    ],
)
def test_each_outcome_has_its_words(
    outcome: Outcome, level: str, words: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    handlers.log_outcome(logging.getLogger("t"), leased(), outcome, 1.0)
    (record,) = caplog.records
    assert (record.levelname, record.getMessage()) == (level, words)


def test_the_runbook_lists_every_code_with_its_action() -> None:
    runbook = (Path(__file__).parents[3] / "RUNBOOK.md").read_text(encoding="utf-8")
    table = runbook.partition("<!-- error codes:")[2].partition("<!-- end of")[0]
    rows = [line for line in table.splitlines() if line.strip().startswith("| `")]
    tried = {"retry": "yes", "never": "no", "crash_budget": "within the crash budget"}
    assert [row.strip() for row in rows] == [
        f"| `{code.code}` | {tried[code.retry_class]} | {code.suggested_action} |"
        for code in handlers.BUILT_IN.values()
    ]
