"""What the benchmark beside other queues makes of its measurements."""

from __future__ import annotations

import array
import json
import re
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import pytest

from tests.benchmarks.peers import plot, table
from tests.benchmarks.peers.__main__ import BEGIN, END, README
from tests.benchmarks.peers.catalog import PEERS, PGFLOW, Peer
from tests.benchmarks.peers.figures import Measure, Summary, quantile, ratio
from tests.benchmarks.peers.protocol import (
    PROGRAMS,
    PeerFailed,
    Runner,
    Task,
)
from tests.benchmarks.peers.rounds import Plan, Round
from tests.benchmarks.peers.scenarios import (
    SCENARIOS,
    Row,
    measures_of,
    play,
    rows_of,
    scenario_of,
)
from tests.benchmarks.peers.starts import Start, Starts, WrongJobs, rate, waits

MEASURES = {
    "drain1": Measure("drain", "jobs/s"),
    "idle-p50": Measure("wait p50 < 5", "ms", more_is_better=False),
}
RESULTS = {
    "drain1": {
        "pgflow": [22_000.0, 20_000.0, 21_000.0],
        "slow & odd": [1_000.0, None, 2_000.0],
        "absent": [None, None, None],
    },
    "idle-p50": {
        "pgflow": [4.0, 5.0, 6.0],
        "slow & odd": [2_000.0, 2_500.0, 3_000.0],
        "absent": [None, None, None],
    },
}
NOTES = {("drain1", "absent"): "not installed: npm ERR! " + "x" * 200}


def test_a_median_stands_between_the_lowest_and_the_highest() -> None:
    assert Summary.of([3.0, None, 1.0, 9.0]) == Summary(3.0, 1.0, 9.0)
    assert Summary.of([None, None]) is None


def test_a_ratio_compares_figures_of_the_same_round() -> None:
    # The ratio of the medians would be 2: a disturbed round changes both figures.
    assert ratio([10.0, 20.0, 30.0], [10.0, 5.0, 10.0]) == 3.0
    assert ratio([10.0, None, 30.0], [5.0, 5.0, None]) == 2.0
    assert ratio([10.0], [0.0]) is None


def test_a_quantile_is_a_value_that_was_measured() -> None:
    hundred = [float(n) for n in range(1, 101)]
    assert [quantile(hundred, part) for part in (0.5, 0.99, 1.0)] == [50.0, 99.0, 100.0]
    assert quantile([7.0], 0.99) == 7.0


def test_a_rate_counts_what_follows_the_first_start() -> None:
    rows = [Start(n, 0.0, 10.0 + n / 100) for n in range(101)]
    assert rate(rows) == pytest.approx(100.0)
    assert rate(rows[:1]) == 0.0


def test_jobs_that_have_not_started_count_among_the_waits() -> None:
    rows = [Start(0, 1.0, 1.5), Start(1, 1.0, 1.25)]
    assert waits(rows, 2, at_least=400.0) == [250.0, 400.0, 400.0, 500.0]


def test_a_job_that_started_twice_is_an_error(tmp_path: Path) -> None:
    note(tmp_path / "1", (7, 1.0, 2.0), (8, 1.0, 2.5))
    note(tmp_path / "2", (9, 1.0, 2.25))
    starts = Starts(tmp_path)
    assert [row.number for row in starts.of(7, 3)] == [7, 9, 8]
    note(tmp_path / "3", (8, 1.0, 3.0))
    with pytest.raises(WrongJobs):
        starts.of(7, 3)
    assert len(starts.of(9, 1)) == 1
    # Where each job is to fail once it starts twice, and no more than that.
    assert len(starts.of(7, 3, each=2)) == 4
    note(tmp_path / "4", (8, 1.0, 3.5))
    with pytest.raises(WrongJobs):
        starts.of(7, 3, each=2)


def test_a_row_that_is_half_written_is_not_read(tmp_path: Path) -> None:
    note(tmp_path / "1", (7, 1.0, 2.0))
    with (tmp_path / "1").open("ab") as file:
        file.write(b"half")
    assert len(Starts(tmp_path).of(0, 10)) == Starts(tmp_path).count() == 1


def test_the_table_is_eighty_columns_wide_and_leaves_no_queue_out() -> None:
    lines = table.lines(MEASURES, RESULTS, NOTES, ours="pgflow")
    assert max(len(line) for line in lines) == 80
    assert [line.split()[0] for line in lines if line.startswith("  ")] == [
        "pgflow", "slow", "absent", "not", "pgflow", "slow", "absent",
    ]  # fmt: skip
    slow = next(line for line in lines if "slow" in line)
    # 22,000 / 1,000 and 21,000 / 2,000; the round between has no figure.
    assert slow.split()[3:] == ["1,500", "1,000–2,000", "16.2"]
    assert any("npm ERR!" in line for line in lines)


def test_the_plot_is_well_formed_and_its_bars_stay_inside() -> None:
    drawn = plot.svg(MEASURES, RESULTS, ours="pgflow")
    root = ElementTree.fromstring(drawn)  # noqa: S314 - our own
    bars = [e for e in root.iter() if e.tag.endswith("rect")][1:]
    assert len(bars) == 4
    for bar in bars:
        assert float(bar.get("x", 0)) + float(bar.get("width", 0)) <= plot.WIDTH
    texts = ["".join(e.itertext()) for e in root.iter() if e.tag.endswith("text")]
    assert texts.count("not measured") == 2
    assert "slow & odd" in texts


