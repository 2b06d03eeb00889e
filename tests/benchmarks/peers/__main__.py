"""Measures pgflow beside its peers: `python -m tests.benchmarks.peers --rounds 5`.

Each queue gets the same server, a fresh database, the same payload of about 200 bytes
and a handler that only notes its job. Rounds are interleaved (A B C, C B A, …), figures
are medians of the rounds, ratios medians of the ratios within a round. A worker's rate
is counted from the first start to the last, and two processes start their first jobs
together; waits are from the beginning of the producer's call to the handler's start.
Every job that is measured has run exactly once (with "fails" twice), and its queue says
that it is settled; a drain that takes longer than --limit is cut off, and its rate is
that of the part.

single, bulk    enqueue, one job and a thousand a call
drain1, drain2  one and two processes find all jobs there
first           the same jobs arrive while one process waits for them
idle, steady    waits of jobs that come one by one, and at --rates in 40 calls a second
held            a drain while another session holds a transaction with a snapshot
queues          a drain of the same jobs spread over 20 queues
fails           a drain of jobs that fail once, tried again as soon as the queue can
async           handlers that await 1 ms, 4 to 256 at once
payload         enqueue and drain with payloads of 10 and 200 kB
backlog         a drain while --backlog jobs wait behind
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import textwrap
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import psycopg

from tests.benchmarks.durable import SETTINGS, durable_server
from tests.benchmarks.peers import catalog, plot, table
from tests.benchmarks.peers.catalog import PEERS, PGFLOW, Peer, Settings
from tests.benchmarks.peers.environments import environments, install
from tests.benchmarks.peers.figures import ratio
from tests.benchmarks.peers.protocol import ROOT, PeerFailed, Runner
from tests.benchmarks.peers.reference import REFERENCE, drain_with_pgbench
from tests.benchmarks.peers.rounds import Plan, Round
from tests.benchmarks.peers.scenarios import (
    DEFAULT,
    OF_DEFAULTS,
    SCENARIOS,
    Row,
    measures_of,
    play,
    rows_of,
    scenario_of,
)
from tests.support.servers import Server

README = ROOT / "README.md"
NEWEST = Path(__file__).with_name("newest")
BEGIN, END = "<!-- bench-peers -->\n", "<!-- end of bench-peers -->"


@dataclass(frozen=True)
class Entrant:
    """A queue with one of its settings; `environment` is None if it is not there."""

    peer: Peer
    settings: Settings
    environment: Path | None
    reason: str = ""

    @property
    def name(self) -> str:
        same = self.settings.name == "best"
        return self.peer.name if same else f"{self.peer.name}, {self.settings.name}"


def main(arguments: list[str]) -> None:
    given = _parser().parse_args(arguments)
    plan = Plan(
        tuple(s for s in SCENARIOS if {s, "all"} & {*given.scenarios}),
        given.jobs,
        given.single,
        given.samples,
        given.seconds,
        tuple(given.rates),
        given.limit,
        given.backlog,
        given.loading,
    )
    began = time.monotonic()
    about = _about(given)
    with environments(keep=given.keep) as place, durable_server() as server:
        about["server"] = _server(server)
        entrants = list(_entrants(given, place))
        run = _Run(plan, server, entrants)
        _say(run.estimate(given.rounds, given.minutes))
        for number in range(given.rounds):
            started = time.monotonic()
            run.round(number)
            _say(f"round {number + 1} took {(time.monotonic() - started) / 60:.1f} min")
            # The next one takes about as long.
            if 2 * time.monotonic() - started - began > given.minutes * 60:
                break
    about["minutes"] = round((time.monotonic() - began) / 60, 1)
    _report(run, about, given)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tests.benchmarks.peers", description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    names = [peer.name for peer in PEERS if not peer.missing]
    add = parser.add_argument
    add("--peers", nargs="*", choices=names, default=names[:4], metavar="PEER",
        help=f"of {', '.join(names)}; the first four by default")  # fmt: skip
    add("--scenarios", nargs="+", choices=(*SCENARIOS, "all"), default=DEFAULT,
        metavar="SCENARIO", help=f"of {', '.join(SCENARIOS)}, or all;"
        f" the first {len(DEFAULT)} by default")  # fmt: skip
    add("--rounds", type=int, default=3)
    add("--minutes", type=float, default=15.0,
        help="begin no round that would end later than this")  # fmt: skip
    add("--jobs", type=int, default=20_000, help="of a drain")
    add("--single", type=int, default=500, help="jobs that are enqueued one by one")
    add("--samples", type=int, default=100, help="of an idle worker")
    add("--seconds", type=float, default=2.0, help="of a steady rate")
    add("--rates", type=int, nargs="+", default=[200, 1_000, 4_000], metavar="RATE")
    add("--limit", type=float, default=3.0, help="seconds until a drain is cut off")
    add("--backlog", type=int, default=1_000_000, help="jobs behind a drain's")
    add("--loading", type=float, default=240.0,
        help="seconds until the loading of a backlog is cut off")  # fmt: skip
    add("--defaults", action="store_true",
        help="measure the peers at their defaults, too")  # fmt: skip
    add("--keep", action="store_true", help="keep the environments for another run")
    add("--out", type=Path, default=ROOT / "dist", help="folder of the JSON and SVG")
    add("--readme", action="store_true", help="put table and plot into README.md")
    return parser


def _entrants(given: argparse.Namespace, place: Path) -> Iterator[Entrant]:
    for peer in (PGFLOW, *PEERS):
        environment, reason = None, peer.missing
        if peer is not PGFLOW and peer.name not in given.peers:
            reason = reason or "not asked for (--peers)"
        else:
            _say(f"installing {peer.name} {peer.version}")
            try:
                environment = install(peer, place)
            except PeerFailed as error:
                reason = str(error)
        for settings in peer.settings:
            if settings.name == "best" or (given.defaults and not reason):
                yield Entrant(peer, settings, environment, reason)


class _Run:
    """The rounds, and what they gave."""

    def __init__(self, plan: Plan, server: Server, entrants: list[Entrant]) -> None:
        self.plan = plan
        self.server = server
        self.entrants = entrants
        self.playing = [e for e in entrants if e.environment is not None]
        self.rows = rows_of(plan)
        self.measures = measures_of(self.rows)
        self.results: dict[str, dict[str, list[float | None]]] = {
            key: {e.name: [] for e in self.playing if _plays(e, key)}
            for key in self.measures
        }
        self.notes: dict[tuple[str, str], str] = {}
        self.rounds = 0
        for key in REFERENCE.keys() & self.measures.keys():
            self.results[key][REFERENCE[key].name] = []

    def estimate(self, rounds: int, minutes: float) -> str:
        """What to expect of a machine that has nothing else to do."""
        seconds = sum(row.seconds for e in self.playing for row in self._rows_for(e))
        seconds += 5 * len(REFERENCE.keys() & self.measures.keys())
        return (
            f"a round takes about {seconds / 60:.1f} min: {rounds} rounds"
            f" {rounds * seconds / 60:.0f} min, and none begins that would end"
            f" after {minutes:g}"
        )

    def round(self, number: int) -> None:
        """Let each queue play once, in turn from the front and from the back."""
        for entrant in self.playing if number % 2 == 0 else self.playing[::-1]:
            _say(f"round {number + 1}: {entrant.name}")
            played = self._play(entrant)
            for key, found in self.results.items():
                if entrant.name in found:
                    found[entrant.name].append(played.figures.get(key))
                    if key in played.notes:
                        self.notes[key, entrant.name] = played.notes[key]
        for key, reference in REFERENCE.items():
            if key in self.results:
                rate = drain_with_pgbench(self.server, reference, self.plan.jobs)
                self.results[key][reference.name].append(rate)
        self.rounds += 1

    def _play(self, entrant: Entrant) -> Round:
        assert entrant.environment is not None
        with tempfile.TemporaryDirectory(prefix="pgflow-bench-") as folder:
            starts = Path(folder) / "starts"
            starts.mkdir()
            url = self.server.url_of("peer")
            runner = Runner(
                entrant.peer, entrant.settings, entrant.environment, url, starts
            )
            played = Round(runner, self.server.url, self.plan)
            play(played, self._rows_for(entrant), _say)
        return played

    def _rows_for(self, entrant: Entrant) -> list[Row]:
        return [row for row in self.rows if _plays(entrant, row.name)]


def _plays(entrant: Entrant, key: str) -> bool:
    return entrant.settings.name == "best" or scenario_of(key) in OF_DEFAULTS


def _about(given: argparse.Namespace) -> dict[str, Any]:
    commit = subprocess.run(
        ["git", "describe", "--always", "--dirty"], cwd=ROOT,
        capture_output=True, encoding="utf-8", check=False,
    ).stdout.strip()  # fmt: skip
    pages = os.sysconf("SC_PHYS_PAGES")
    return {
        "date": time.strftime("%Y-%m-%d"),
        "commit": commit,
        "cores": os.cpu_count(),
        "processor": _processor(),
        "memory_gib": round(pages * os.sysconf("SC_PAGE_SIZE") / 2**30),
        "python": platform.python_version(),
        "load_before": round(os.getloadavg()[0], 1),
        "settings": SETTINGS,
        "arguments": {k: str(v) for k, v in vars(given).items()},
    }


def _processor() -> str:
    found = Path("/proc/cpuinfo")
    lines = found.read_text().splitlines() if found.exists() else []
    names = [line.split(":")[1].strip() for line in lines if "model name" in line]
    return names[0] if names else platform.processor()


def _server(server: Server) -> str:
    with psycopg.connect(server.url) as connection:
        row = connection.execute("show server_version").fetchone()
    assert row is not None
    return f"PostgreSQL {row[0]}"


def _report(run: _Run, about: dict[str, Any], given: argparse.Namespace) -> None:
    heading = _heading(run, about)
    found = (run.measures, run.results, run.notes)
    short = "\n".join([*heading, "", *table.short(*found, ours=PGFLOW.name)]) + "\n"
    full = "\n".join(table.lines(*found, ours=PGFLOW.name))
    sys.stdout.write(f"{short}\n{full}\n")
    given.out.mkdir(parents=True, exist_ok=True)
    newest = NEWEST if given.readme else given.out / "peers"
    results: table.Results = run.results
    if given.readme:
        results = table.with_best(run.measures, results, ours=PGFLOW.name)
        _into_readme(short)
    drawn = plot.svg(run.measures, results, ours=PGFLOW.name)
    newest.with_suffix(".svg").write_text(drawn)
    newest.with_suffix(".json").write_text(json.dumps(_document(run, about), indent=1))
    _say(f"wrote {newest}.json and .svg")


def _heading(run: _Run, about: dict[str, Any]) -> list[str]:
    plan = run.plan
    lines = [
        f"{about['date']}, commit {about['commit']}; {about['processor']},"
        f" {about['cores']} cores, {about['memory_gib']} GiB",
        f"{about['server']}, fsync on; Python {about['python']};"
        f" load {about['load_before']} before; {about['minutes']} minutes",
        f"medians of {run.rounds} rounds; drains of {plan.jobs:,} jobs, cut off"
        f" after {plan.limit:g} s; {plan.seconds:g} s at each rate",
    ]
    for entrant in run.entrants:
        said = entrant.reason or entrant.settings.said
        text = f"{entrant.name} ({entrant.peer.version}): {said}"
        lines += textwrap.wrap(
            text, table.WIDTH, initial_indent="  ", subsequent_indent="    "
        )
    return lines


def _document(run: _Run, about: dict[str, Any]) -> dict[str, Any]:
    return {
        **about,
        "rounds": run.rounds,
        "node": catalog.NODE,
        "queues": [
            {
                "name": e.name,
                "version": e.peer.version,
                "requirements": e.peer.requirements,
                "settings": e.settings.said,
                "options": dict(e.settings.options),
                "reason": e.reason,
            }
            for e in run.entrants
        ],
        "measures": [
            {
                "key": key,
                **asdict(measure),
                "rounds": run.results[key],
                "ratios": {
                    name: ratio(run.results[key][PGFLOW.name], rounds)
                    for name, rounds in run.results[key].items()
                },
            }
            for key, measure in run.measures.items()
        ],
        "notes": [
            {"key": key, "queue": name, "note": note}
            for (key, name), note in run.notes.items()
        ],
    }


def _into_readme(text: str) -> None:
    before, rest = README.read_text(encoding="utf-8").split(BEGIN)
    after = rest.split(END)[1]
    picture = f"![pgflow beside other queues]({NEWEST.relative_to(ROOT)}.svg)"
    block = f"```text\n{text}```\n\n{picture}\n"
    README.write_text(f"{before}{BEGIN}{block}{END}{after}", encoding="utf-8")


def _say(text: str) -> None:
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()


if __name__ == "__main__":
    main(sys.argv[1:])
