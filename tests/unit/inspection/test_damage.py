"""Data that the server cannot read is no outage: each surface goes on and says so."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from pgflow_cli.admin import problems
from pgflow_cli.cli.views.top import Dashboard
from pgflow_cli.errors import DatabaseUnavailable, DataDamaged
from pgflow_cli.inspection import prometheus
from pgflow_cli.inspection.diagnosis import checks
from pgflow_cli.worker.background import Upkeep
from pgflow_cli.worker.options import WorkerOptions

DAMAGED = DataDamaged("data of here cannot be read: invalid page in block 1")


def fails(*_: object, **__: object) -> Any:
    raise DAMAGED


def test_a_check_of_doctor_fails_by_itself_and_names_it() -> None:
    patient: Any = SimpleNamespace()
    [found] = checks._run(checks.Check("jobs.audit", fails), patient)
    assert (found.check, found.result) == ("jobs.audit", "FAIL")
    assert "invalid page in block 1" in found.detail
    assert "RUNBOOK, Jobs that cannot be read" in found.command


def test_a_scrape_says_that_the_database_is_up() -> None:
    metrics = SimpleNamespace(measure_all=fails)
    repository: Any = SimpleNamespace(metrics=metrics)
    assert prometheus.collect(repository).up


def test_top_shows_it_and_goes_on() -> None:
    dashboard = Dashboard(fails, interval=0.0, sort=None)
    dashboard._refresh()
    assert "invalid page" in dashboard._trouble


def test_http_has_a_code_for_it() -> None:
    assert problems.of_error(DAMAGED).code == "DATA_DAMAGED"


def test_upkeep_tries_again_after_a_minute_and_reaps_meanwhile() -> None:
    """After an outage it would not, for a moment."""
    database: Any = None
    upkeep = Upkeep(WorkerOptions(url=""), database)
    assert upkeep._attempt(fails) == Upkeep.DAMAGE_RETRY
    assert upkeep._served_since is not None

    def is_away() -> float:
        raise DatabaseUnavailable("away")

    assert upkeep._attempt(is_away) == pytest.approx(1.0)
    assert upkeep._served_since is None
