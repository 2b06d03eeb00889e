"""What the long trials play: which stage is for which faults, and orders in parts."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from itertools import combinations_with_replacement, islice, permutations

from tests.trials.faults import FAULTS, Fault, Stage
from tests.trials.orders import (
    OPERATIONS,
    Operation,
    Theatre,
    meet,
    orders,
    while_held,
)

Play = tuple[Sequence[Operation], Sequence[int], int | None]

# Groups or names of faults that a stage is for. Each kind is of one stage or two: so a
# run of all of them has about as many samples of each.
SUBJECTS: dict[str, Collection[str]] = {
    "alone": ("processes", "forks fail", "descriptors run out", "log is not read"),
    "pair": ("network", "settings"),
    "pooled": (
        "server killed",
        "server stopped at once",
        "server restarted",
        "sessions terminated",
        "statements canceled",
        "session stands still",
        "connections run out",
        "table locked",
    ),
    "skewed": ("clock steps",),
    "adrift": ("clock steps", "server killed"),
    "cramped": ("disk full",),
    "restored": ("restores", "operators"),
    "replicated": ("failover to the standby",),
}


def subjects(name: str, stage: Stage) -> tuple[list[Fault], list[Fault]]:
    """Return the faults that a stage is for, and all others that fit it."""
    wanted = set(SUBJECTS[name])
    fitting = [fault for fault in FAULTS.values() if fault.fits(stage)]
    own = [fault for fault in fitting if {fault.group, fault.name} & wanted]
    return own, [fault for fault in fitting if fault not in own]


def share(name: str) -> float:
    """Return how much of a run of all stages one has: by its kinds of faults."""

    def weight(name: str) -> int:
        wanted = set(SUBJECTS[name])
        # Beside its own there are a few others, and it takes a while to begin.
        return 5 + sum(bool({f.group, f.name} & wanted) for f in FAULTS.values())

    return weight(name) / sum(map(weight, SUBJECTS))


def plays() -> Iterator[Play]:
    """Yield every order of every two operations that may meet, with either rolled back
    as well, and every three that wait in a row.
    """
    for pair in filter(meet, combinations_with_replacement(OPERATIONS, 2)):
        for order in orders([operation.statements + 1 for operation in pair]):
            for rolled_back in (None, 0, 1):
                yield pair, order, rolled_back
    for three in filter(meet, permutations(OPERATIONS, 3)):
        yield three, while_held(three), None


def part_of(whole: Iterable[Play], part: int, parts: int) -> Iterator[Play]:
    """Yield one part of so many, the first being 1; each has some of everything."""
    return islice(whole, part - 1, None, parts)


def play(
    url: str, part: int, parts: int, tell: Callable[[str], None]
) -> dict[object, list[str]]:
    """Play one part of so many; return what went wrong.

    What goes wrong is told at once, as the part that is this play alone.
    """
    theatre = Theatre(url, sessions=3)
    whole = list(plays())
    found: dict[object, list[str]] = {}
    mine = list(part_of(whole, part, parts))
    for count, (operations, order, rolled_back) in enumerate(mine, start=1):
        if wrong := theatre.play(operations, order, rolled_back):
            names = tuple(operation.name for operation in operations)
            found[names, tuple(order), rolled_back] = wrong
            number = part + parts * (count - 1)
            tell(f"again: --orders --part {number}/{len(whole)}: {names}: {wrong[0]}")
        if count % 100 == 0:
            tell(f"{count} orders of {len(mine)}, {len(found)} went wrong")
    theatre.close()
    tell(f"{len(mine)} orders (part {part} of {parts}), {len(found)} went wrong")
    return found
