"""What KEDA asks the database: how many jobs are due and may run."""

from __future__ import annotations

from typing import Any

import psycopg
import pytest

from tests.support.deployment import container, manifests, pods

SCALERS = [
    scaler
    for scaler in manifests("ScaledObject", "ScaledJob")
    if scaler["spec"]["triggers"][0]["type"] == "postgresql"
]


def queue_of(scaler: dict[str, Any]) -> str:
    """Return the queue of the workers that it scales."""
    by_itself = f"{scaler['kind']} {scaler['metadata']['name']}"
    name = scaler["spec"].get("scaleTargetRef", {}).get("name")
    pod = pods()[f"Deployment {name}" if name else by_itself]
    [queue] = [e["value"] for e in container(pod)["env"] if e["name"] == "PGFLOW_QUEUE"]
    return str(queue)


def count(connection: psycopg.Connection[Any], scaler: dict[str, Any]) -> int:
    [trigger] = scaler["spec"]["triggers"]
    row = connection.execute(trigger["metadata"]["query"].encode()).fetchone()
    assert row is not None
    return int(row[0])


@pytest.mark.parametrize("scaler", SCALERS, ids=lambda s: s["metadata"]["name"])
@pytest.mark.direct
def test_a_scaler_counts_what_is_due_and_may_run(
    scaler: dict[str, Any], connection: psycopg.Connection[Any]
) -> None:
    queue = queue_of(scaler)
    assert count(connection, scaler) == 0
    for name, delay in ((queue, "0"), (queue, "0"), (queue, "1 hour"), ("other", "0")):
        connection.execute(
            "select pgflow.enqueue('ok', '{}', queue => %s,"
            " run_at => now() + %s::interval)",
            (name, delay),
        )
    connection.execute(
        "insert into pgflow.queue_policies (queue, max_in_flight) values (%s, 1)",
        (queue,),
    )
    assert count(connection, scaler) == 2
    connection.execute(
        "update pgflow.queue_policies set paused_until = now() + interval '1 hour'"
        " where queue = %s",
        (queue,),
    )
    assert count(connection, scaler) == 0


def test_there_are_scalers_that_count() -> None:
    assert len(SCALERS) == 2
