"""The demo handlers act as their list says, every time."""

from __future__ import annotations

from typing import Any

import pytest

from pgflow_cli import handlers
from pgflow_cli.handlers import Outcome, examples
from tests.support.leased_jobs import leased

run = examples.app.run


@pytest.mark.parametrize("payload", [{}, [], "x", 3, None, {"ms": "many"}, {"ms": -1}])
def test_ok_and_demo_ok_succeed_whatever_the_payload(payload: Any) -> None:
    assert run("ok", payload) == Outcome("succeeded")
    assert run("demo_ok", payload) == Outcome("succeeded")


def test_demo_flaky_succeeds_with_its_third_attempt() -> None:
    codes = [run("demo_flaky", attempt_no=n).error_code for n in (1, 2, 3)]
    assert codes == ["DEPENDENCY_DOWN", "DEPENDENCY_DOWN", None]
    assert run("demo_flaky", {"succeeds_on": 1}).status == "succeeded"


def test_demo_flaky_has_one_fingerprint() -> None:
    found = {run("demo_flaky", attempt_no=n).error_fingerprint for n in (1, 2)}
    assert len(found) == 1


def test_demo_slow_shows_progress() -> None:
    told: list[tuple[float, float]] = []
    handler = examples.app.handlers["demo_slow"]
    hooks = handlers.Hooks(report_progress=lambda n, total: told.append((n, total)))
    job = handlers.prepare(handler, leased({"seconds": 0}), hooks)
    assert handlers.run(handler, job).status == "succeeded"
    assert told == [(float(n), 10.0) for n in range(11)]


def test_demo_slow_stops_when_it_is_canceled() -> None:
    handler = examples.app.handlers["demo_slow"]
    job = handlers.prepare(handler, leased({"seconds": 600}))
    job.canceled.set()
    assert handlers.run(handler, job).error_code == "NON_RETRYABLE"


def test_fail_me_is_a_dead_letter_at_once() -> None:
    found = run("fail_me")
    assert (found.error_code, found.dlq_reason_code) == ("NON_RETRYABLE",) * 2


def test_fail_me_can_use_up_its_attempts() -> None:
    assert run("fail_me", {"retry": True}, max_attempts=2).delay is not None
    last = run("fail_me", {"retry": True}, attempt_no=2, max_attempts=2)
    assert (last.error_code, last.dlq_reason_code) == (
        "UNKNOWN",
        "MAX_ATTEMPTS_EXCEEDED",
    )


@pytest.mark.parametrize(
    ("payload", "code"),
    [
        ({"to": "ann@example.org"}, None),
        ({}, "BAD_PAYLOAD"),
        ([], "BAD_PAYLOAD"),
        ({"to": 7}, "BAD_PAYLOAD"),
        ({"to": "ann"}, "BAD_PAYLOAD"),
        ({"to": "ann@localhost"}, "BAD_PAYLOAD"),
        ({"to": "ann@nowhere.invalid"}, "ADDRESS_REJECTED"),
    ],
)
def test_email_send_looks_at_the_address(payload: Any, code: str | None) -> None:
    found = run("email_send", payload)
    assert found.error_code == code
    assert (found.dlq_reason_code == "NON_RETRYABLE") == (code is not None)
    assert found.error_message is None or "ann" not in found.error_message


def test_the_code_of_rejected_addresses_is_declared() -> None:
    codes = {c["code"] for c in handlers.declared_codes(examples.app)}
    assert "ADDRESS_REJECTED" in codes
