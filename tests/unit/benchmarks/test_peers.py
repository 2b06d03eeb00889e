"""What the benchmark beside other queues makes of its measurements."""

from __future__ import annotations

import array
import json
import re
from pathlib import Path
from xml.etree import ElementTree

import pytest

from tests.benchmarks.peers import plot, table
from tests.benchmarks.peers.__main__ import BEGIN, END, README
from tests.benchmarks.peers.catalog import PEERS, PGFLOW
from tests.benchmarks.peers.figures import Measure, Summary, quantile, ratio
from tests.benchmarks.peers.protocol import PROGRAMS
from tests.benchmarks.peers.scenarios import SCENARIOS, Plan
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


def test_a_plan_has_the_measures_of_its_scenarios() -> None:
    plan = Plan(("drain1", "steady"), 1, 1, 1, 1.0, (200,), 1.0)
    assert [*plan.measures()] == [
        "drain1", "steady-200-done", "steady-200-p50", "steady-200-p99",
    ]  # fmt: skip
    everything = Plan(SCENARIOS, 1, 1, 1, 1.0, (200,), 1.0).measures()
    assert {key.partition("-")[0] for key in everything} == {*SCENARIOS}


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


def note(path: Path, *rows: tuple[float, float, float]) -> None:
    path.write_bytes(b"".join(array.array("d", row).tobytes() for row in rows))