def test_the_short_table_sets_the_best_of_the_others_beside_ours() -> None:
    results = {
        "drain1": {
            "pgflow": [20_000.0, 21_000.0],
            "slow": [1_000.0, 1_000.0],
            "fast": [40_000.0, 42_000.0],
            "absent": [None, None],
            "(pgbench)": [90_000.0, 90_000.0],
        },
        "idle-p50": {"pgflow": [4.0, 4.0], "slow": [8.0, 8.0], "fast": [16.0, 16.0]},
    }
    notes = {
        ("drain1", "absent"): "it has no workers",
        ("drain1", "fast"): "cut off",
        ("drain1", "slow"): "of no interest here",
    }
    lines = table.short(MEASURES, results, notes, ours="pgflow")
    assert [line.split()[-4:] for line in lines[1:3]] == [
        ["20,500", "41,000", "fast", "0.50"],
        ["4.00", "8.00", "slow", "0.50"],
    ]
    assert [line.strip() for line in lines[3:]] == [
        "fast, drain1: cut off",
        "absent, drain1: it has no workers",
    ]
    assert max(len(line) for line in lines) <= table.WIDTH
    kept = table.with_best(MEASURES, results, ours="pgflow")
    assert [[*found] for found in kept.values()] == [
        ["pgflow", "fast"], ["pgflow", "slow"],
    ]  # fmt: skip


def test_a_queue_that_stands_alone_has_no_ratio() -> None:
    alone = {"pgflow": [4.0]}
    results = {"drain1": alone, "idle-p50": {"pgflow": [None], "peer": [None]}}
    lines = table.short(MEASURES, results, {}, ours="pgflow")
    assert lines[1].split()[-2:] == ["4.00", "—"]
    assert lines[2].split()[-2:] == ["—", "—"]


def test_a_plan_has_the_measures_of_its_scenarios() -> None:
    plan = a_plan("drain1", "steady")
    assert [*measures_of(rows_of(plan))] == [
        "drain1", "steady-200-done", "steady-200-p50", "steady-200-p99",
    ]  # fmt: skip
    everything = rows_of(a_plan(*SCENARIOS))
    assert {scenario_of(key) for key in measures_of(everything)} == {*SCENARIOS}
    for row in everything:
        assert row.seconds > 0
        assert {scenario_of(key) for key in row.measures} == {scenario_of(row.name)}


def test_each_measure_has_room_for_its_name_in_the_short_table() -> None:
    plan = replace(a_plan(*SCENARIOS), rates=(200, 1_000, 4_000), backlog=1_000_000)
    for measure in measures_of(rows_of(plan)).values():
        assert len(f"{measure.name} {measure.unit} ↑") <= 39, measure


def test_a_scenario_that_failed_or_was_played_otherwise_says_so(tmp_path: Path) -> None:
    peer = replace(PGFLOW, unlike={"fails": "slower"})
    played = a_round(tmp_path, peer)

    def played_well(round_: Round) -> None:
        round_.figures["fails"] = 1.0
        round_.notes["fails"] = "cut off"

    def failed(round_: Round) -> None:
        raise PeerFailed("its last words")

    measure = Measure("any", "jobs/s")
    play(
        played,
        [
            Row("fails", played_well, {"fails": measure}, 1.0),
            Row("async-4", failed, {"async-4": measure}, 1.0),
        ],
        lambda text: None,
    )
    assert played.notes == {
        "fails": "slower; cut off",
        "async-4": "its last words",
    }


def test_a_runner_takes_the_concurrency_of_a_scenario(tmp_path: Path) -> None:
    runner = a_round(tmp_path, PGFLOW).base
    many = runner.doing(Task(pause=0.001), 64)
    assert many.settings.options == {"concurrency": 64}
    assert runner.doing(Task(), None) == runner


@pytest.mark.parametrize("peer", [PGFLOW, *PEERS], ids=lambda peer: peer.name)
def test_what_a_catalog_says_of_scenarios_is_about_scenarios(peer) -> None:
    assert {*peer.unlike} <= {*SCENARIOS}
    # Handlers that wait are measured at several concurrencies.
    assert peer.missing or peer.at(64) != peer.at(4)


@pytest.mark.parametrize("peer", PEERS, ids=lambda peer: peer.name)
def test_every_package_is_pinned(peer) -> None:
    assert peer.missing or peer.requirements
    for requirement in peer.requirements:
        assert re.fullmatch(r"@?[^@=]+(==|@)\d+(\.\d+)+", requirement), requirement
    assert peer.missing or peer.requirements[0].endswith(peer.version)


@pytest.mark.parametrize("peer", [PGFLOW, *PEERS], ids=lambda peer: peer.name)
def test_a_peer_has_a_program_and_best_settings_first(peer) -> None:
    assert peer.missing or (PROGRAMS / peer.program).is_file()
    assert peer.settings[0].name == "best"
    for settings in peer.settings:
        json.dumps(settings.options)


def test_the_readme_has_a_place_for_the_table() -> None:
    text = README.read_text(encoding="utf-8")
    assert text.index(BEGIN) < text.index(END)


def a_plan(*scenarios: str) -> Plan:
    return Plan(scenarios, 100, 1, 1, 1.0, (200,), 1.0, 100, 1.0)


def a_round(folder: Path, peer: Peer) -> Round:
    runner = Runner(peer, peer.settings[0], folder, "", folder)
    return Round(runner, "", a_plan("drain1"))


def note(path: Path, *rows: tuple[float, float, float]) -> None:
    path.write_bytes(b"".join(array.array("d", row).tobytes() for row in rows))
