"""One trial: a mix of jobs, faults in an order that follows from a seed, a verdict."""

from __future__ import annotations

import random
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from tests.trials.checker import Verdict
from tests.trials.faults import FAULTS, Fault, Stage
from tests.trials.rig import Rig

ZEROS = (
    "lost",
    "stuck",
    "settled_twice",
    "overlap_under_a_live_lease",
    "start_without_row",
)
# Beyond the lease, until one job more has ended: reaping's interval, back-off, jobs
# that may kill their process and run alone. What is stuck stays so for longer.
_GRACE = 60.0


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

    def samples(self, faults: Iterable[Fault]) -> int:
        """Return how often each of these has been recovered from at the least."""
        return min((len(self.recoveries[fault.name]) for fault in faults), default=0)

    def __str__(self) -> str:
        total = sum(self.injected.values())
        return "\n".join(
            [
                f"seed {self.seed}: {total} faults in {self.seconds:.0f} s",
                *_table([self]),
                str(self.verdict),
                zeros([self]),
            ]
        )


def summary(reports: Sequence[Report]) -> str:
    """Return the findings of several trials together."""
    jobs: Counter[str] = Counter()
    groups: Counter[str] = Counter()
    for report in reports:
        assert report.verdict is not None
        jobs.update(report.verdict.counts)
        for name, count in report.injected.items():
            groups[FAULTS[name].group] += count
    return "\n".join(
        [
            f"{len(reports)} trials, {sum(report.seconds for report in reports):.0f} s",
            *_table(reports),
            f"{sum(groups.values())} faults: "
            + ", ".join(f"{count} {group}" for group, count in sorted(groups.items())),
            ", ".join(f"{count} {name}" for name, count in jobs.items()),
            zeros(reports),
        ]
    )


def zeros(reports: Sequence[Report]) -> str:
    """Return the counts that must be zero, and what else was broken."""
    found = Counter(dict.fromkeys(ZEROS, 0))
    for report in reports:
        found.update({name: len(what) for name, what in report.violations.items()})
    return "zeros: " + ", ".join(f"{name} {count}" for name, count in found.items())


def _table(reports: Sequence[Report]) -> Iterator[str]:
    """Yield how long it took after each kind of fault until short jobs ran as before:
    in seconds, and in leases.
    """
    lease = max(report.lease for report in reports)
    injected: Counter[str] = Counter()
    recoveries: defaultdict[str, list[float]] = defaultdict(list)
    for report in reports:
        injected.update(report.injected)
        for name, took in report.recoveries.items():
            recoveries[name] += took
    head = f"recovery (lease {lease} s)"
    yield f"{head:30} {'n':>4} {'samples':>8} {'p50':>8} {'max':>8} {'max/lease':>10}"
    order = sorted(injected, key=lambda name: (FAULTS[name].group, name))
    for name in order:
        line = f"{name:30} {injected[name]:4} {len(recoveries[name]):8}"
        if took := sorted(recoveries[name]):
            middle, most = took[len(took) // 2], took[-1]
            line += f" {middle:6.1f} s {most:6.1f} s {most / lease:10.1f}"
        yield line


def schedule(
    seed: int, faults: Sequence[Fault], others: Sequence[Fault] = ()
) -> Iterator[Injection]:
    """Yield what follows from a seed: the same faults in the same order, always.

    Each of `faults` comes once a round, with a few of the `others` between them.
    """
    assert faults, "no fault fits the stage"
    chance = random.Random(seed)
    while True:
        few = chance.sample(list(others), min(len(others), 2 + len(faults) // 4))
        order = chance.sample([*faults, *few], len(faults) + len(few))
        for fault in order:
            pause = chance.uniform(0.1, 0.8)
            # Others are not waited for: what comes next finds them at work.
            patient = chance.random() < (0.2 if fault in few else 0.75)
            yield Injection(fault, chance.randrange(1 << 30), pause, patient)


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

    what = f"recovery from “{name}”"
    rig.wait(recovered, what, rig.lease + _GRACE, lambda: missing and len(missing))
    return time.monotonic() - began
