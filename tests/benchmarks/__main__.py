"""Runs every benchmark, or one: `python -m tests.benchmarks work --jobs 50000`."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path


def main() -> None:
    known = sorted(p.stem.removeprefix("bench_") for p in _here().glob("bench_*.py"))
    given = sys.argv[1:]
    chosen = [given.pop(0)] if given and given[0] in known else known
    for name in chosen:
        print(f"== {name}", flush=True)
        importlib.import_module(f"tests.benchmarks.bench_{name}").main(given)


def _here() -> Path:
    return Path(__file__).parent


if __name__ == "__main__":
    main()
