"""Small trials of every stage: real workers, real faults, and every zero at the end.

Conditions decide when a fault has passed; the seeds are fixed, so that a failure can be
repeated: `make trials ARGS="--seed 1 --stages pair --faults processes"`.
"""

from __future__ import annotations

from itertools import islice

import pytest

from tests.trials.faults import FAULTS
from tests.trials.stages import STAGES
from tests.trials.trial import run, schedule

SMALL = [
    pytest.param("alone", {"processes"}, 4, id="processes"),
    pytest.param("pair", {"network", "host"}, 6, id="network"),
    pytest.param("pair", {"database", "settings"}, 6, id="database"),
    pytest.param("pooled", {"operators"}, 4, id="operators"),
    pytest.param("skewed", {"clock steps"}, 2, id="clock"),
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
