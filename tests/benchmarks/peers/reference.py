"""The rate of pgbench with pgflow's own statement, as a mark beside the queues."""

from __future__ import annotations

from dataclasses import dataclass

from tests.benchmarks import pgbench
from tests.benchmarks.bench_work import Bench
from tests.support.servers import Server

BATCH = 256


@dataclass(frozen=True)
class Reference:
    """So many clients that do nothing but lease and settle."""

    name: str
    clients: int


REFERENCE = {
    "drain1": Reference("(pgbench, pgflow's statement, 1 client)", 1),
    "drain2": Reference("(pgbench, pgflow's statement, 2 clients)", 2),
}


def drain_with_pgbench(server: Server, reference: Reference, jobs: int) -> float:
    """Jobs per second of pgbench."""
    bench = Bench(server)
    bench.renew()
    jobs = max(jobs, BATCH * reference.clients)  # a turn for each client
    bench.load(jobs)
    rate = pgbench.drain(
        str(bench.binaries),
        bench.url,
        jobs=jobs,
        batch=BATCH,
        clients=reference.clients,
    )
    bench.connection.close()
    return rate
