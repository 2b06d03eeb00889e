"""Rules, dashboards and configuration name what is exported, and work."""

from __future__ import annotations

import json
import math
import re
import subprocess
from collections import defaultdict
from dataclasses import replace
from datetime import UTC, datetime
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
import yaml

from pgflow_cli.inspection import prometheus
from pgflow_cli.inspection import queues as queue_report
from pgflow_cli.models.queues import CounterSum, MaintenanceFacts, Totals
from tests.cli.test_runbook import takes
from tests.deployment import manifests
from tests.exported import SERIES, TABLE, families
from tests.tools import needs_tool
from tests.unit.test_dashboard import EMAILS, look

ROOT = Path(__file__).parents[2]
PROMETHEUS = ROOT / "docker/prometheus"
GRAFANA = ROOT / "docker/grafana"
RULES = [
    rule
    for group in yaml.safe_load((PROMETHEUS / "alerts.yml").read_text())["groups"]
    for rule in group["rules"]
]
TESTS = (PROMETHEUS / "alerts_test.yml").read_text()
DASHBOARD = json.loads((GRAFANA / "dashboards/pgflow.json").read_text())
PANELS: list[dict[str, Any]] = DASHBOARD["panels"]
EXPRESSIONS = [
    pytest.param(target["expr"], id=f"{panel['title']}-{target['refId']}")
    for panel in PANELS
    for target in panel.get("targets", ())
]
NOW = datetime(2026, 11, 23, 15, 20, 41, tzinfo=UTC)


def promtool(*words: str, given: bytes | None = None) -> None:
    done = subprocess.run(
        [needs_tool("promtool"), *words],
        cwd=PROMETHEUS,
        input=given,
        capture_output=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, (done.stdout + done.stderr).decode()


# Alerts.


def test_prometheus_takes_the_configuration_and_the_rules() -> None:
    promtool("check", "config", "prometheus.yml")


def test_each_alert_fires_when_it_should_and_is_silent_when_it_should_not() -> None:
    promtool("test", "rules", "alerts_test.yml")


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule["alert"])
def test_an_alert_says_how_grave_it_is_and_what_to_type(rule: dict[str, Any]) -> None:
    assert rule["labels"]["severity"] in {"warning", "critical"}
    said = rule["annotations"]
    assert said["summary"]
    page, anchor = said["runbook_url"].split("#")
    assert page == "RUNBOOK.md"
    assert anchor in anchors()
    command = re.fullmatch(r"Type: (pgflow .+)", said["description"]).group(1)  # type: ignore[union-attr]
    given = command.replace("{{ $labels.task }}", "reap")
    takes(given.replace("{{ $labels.queue }}", "emails"))


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule["alert"])
def test_an_alert_has_a_series_that_fires_it(rule: dict[str, Any]) -> None:
    fired = re.findall(r'labels: (?:>-\s*)?\'?ALERTS\{alertname="(\w+)"', TESTS)
    assert rule["alert"] in fired


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule["alert"])
def test_an_alert_asks_for_what_is_exported(rule: dict[str, Any]) -> None:
    assert named(rule["expr"]) <= SERIES


def test_every_incident_of_the_runbook_has_an_alert() -> None:
    told = {rule["annotations"]["runbook_url"].split("#")[1] for rule in RULES}
    assert {
        "queue-depth-grows", "jobs-stuck-in-running", "dlq-spike", "enqueue-rejected",
        "the-database-is-fenced", "backup-and-restore", "upkeep",
    } <= told  # fmt: skip


def anchors() -> set[str]:
    text = (ROOT / "RUNBOOK.md").read_text(encoding="utf-8")
    headings = re.findall(r"^##+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w -]", "", h).lower().replace(" ", "-") for h in headings}


def named(expression: str) -> set[str]:
    return set(re.findall(r"\bpgflow_\w+", expression))


# The dashboard.


@pytest.mark.parametrize("expression", EXPRESSIONS)
def test_a_panel_asks_for_what_is_exported(expression: str) -> None:
    assert named(expression) <= SERIES
    assert named(expression) or "ALERTS{" in expression


def test_prometheus_takes_every_expression_of_the_dashboard(tmp_path: Path) -> None:
    rules = [
        {"record": f"panel:{number}", "expr": filled_in(parameter.values[0])}
        for number, parameter in enumerate(EXPRESSIONS)
    ]
    made = tmp_path / "panels.yml"
    made.write_text(json.dumps({"groups": [{"name": "panels", "rules": rules}]}))
    promtool("check", "rules", str(made))


