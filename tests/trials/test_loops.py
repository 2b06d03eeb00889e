"""Small trials of some stages: real workers, real faults, and every zero at the end.

Conditions decide when a fault has passed; the seeds are fixed, so that a failure can be
repeated: `make trials ARGS="--seed 1 --stages pooled --faults database"`.
"""

from __future__ import annotations

from itertools import islice
from pathlib import Path

import pytest

from tests.support.private_servers import PrivateServer
from tests.trials import programme
from tests.trials.faults import FAULTS
from tests.trials.rig import Rig
from tests.trials.stages import STAGES
from tests.trials.trial import run, schedule

# To start a stage takes as long as several faults: so there are few, and in each of
# them many kinds of faults, each once.
SMALL = [
    pytest.param(
        "alone",
        {
            "tree killed",
            "child killed",
            "supervisor stopped past its lease",
            "process dies after its job",
            "log is not read",
            "descriptors run out",
            "forks fail",
            "connections cut",
            "connections reset",
            "connections half closed",
            "host rejected",
            "password changed",
        },
        1,
        id="processes",
    ),
    pytest.param(
        "pooled",
        {
            "server restarted",
            "server stopped at once",
            "sessions terminated",
            "statements canceled",
            "queue paused",
            "upkeep at its smallest",
            "jobs canceled",
            "dead letters replayed",
        },
        1,
        id="database",
    ),
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
@pytest.mark.timeout(900)  # as long as jobs end, it goes on
@pytest.mark.parametrize(("stage_name", "names", "rounds"), SMALL)
def test_every_job_ends_once_whatever_happens(
    stage_name: str, names: set[str], rounds: int
) -> None:
    with STAGES[stage_name](1) as stage:
        faults = [f for f in FAULTS.values() if f.name in names and f.fits(stage)]
        report = run(
            stage,
            schedule(1, faults),
            enough=lambda report: sum(report.injected.values()) == rounds * len(faults),
        )
    print(report)
    assert report.violations == {}


def test_what_goes_on_is_waited_for(tmp_path: Path) -> None:
    """However slow the machine: it may take no second at all between two steps."""
    rig = Rig(PrivateServer(tmp_path, tmp_path), tmp_path, seed=1, url="")
    left = iter(range(5, -1, -1))
    assert rig.wait(lambda: next(left) == 0, "the last job", 0, object)
    assert not rig.unexpected
    assert not rig.wait(lambda: False, "a job ends", 0, lambda: 3)
    assert rig.unexpected == ["not within 0 s: a job ends"]


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
