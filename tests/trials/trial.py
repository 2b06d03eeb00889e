"""One trial: a mix of jobs, faults in an order that follows from a seed, a verdict."""

from __future__ import annotations

import itertools
import random
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from tests.trials.checker import Verdict
from tests.trials.faults import Fault, Stage
from tests.trials.rig import Rig

ZEROS = (
    "lost",
    "stuck",
    "settled_twice",
    "overlap_under_a_live_lease",
    "start_without_row",
)
# Beyond the lease: reaping's interval, back-off, jobs that may kill their process and
# run alone, each after the long jobs of its process. What is stuck stays so for longer.
_GRACE = 120.0


@dataclass(frozen=True)
class Injection:
    """A fault with its own seed; a `patient` one is recovered from before the next."""

    fault: Fault
    seed: int
    pause: float
    patient: bool


@dataclass
class Report:
    """What a trial has done and found."""

    seed: int
    lease: int
    recoveries: dict[str, list[float]] = field(
        default_factory=lambda: defaultdict(list)
    )
    injected: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    verdict: Verdict | None = None
    seconds: float = 0.0

    @property
    def violations(self) -> dict[str, list[str]]:
        """Return what was broken."""
        assert self.verdict is not None
        return self.verdict.violations

    def __str__(self) -> str:
        assert self.verdict is not None
        zeros = ", ".join(f"{n} {len(self.violations.get(n, []))}" for n in ZEROS)
        total = sum(self.injected.values())
        return "\n".join(
            [
                f"seed {self.seed}: {total} faults in {self.seconds:.0f} s",
                *self._table(),
                str(self.verdict),
                f"zeros: {zeros}",
            ]
        )

    def _table(self) -> Iterator[str]:
        yield f"{'fault':34} {'n':>4}  recovery p50, max (lease {self.lease} s)"
        for name, count in sorted(self.injected.items()):
            took = sorted(self.recoveries[name])
            told = f"{took[len(took) // 2]:.1f} s, {took[-1]:.1f} s" if took else ""
            yield f"{name:34} {count:4}  {told}"


def schedule(seed: int, faults: Sequence[Fault]) -> Iterator[Injection]:
    """Yield what follows from a seed: the same faults in the same order, always."""
    chance = random.Random(seed)
    for round_ in itertools.count():
        # Every kind comes once a round, so that a short trial has most of them.
        order = chance.sample(list(faults), len(faults))
        for fault in order:
            pause, patient = chance.uniform(0.1, 0.8), chance.random() < 0.6
            yield Injection(fault, chance.randrange(1 << 30), pause, patient)
        assert order, f"no fault fits the stage in round {round_}"


def run(
    stage: Stage,
    injections: Iterator[Injection],
    *,
    enough: Callable[[Report], bool],
    tell: Callable[[str], None] = print,
) -> Report:
    """Inject faults until there are enough, come to rest, and judge."""
    rig = stage.rig
    report = Report(rig.seed, rig.lease)
    started = time.monotonic()
    rig.wait(rig.succeeded, "the first job succeeds")
    while not enough(report) and not rig.unexpected:
        injection = next(injections)
        number = sum(report.injected.values()) + 1
        name = injection.fault.name
        tell(f"{time.monotonic() - started:7.1f} s  {number:4}  {name}")
        injection.fault.act(stage, random.Random(injection.seed))
        report.injected[name] += 1
        rig.tend()
        if injection.patient:
            report.recoveries[name].append(_recover(rig, name))
        time.sleep(injection.pause)
    rig.come_to_rest()
    rig.end_supervisors()
    report.verdict = rig.verdict()
    report.seconds = time.monotonic() - started
    return report


def _recover(rig: Rig, name: str) -> float:
    """Wait until every short job that is due now has ended; return how long it took."""
    began = time.monotonic()
    missing: set[str] | None = None

    def recovered() -> bool:
        nonlocal missing
        rig.tend()
        due = rig.due_shorts()
        missing = due if missing is None else missing & due
        return not missing

    rig.wait(recovered, f"recovery from “{name}”", rig.lease + _GRACE)
    return time.monotonic() - began