@pytest.mark.parametrize(
    ("panel", "metric", "labels"),
    [
        ("New dead letters, in 10 minutes", "pgflow_attempts_total",
         'job_type="t",outcome="dlq",error_code="SMTP"'),
        ("Replayed, in 10 minutes", "pgflow_replays_total", ""),
        ("Refused enqueues, in 5 minutes", "pgflow_ingest_decisions_total",
         'reason_code="PAYLOAD_TOO_LARGE"'),
    ],
)  # fmt: skip
def test_a_panel_shows_what_is_the_first_of_its_kind(
    panel: str, metric: str, labels: str, tmp_path: Path
) -> None:
    """As the alerts do: increase() would show nothing of a new error code."""
    [expression] = [
        filled_in(target["expr"])
        for found in PANELS if found["title"] == panel
        for target in found["targets"]
    ]  # fmt: skip
    asked = {"expr": f"sum({expression})"}
    series = f'{metric}{{queue="q",{labels}}}'
    trial = {
        "rule_files": [],
        "tests": [
            {
                "interval": "1m",
                "input_series": [
                    {"series": "pgflow_db_up", "values": "1x60"},
                    {"series": series, "values": "_x20 30x40"},
                    # Counted long ago, and told by a second replica, too.
                    {"series": series.replace('"q"', '"old"'), "values": "9x60"},
                    {
                        "series": series.replace('"q"', '"old",instance="b"'),
                        "values": "_x20 9x40",
                    },
                ],
                "promql_expr_test": [
                    asked | {"eval_time": at, "exp_samples": [{"value": value}]}
                    for at, value in (("19m", 0), ("23m", 30), ("50m", 0))
                ],
            }
        ],
    }
    made = tmp_path / "trial.yml"
    made.write_text(json.dumps(trial))
    promtool("test", "rules", str(made))


def filled_in(expression: str) -> str:
    """Return an expression as Grafana sends it."""
    text = expression.replace("$queue", ".*").replace("$__rate_interval", "1m")
    assert "$" not in text
    return text


def test_every_panel_of_a_queue_can_be_narrowed_to_some() -> None:
    [queue] = DASHBOARD["templating"]["list"]
    assert queue["definition"] == "label_values(pgflow_queue_jobs, queue)"
    of_queues = {name for name, (_, labels) in TABLE.items() if "queue" in labels}
    for parameter in EXPRESSIONS:
        for name, matchers in re.findall(
            r"(pgflow_\w+)(\{[^}]*\})?", parameter.values[0]
        ):
            if re.sub("_(bucket|count|sum)$", "", name) in of_queues:
                assert 'queue=~"$queue"' in matchers, parameter.values[0]


def test_panels_do_not_overlap_and_say_what_they_show() -> None:
    assert len({panel["id"] for panel in PANELS}) == len(PANELS)
    assert all(p["description"] for p in PANELS if p["type"] != "row")
    for one, other in combinations([panel["gridPos"] for panel in PANELS], 2):
        apart = (
            one["x"] + one["w"] <= other["x"]
            or other["x"] + other["w"] <= one["x"]
            or one["y"] + one["h"] <= other["y"]
            or other["y"] + other["h"] <= one["y"]
        )
        assert apart, (one, other)


def test_grafana_is_given_the_source_that_the_panels_name() -> None:
    given = yaml.safe_load(
        (GRAFANA / "provisioning/datasources/prometheus.yml").read_text()
    )
    [source] = given["datasources"]
    uids = {
        target["datasource"]["uid"] for p in PANELS for target in p.get("targets", ())
    }
    assert uids == {source["uid"]}
    provided = yaml.safe_load(
        (GRAFANA / "provisioning/dashboards/pgflow.yml").read_text()
    )
    assert provided["providers"][0]["type"] == "file"


# What scales workers.


def test_a_scaler_asks_prometheus_for_what_is_exported(tmp_path: Path) -> None:
    asked = [
        trigger["metadata"]["query"]
        for scaler in manifests("ScaledObject", "ScaledJob")
        for trigger in scaler["spec"]["triggers"]
        if trigger["type"] == "prometheus"
    ]
    assert len(asked) == 1
    for query in asked:
        assert named(query) <= SERIES
    # A queue that waits for 90 s, until it is paused: more workers could do nothing.
    age = 'pgflow_queue_oldest_runnable_age_seconds{queue="default",instance="%s"}'
    paused = 'pgflow_queue_paused{queue="default",instance="%s"}'
    trial = {
        "tests": [
            {
                "interval": "1m",
                "input_series": [
                    {"series": series % instance, "values": values}
                    for series, values in ((age, "90x20"), (paused, "0x10 1x10"))
                    for instance in "ab"
                ],
                "promql_expr_test": [
                    {"expr": asked[0], "eval_time": at, "exp_samples": [expected]}
                    for at, expected in (("5m", {"value": 90}), ("15m", {"value": 0}))
                ],
            }
        ],
    }
    made = tmp_path / "trial.yml"
    made.write_text(json.dumps(trial))
    promtool("test", "rules", str(made))


# What is exported.


