"""What a queue's report makes of its forecast."""

from __future__ import annotations

from dataclasses import replace

from pgflow_cli.admin.api import queues
from pgflow_cli.inspection import forecast
from tests.unit.cli.test_top import EMAILS, look

VERDICTS = {
    forecast.EMPTY,
    forecast.DRAINING,
    forecast.STEADY,
    forecast.GROWING,
    forecast.UNKNOWN,
    forecast.UNSERVED,
}


def test_a_queue_that_drained_and_has_no_worker_any_more_is_unserved() -> None:
    [found] = look(EMAILS).census.queues
    drains = replace(found.forecast, verdict=forecast.DRAINING, seconds=30.0)
    served = replace(found, forecast=drains, workers=1)
    assert (served.drain["verdict"], served.drain["seconds"]) == ("draining", 30.0)
    left = replace(served, workers=0)
    assert (left.drain["verdict"], left.drain["seconds"]) == ("unserved", None)


def test_the_document_of_the_api_knows_every_verdict() -> None:
    assert {*queues.DRAIN.fields["verdict"]["enum"]} == VERDICTS
