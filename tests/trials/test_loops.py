"""Small trials of every stage: real workers, real faults, and every zero at the end.

Conditions decide when a fault has passed; the seeds are fixed, so that a failure can be
repeated: `make trials ARGS="--seed 1 --stages pair --faults processes"`.
"""

from __future__ import annotations

from itertools import islice

import pytest

from tests.trials import programme
from tests.trials.faults import FAULTS
from tests.trials.stages import STAGES
from tests.trials.trial import run, schedule

SMALL = [
    pytest.param("alone", {"processes"}, 4, id="processes"),
    pytest.param("pair", {"network", "host"}, 6, id="network"),
    pytest.param("pair", {"database", "settings"}, 6, id="database"),
    pytest.param("pooled", {"operators"}, 4, id="operators"),
    pytest.param("skewed", {"clock steps"}, 2, id="clock"),
    pytest.param(
        "restored",
        {"restored beside workers"},
        1,
        id="restore",
        marks=pytest.mark.long,
    ),
    pytest.param("replicated", {"failover to the standby"}, 2, id="failover"),
]


@pytest.mark.slow
@pytest.mark.timeout(400)
@pytest.mark.parametrize(("stage_name", "groups", "count"), SMALL)
def test_every_job_ends_once_whatever_happens(
    stage_name: str, groups: set[str], count: int
) -> None:
    with STAGES[stage_name](1) as stage:
        wanted = [f for f in FAULTS.values() if {f.group, f.name} & groups]
        faults = [fault for fault in wanted if fault.fits(stage)]
        report = run(
            stage,
            schedule(1, faults),
            enough=lambda report: sum(report.injected.values()) == count,
        )
    print(report)
    assert report.violations == {}


def test_a_seed_decides_the_faults() -> None:
    def first(seed: int) -> list[tuple[str, int]]:
        injections = schedule(seed, list(FAULTS.values()))
        return [(i.fault.name, i.seed) for i in islice(injections, 50)]

    assert first(7) == first(7) != first(8)


def test_a_long_run_has_each_fault_in_a_stage_of_its_own() -> None:
    assert programme.SUBJECTS.keys() == STAGES.keys()
    named = set().union(*programme.SUBJECTS.values())
    assert named <= {*FAULTS, *(fault.group for fault in FAULTS.values())}
    assert [f.name for f in FAULTS.values() if not {f.name, f.group} & named] == []
    assert sum(map(programme.share, STAGES)) == pytest.approx(1)


def test_the_parts_of_the_orders_are_all_orders() -> None:
    def played(part: int, parts: int) -> list[programme.Play]:
        return list(programme.part_of(programme.plays(), part, parts))

    whole = [play for number in (1, 2, 3) for play in played(number, 3)]
    assert len(whole) == len(played(1, 1)) > 10_000
