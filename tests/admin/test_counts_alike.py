"""Every surface counts the jobs of a queue alike, and says alike where it estimates."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families
from werkzeug.test import Client

from pgflow_cli.models.queues import COUNTED
from tests.jobs import plant, plant_dead

DUE, LATER, DEAD = 12_000, 100, 11_000
Asks = Callable[[str], dict[str, Any]]


@pytest.fixture
def deep(connection) -> None:
    """Plant a queue that is deeper than is counted, and a flat one."""
    plant(connection, DUE, queue="deep")
    plant(connection, LATER, queue="deep", due_in="1 hour")
    plant_dead(connection, DEAD, queue="deep")
    plant(connection, 50, queue="flat")
    connection.execute("analyze pgflow.pending")
    connection.execute("analyze pgflow.dead_letters")


def by_queue(rows: list[dict[str, Any]], due: str = "runnable") -> dict[str, Any]:
    names = (due, "scheduled", "dlq", "counts_are_exact")
    return {row["queue"]: [row[name] for name in names] for row in rows}


def of_prometheus(text: str) -> dict[str, Any]:
    [jobs] = [
        family
        for family in text_string_to_metric_families(text)
        if family.name == "pgflow_queue_jobs"
    ]
    found = {(s.labels["queue"], s.labels["state"]): s.value for s in jobs.samples}
    states = ("runnable", "scheduled", "dlq")
    names = {name for name, _ in found}
    return {name: [found[name, state] for state in states] for name in names}


def test_every_surface_has_the_same_counts(deep, client: Client, pgflow) -> None:
    def asked(path: str) -> Any:
        answer = client.get(path)
        assert answer.status_code == 200, answer.text
        return (
            answer.text if path == "/" or path.startswith("/ui") else answer.get_json()
        )

    def typed(*words: str) -> str:
        done = pgflow(*words)
        assert done.returncode == 0, done.stderr
        return str(done.stdout)

    counts = by_queue(asked("/queues")["items"])
    due, later, dead, exact = counts["deep"]
    assert (due, dead) == (
        pytest.approx(DUE, rel=0.02), pytest.approx(DEAD, rel=0.02),
    )  # fmt: skip
    assert (later, exact, counts["flat"]) == (LATER, False, [50, 0, 0, True])

    assert by_queue([asked("/queues/deep")]) == {"deep": counts["deep"]}
    depth = "runnable_queue_depth"
    assert by_queue(asked("/metrics")["queues"], depth) == counts
    assert by_queue(json.loads(typed("metrics", "--json"))["queues"], depth) == counts
    lines = typed("metrics", "-o", "jsonl").splitlines()
    assert by_queue([*map(json.loads, lines)], depth) == counts
    for words in (("queues", "list"), ("top", "--once")):
        found = json.loads(typed(*words, "-o", "json"))["items"]
        assert by_queue(found) == counts, words
    shown = json.loads(typed("queues", "show", "deep", "-o", "json"))
    assert by_queue([shown]) == {"deep": counts["deep"]}

    numbers = {name: row[:3] for name, row in counts.items()}
    scraped = client.get("/metrics/prom").text
    assert of_prometheus(scraped) == numbers
    assert of_prometheus(typed("metrics", "--prom")) == numbers
    assert f"pgflow_queue_depth {due + 50:.1f}\n" in scraped

    for words in (("queues", "list"), ("top", "--once"), ("metrics",)):
        [line] = re.findall("^deep .*$", typed(*words), re.MULTILINE)
        assert {f"~{due:,}", f"~{dead:,}", str(later)} <= {*line.split()}, words
    assert f"~{due:,}" in typed("queues", "show", "deep")
    for path in ("/ui/queues", "/ui/queues/deep"):
        page = asked(path)
        assert f">~{due:,}<" in page, path
        assert f">~{dead:,}<" in page, path
    assert f"~{due + 50:,}" in asked("/")


def test_what_the_planner_does_not_know_is_more_than_the_limit(
    connection, client: Client, pgflow
) -> None:
    connection.execute("alter table pgflow.pending set (autovacuum_enabled = off)")
    plant(connection, COUNTED + 1, queue="deep")
    [row] = client.get("/metrics").get_json()["queues"]
    assert (row["runnable_queue_depth"], row["counts_are_exact"]) == (COUNTED, False)
    scraped = of_prometheus(pgflow("metrics", "--prom").stdout)
    assert scraped["deep"][0] == COUNTED
    assert " 10,000+ " in pgflow("queues", "list").stdout
