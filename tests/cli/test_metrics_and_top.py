"""`queues list|show`, `metrics` and `top`, as they are typed."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pexpect
import psycopg
import pytest

from tests.cli.terminals import Screen
from tests.conftest import RunsPgflow
from tests.support.jobs import audit, plant
from tests.support.servers import Database

Connection = psycopg.Connection[Any]


@pytest.fixture
def planted(connection: Connection) -> Connection:
    plant(connection, 3, queue="emails")
    plant(connection, 12, queue="reports")
    return connection


def test_queues_are_listed_for_persons_and_programs(planted, pgflow: RunsPgflow):
    plain = pgflow("queues", "list").stdout.splitlines()
    assert plain[0].split() == [
        "QUEUE", "RUNNABLE", "SCHED", "RUN", "DLQ", "OLDEST", "IN/s", "OUT/s", "ERR%",
        "RETRY%", "DRAIN", "WORKERS", "POLICY", "PAUSED",
    ]  # fmt: skip
    assert plain[1].split()[:2] == ["emails", "3"]
    document = json.loads(pgflow("queues", "list", "-o", "json").stdout)
    assert [item["queue"] for item in document["items"]] == ["emails", "reports"]
    assert document["items"][1]["runnable"] == 12
    assert set(document["items"][0]["drain"]) >= {
        "verdict", "seconds", "workers_needed", "window_seconds", "samples",
    }  # fmt: skip
    assert pgflow("queues", "list", "-o", "ids").stdout == "emails\nreports\n"
    globbed = pgflow("queues", "list", "-q", "em*", "-o", "ids")
    assert globbed.stdout == "emails\n"
    by_depth = pgflow("queues", "list", "--sort", "runnable:desc", "-o", "ids")
    assert by_depth.stdout == "reports\nemails\n"
    assert audit(planted) == (0, 0)


def test_no_queue_is_an_empty_list(pgflow: RunsPgflow):
    empty = pgflow("queues", "list", "-o", "json")
    assert (empty.returncode, json.loads(empty.stdout)["items"]) == (0, [])
    assert pgflow("queues", "list", "-q", "nix*", "-o", "ids").stdout == ""
    assert pgflow("top", "--once").returncode == 0
    assert pgflow("metrics").returncode == 0


def test_one_queue_is_shown_with_its_forecast(planted, pgflow: RunsPgflow):
    shown = pgflow("queues", "show", "reports", "--window", "10m")
    assert "will not drain: no live worker serves it" in shown.stdout
    record = json.loads(pgflow("queues", "show", "reports", "-o", "json").stdout)
    assert (record["queue"], record["runnable"]) == ("reports", 12)
    assert record["drain"]["window_seconds"] == 60


def test_every_surface_has_one_verdict_of_a_queue_that_no_worker_serves(
    planted, pgflow: RunsPgflow
):
    for words in (
        ("queues", "show", "reports"),
        ("queues", "list"),
        ("metrics", "--json"),
    ):
        form = () if "--json" in words else ("-o", "json")
        told = json.loads(pgflow(*words, *form).stdout)
        queues = told.get("items") or told.get("queues") or [told]
        [found] = [queue for queue in queues if queue["queue"] == "reports"]
        assert (found["drain"]["verdict"], found["drain"]["seconds"]) == (
            "unserved",
            None,
        )


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (("queues", "show", "nix"), 3),
        (("queues", "show", "emails", "--window", "1s"), 2),
        (("queues", "list", "--sort", "nonsense"), 2),
        (("metrics", "--prom", "--json"), 2),
        (("metrics", "--prom", "-q", "emails"), 2),
        (("top", "--once", "--sort", "nonsense"), 2),
        (("top", "--interval", "0s"), 2),
    ],
)
def test_what_cannot_be_done_is_refused(words, code, planted, pgflow: RunsPgflow):
    result = pgflow(*words)
    assert result.returncode == code, result.stderr
    assert result.stdout == ""


def test_metrics_are_json_as_http_has_them(planted, pgflow: RunsPgflow):
    for words in (("metrics", "--json"), ("metrics", "-o", "json")):
        document = json.loads(pgflow(*words).stdout)
        assert set(document) == {"now_utc", "queues", "next_after"}
        depths = {q["queue"]: q["runnable_queue_depth"] for q in document["queues"]}
        assert depths == {"emails": 3, "reports": 12}
    rows = pgflow("metrics", "-o", "jsonl", "-q", "emails").stdout.splitlines()
    assert json.loads(rows[0])["runnable_queue_depth"] == 3
    assert "JOBS/s" in pgflow("metrics").stdout


def test_metrics_for_prometheus_parse(planted, pgflow: RunsPgflow):
    from prometheus_client.parser import (  # noqa: PLC0415
        text_string_to_metric_families,
    )

    text = pgflow("metrics", "--prom").stdout
    families = {family.name: family for family in text_string_to_metric_families(text)}
    assert all(name.startswith("pgflow_") for name in families)
    assert all(family.documentation for family in families.values())
    found = {
        (sample.labels["queue"], sample.labels["state"]): sample.value
        for sample in families["pgflow_queue_jobs"].samples
    }
    assert found["reports", "runnable"] == 12
    assert families["pgflow_attempts"].type == "counter"


def test_top_looks_once_where_nobody_watches(planted, pgflow: RunsPgflow):
    for words in (("top",), ("top", "--once"), ("top", "--once", "-o", "plain")):
        lines = pgflow(*words).stdout.splitlines()
        assert lines[0].startswith("pgflow top")
        assert lines[2].startswith("QUEUE")
        assert "NO WORKER" in lines[4]
        assert lines[5].startswith("ALERTS")
    rows = json.loads(pgflow("top", "-o", "json").stdout)["items"]
    assert [row["queue"] for row in rows] == ["emails", "reports"]


# On a terminal.


@pytest.fixture
def top(database: Database) -> Iterator[Callable[..., Screen]]:
    with ExitStack() as shown:

        def show(*words: str, width: int = 160, term: str = "xterm") -> Screen:
            variables = {"DATABASE_URL": database.url, "TERM": term}
            words = words or ("top", "-i", "300ms")
            size = (16, width)
            return shown.enter_context(Screen(*words, variables=variables, size=size))

        yield show


ALTERNATE, BACK = r"\x1b\[\?1049h", r"\x1b\[\?1049l"


def cooked(child: Screen) -> bool:
    """Return whether the terminal takes lines and shows what is typed."""
    import termios  # noqa: PLC0415 - not on Windows

    flags = termios.tcgetattr(child.child_fd)[3]
    return bool(flags & termios.ICANON) and bool(flags & termios.ECHO)


def test_top_takes_the_screen_hears_keys_and_gives_everything_back(planted, top):
    child = top()
    child.expect(ALTERNATE)
    child.expect("sort queue")
    assert not cooked(child)
    child.send("s")
    child.expect("sort runnable:desc")
    # Typed at once: no key is lost.
    child.send("/ema\r")
    child.expect("filter ema")
    plant(planted, 2, queue="emails")
    child.expect(r"emails +5 ")
    child.send("q")
    child.expect(BACK)
    child.expect(pexpect.EOF)
    assert child.process.wait() == 0
    assert cooked(child)


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)]
)
def test_a_signal_gives_the_terminal_back(number, code, planted, top):
    child = top()
    child.expect("sort queue")
    child.process.send_signal(number)
    child.expect(BACK)
    child.expect(pexpect.EOF)
    assert child.process.wait() == code
    assert cooked(child)


def test_eighty_columns_are_readable(planted, top):
    child = top(width=80)
    child.expect("sort queue")
    child.send("q")
    child.expect(pexpect.EOF)
    assert "\\u" not in child.before
    listed = top("queues", "list", "--no-pager", width=80, term="dumb").read()
    headings = listed.splitlines()[0].split()
    assert headings[0] == "QUEUE"
    assert "RUNNABLE" in headings
    assert "PAUSED" not in headings
    assert "…" not in listed
