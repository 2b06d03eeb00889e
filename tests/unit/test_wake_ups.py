"""A supervisor that cannot listen says so where an operator looks, and what it does."""

from __future__ import annotations

import logging

import pytest

from pgflow_cli.errors import DatabaseUnavailable
from pgflow_cli.repository import Database
from pgflow_cli.worker import background
from pgflow_cli.worker.options import WorkPlan


def test_a_line_that_cannot_be_had_is_a_warning_that_names_polling(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    class Standby:
        def __init__(self, _database: Database) -> None: ...

        def hears_itself(self) -> bool:
            wake_ups.stop()
            raise DatabaseUnavailable("cannot execute LISTEN during recovery")

        def close(self) -> None: ...

    monkeypatch.setattr(background, "Listener", Standby)
    wake_ups = background.WakeUps(
        WorkPlan(url="", name="w"), Database("postgres:///"), lambda: None
    )
    with caplog.at_level(logging.INFO, logger="pgflow.supervisor"):
        wake_ups.run()
    (line,) = caplog.records
    assert line.levelno == logging.WARNING
    assert line.getMessage().startswith("cannot listen for new jobs, polling every")
    assert "cannot execute LISTEN during recovery" in line.getMessage()
