"""Runs the long trials: `make trials ARGS="--minutes 10 --seed 7 --stages pair"`.

A seed decides the jobs, the faults, their order and what each of them chooses.
"""

from __future__ import annotations

import argparse
import signal
import sys
import time
from collections.abc import Callable, Collection

import psycopg
import pytest

from tests.private_servers import private_server
from tests.trials import orders, world
from tests.trials.faults import FAULTS, Fault, Stage
from tests.trials.stages import STAGES
from tests.trials.trial import Report, run, schedule


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
    ends = [_play_orders()] if chosen.orders else []
    if not chosen.orders or chosen.stages:
        print(f"seed {chosen.seed}", flush=True)
        ends += [_play(name, chosen) for name in chosen.stages or STAGES]
    return max(ends)


def _play_orders() -> int:
    print("== orders of statements", flush=True)
    with private_server(fsync="off") as server:
        url = server.migrated()
        with psycopg.connect(url) as connection:
            world.prepare(connection)
        found = orders.play_all(url, lambda line: print(line, flush=True))
    print(orders.told(found), flush=True)
    return 1 if found else 0


def _play(name: str, chosen: argparse.Namespace) -> int:
    print(f"== {name}: {chosen.minutes:g} minutes, seed {chosen.seed}", flush=True)
    try:
        with STAGES[name](chosen.seed) as stage:
            report = _run(stage, chosen)
            if chosen.keep and report.violations:
                print(f"logs: {stage.rig.keep()}")
    except pytest.skip.Exception as reason:
        print(f"left out: {reason}")
        return 0
    print(report, flush=True)
    return 1 if report.violations else 0


def _run(stage: Stage, chosen: argparse.Namespace) -> Report:
    deadline = time.monotonic() + 60 * chosen.minutes
    return run(
        stage,
        schedule(chosen.seed, _fitting(stage, chosen.faults)),
        enough=lambda _: time.monotonic() > deadline,
        tell=lambda line: print(line, flush=True),
    )


def _fitting(stage: Stage, names: list[str]) -> list[Fault]:
    wanted = [f for f in FAULTS.values() if f.name in names or f.group in names]
    return [fault for fault in wanted or FAULTS.values() if fault.fits(stage)]


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make trials", description=__doc__)
    parser.add_argument("--minutes", type=float, default=2, help="for each stage")
    parser.add_argument("--seed", type=int, default=int(time.time()) % 100000)
    parser.add_argument("--stages", type=_known(STAGES), default=[])
    groups = {f.group for f in FAULTS.values()}
    parser.add_argument("--faults", type=_known({*FAULTS, *groups}), default=[])
    parser.add_argument("--orders", action="store_true", help="of real statements")
    parser.add_argument("--list", action="store_true", help="list faults and end")
    parser.add_argument("--keep", action="store_true", help="keep the logs of failures")
    return parser.parse_args()


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
