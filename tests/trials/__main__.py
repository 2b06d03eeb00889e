"""Runs the long trials: `make trials ARGS="--minutes 15 --seed 7"`.

A seed decides the jobs, the faults, their order and what each of them chooses. The
minutes are for all stages together; a stage goes on until it has recovered a few times
from each kind of fault that it is for. The last table is of all of them.
"""

from __future__ import annotations

import argparse
import signal
import sys
import time
from collections.abc import Callable, Collection

import psycopg
import pytest

from tests.support.private_servers import private_server
from tests.trials import orders, programme, world
from tests.trials.faults import FAULTS
from tests.trials.stages import STAGES
from tests.trials.trial import Report, run, schedule, summary


def main() -> int:
    """Run what was asked for; return 1 if anything was broken."""
    chosen = _arguments()
    # Everything that was started ends, however this ends.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    if chosen.list:
        for fault in FAULTS.values():
            needs = f" (needs {fault.needs})" if fault.needs else ""
            print(f"{fault.group:10} {fault.name}{needs}")
        return 0
    ends = [_play_orders(*chosen.part)] if chosen.orders else []
    if not chosen.orders or chosen.stages:
        ends.append(_play_stages(chosen))
    return max(ends)


def _play_orders(part: int, parts: int) -> int:
    print("== orders of statements", flush=True)
    with private_server(fsync="off") as server:
        url = server.migrated()
        with psycopg.connect(url) as connection:
            world.prepare(connection)
        found = programme.play(url, part, parts, _tell)
    print(orders.told(found), flush=True)
    return 1 if found else 0


def _play_stages(chosen: argparse.Namespace) -> int:
    names = chosen.stages or list(STAGES)
    total = sum(map(programme.share, names))
    reports = []
    for name in names:
        minutes = chosen.minutes * programme.share(name) / total
        print(f"== {name}: {minutes:.1f} minutes, seed {chosen.seed}", flush=True)
        try:
            reports.append(_play(name, minutes, chosen))
        except pytest.skip.Exception as reason:
            print(f"left out: {reason}", flush=True)
    if not reports:
        return 0
    print(f"== all, seed {chosen.seed}: {summary(reports)}", flush=True)
    return 1 if any(report.violations for report in reports) else 0


def _play(name: str, minutes: float, chosen: argparse.Namespace) -> Report:
    with STAGES[name](chosen.seed) as stage:
        own, others = programme.subjects(name, stage)
        if chosen.faults:
            wanted = set(chosen.faults)
            own = [f for f in [*own, *others] if {f.group, f.name} & wanted]
            others = []
        deadline = time.monotonic() + 60 * minutes

        def enough(report: Report) -> bool:
            late = time.monotonic() > deadline
            return late and report.samples(own) >= chosen.samples

        injections = schedule(chosen.seed, own, others)
        report = run(stage, injections, enough=enough, tell=_tell)
        print(report, flush=True)
        if chosen.keep and report.violations:
            print(f"logs: {stage.rig.keep()}")
        return report


def _tell(line: str) -> None:
    print(line, flush=True)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make trials", description=__doc__)
    parser.add_argument("--minutes", type=float, default=15, help="for all stages")
    parser.add_argument("--seed", type=int, default=int(time.time()) % 100000)
    parser.add_argument("--stages", type=_known(STAGES), default=[])
    groups = {f.group for f in FAULTS.values()}
    parser.add_argument("--faults", type=_known({*FAULTS, *groups}), default=[])
    parser.add_argument(
        "--samples", type=int, default=3, help="of each kind's recovery, at the least"
    )
    parser.add_argument("--orders", action="store_true", help="of real statements")
    parser.add_argument(
        "--part", type=_part, default=(1, 1), help="of the orders, such as 1/4"
    )
    parser.add_argument("--list", action="store_true", help="list faults and end")
    parser.add_argument("--keep", action="store_true", help="keep the logs of failures")
    return parser.parse_args()


def _part(text: str) -> tuple[int, int]:
    part, _, parts = text.partition("/")
    if not (part.isdecimal() and parts.isdecimal() and 1 <= int(part) <= int(parts)):
        raise argparse.ArgumentTypeError(f"{text} is no part such as 1/4")
    return int(part), int(parts)


def _known(names: Collection[str]) -> Callable[[str], list[str]]:
    def split(text: str) -> list[str]:
        given = text.split(",")
        for name in given:
            if name not in names:
                raise argparse.ArgumentTypeError(f"{name} is none of {sorted(names)}")
        return given

    return split


if __name__ == "__main__":
    sys.exit(main())
