"""A server beside a worker that keeps ending is started again, but not at once."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from pgflow_cli.worker.companion import Companion

NAME = "server of a test"


def end_at_once(_tie: Any) -> None:
    """Be a server that cannot run."""


def is_running() -> bool:
    names = [child.name for child in multiprocessing.active_children()]
    return f"pgflow-{NAME}" in names


@pytest.fixture
def companion() -> Iterator[Companion]:
    made = Companion(NAME, end_at_once, ())
    made.start()
    yield made
    made.stop()


def test_one_that_ends_at_once_is_not_started_again_and_again(
    companion: Companion,
    wait_until: Callable[..., Any],
    caplog: pytest.LogCaptureFixture,
) -> None:
    wait_until(lambda: not is_running(), "it has ended")
    for _ in range(3):
        companion.attend()
    assert not is_running()
    assert [vars(record)["event"] for record in caplog.records] == ["companion_died"]
    wait_until(lambda: companion.attend() or is_running(), "a second later it runs")