def test_histograms_have_the_buckets_that_alerts_and_dashboards_count_on() -> None:
    text = families(prometheus.text(snapshot(1, 1)))
    bounds = {
        name: [
            sample.labels["le"]
            for sample in text[name].samples if sample.name.endswith("_bucket")
        ]
        for name in ("pgflow_job_duration_seconds", "pgflow_job_wait_seconds")
    }  # fmt: skip
    assert [float(bound) for bound in bounds["pgflow_job_duration_seconds"]] == [
        0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, math.inf,
    ]  # fmt: skip
    assert [float(bound) for bound in bounds["pgflow_job_wait_seconds"]] == [
        0.01, 0.05, 0.1, 0.5, 1, 5, 15, 60, 300, 900, 3600, math.inf,
    ]  # fmt: skip


def snapshot(queues: int, counted: int) -> prometheus.Snapshot:
    """Return a cluster of so many queues, types, codes and reasons."""
    measured = [
        replace(EMAILS, queue=f"q{n:05}", max_enqueue_per_minute=n)
        for n in range(queues)
    ]
    taken = queue_report.of(
        look(*measured, backed_up_at=NOW, backup_bytes=1).census.measures
    )
    sums = [
        CounterSum(metric, f"q{n:05}", job_type, outcome, code, 1, 0.5, buckets)
        for n in range(counted)
        for metric, job_type, outcome, code, buckets in (
            ("arrivals", f"type{n}", "", "", None),
            ("attempts", f"type{n}", "dlq", f"CODE{n}", None),
            ("duration", f"type{n}", "", "", [1] * 15),
            ("wait", "", "", "", [1] * 12),
            ("leases_expired", "", "", "", None),
            ("replays", "", "", "", None),
            ("ingest_decisions", "", "", f"R{n}", None),
            ("policy_decisions", "", "", f"R{n}", None),
        )
    ]
    totals = Totals(
        sums, {"active": 2}, {"jobs": 0}, [MaintenanceFacts("archive", NOW, 7)],
        collectors={"queues": False},
    )  # fmt: skip
    return prometheus.Snapshot(taken, totals, 0.1)


@pytest.mark.parametrize("counted", [1, 600])
def test_no_label_has_more_values_than_200_and_other(counted: int) -> None:
    text = prometheus.text(snapshot(10_000, counted))
    values: defaultdict[tuple[str, str], set[str]] = defaultdict(set)
    for name, family in families(text).items():
        for sample in family.samples:
            for label, value in sample.labels.items():
                values[name, label].add(value)
    assert max(len(found) for found in values.values()) == 201
    assert all("other" in found for found in values.values() if len(found) == 201)
    assert len(text) < 2_000_000


def test_what_becomes_other_is_added_up() -> None:
    found = families(prometheus.text(snapshot(10_000, 600)))
    for name in ("pgflow_jobs_enqueued_total", "pgflow_replays_total"):
        assert sum(s.value for s in found[name].samples) == 600
    jobs = found["pgflow_queue_jobs"].samples
    waiting = [sample.value for sample in jobs if sample.labels["state"] == "runnable"]
    assert sum(waiting) == 10_000 * EMAILS.runnable
    [depth] = found["pgflow_queue_depth"].samples
    assert depth.value == 10_000 * EMAILS.runnable


def test_dropped_lines_of_the_log_are_added_up_and_are_no_queues() -> None:
    before = snapshot(1, 200)
    assert before.totals is not None
    dropped = CounterSum("log_lines_dropped", "", "", "", "", 7, 0.0, None)
    after = replace(
        before,
        totals=replace(before.totals, counters=[dropped, *before.totals.counters]),
    )
    found = families(prometheus.text(after))
    [lines] = found["pgflow_log_lines_dropped_total"].samples
    assert (lines.value, lines.labels) == (7, {})
    waits = found["pgflow_jobs_enqueued_total"].samples
    assert "other" not in {sample.labels["queue"] for sample in waits}


def test_a_queue_that_comes_later_takes_nobodys_series() -> None:
    """Though it is counted in a metric that stands before the others."""
    before = snapshot(0, 199)
    assert before.totals is not None
    late = [
        CounterSum("arrivals", f"new{n}", "t", "", "", 1, 0.0, None) for n in range(9)
    ]
    after = replace(
        before, totals=replace(before.totals, counters=[*before.totals.counters, *late])
    )
    name = "pgflow_ingest_decisions_total"
    assert values_of(prometheus.text(after), name) == values_of(
        prometheus.text(before), name
    )


def values_of(text: bytes, name: str) -> set[tuple[str, float]]:
    return {(s.labels["queue"], s.value) for s in families(text)[name].samples}


def test_the_exposition_is_without_fault() -> None:
    text = prometheus.text(snapshot(3, 3))
    promtool("check", "metrics", given=text)
    found = {name: family for name, family in families(text).items() if family.samples}
    assert set(found) == set(TABLE)
