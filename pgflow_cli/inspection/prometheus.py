"""The metrics that Prometheus scrapes, from a snapshot of the cluster.

Every process reports the whole cluster, so scraping one is enough. Every label has at
most 200 values; later ones are `other`.
"""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from typing import TYPE_CHECKING

from pgflow_cli.errors import DatabaseUnavailable, DataDamaged, TooSlow
from pgflow_cli.inspection import metric_families, queues, worker_blockers
from pgflow_cli.inspection.queues import QueueReport
from pgflow_cli.models.queues import BUDGET, COUNTED, CounterSum, Totals
from pgflow_cli.repository import Repository
from pgflow_cli.telemetry.counters import DURATIONS, OTHER, WAITS, Labels

if TYPE_CHECKING:
    from prometheus_client.core import Metric

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

_LIMITS = (
    "max_in_flight", "max_attempts_per_minute", "throttle_delay_ms",
    "max_payload_bytes", "max_enqueue_per_minute",
)  # fmt: skip
_DECISIONS = {
    "ingest_decisions": "Enqueues that were refused.",
    "policy_decisions": "Times that a policy held jobs back.",
}


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The cluster at one instant; None for everything while the database is away.

    `up`: the database answered, though perhaps too slowly for any measurement.
    """

    census: QueueReport | None
    totals: Totals | None
    took: float
    up: bool = True


def collect(repository: Repository) -> Snapshot:
    """Take a snapshot of the cluster; it is empty if the database is away."""
    began = time.monotonic()
    try:
        measures, totals = repository.metrics.measure_all(
            window=queues.WINDOW, counted=COUNTED, budget=BUDGET
        )
    except (DatabaseUnavailable, DataDamaged) as error:
        up = isinstance(error, (TooSlow, DataDamaged))
        return Snapshot(None, None, time.monotonic() - began, up)
    return Snapshot(queues.of(measures), totals, time.monotonic() - began)


def text(snapshot: Snapshot) -> bytes:
    """Return a snapshot in Prometheus' text format 0.0.4."""
    from prometheus_client import CollectorRegistry, generate_latest  # noqa: PLC0415
    from prometheus_client.registry import Collector  # noqa: PLC0415

    class Cluster(Collector):
        def collect(self) -> Iterator[Metric]:
            return metrics(snapshot)

    registry = CollectorRegistry(auto_describe=False)
    registry.register(Cluster())
    return generate_latest(registry)


def document(taken: QueueReport, last: str | None = None) -> dict[str, object]:
    """Return the body of GET /metrics; `last`: where the next page begins."""
    return {"now_utc": taken.now, "queues": records(taken), "next_after": last}


def records(taken: QueueReport) -> list[dict[str, object]]:
    """Return the entries of GET /metrics, one for each queue."""
    return [
        {
            "at": taken.now,
            "queue": status.queue,
            "runnable_queue_depth": status.runnable,
            "jobs_per_sec": status.attempts_per_sec,
            "success_rate": status.success_rate,
            "retry_rate": status.retry_rate,
            "mean_latency_ms": status.mean_ms,
            "oldest_runnable_age_seconds": status.oldest_age_seconds,
            "scheduled": status.scheduled,
            "running": status.running,
            "dlq": status.dlq,
            "drain": status.drain,
            "counts_are_exact": status.counts_are_exact,
        }
        for status in taken.queues
    ]


def metrics(snapshot: Snapshot) -> Iterator[Metric]:
    """Yield every metric that has data."""
    yield metric_families.gauge("db_up", "Whether the database answered.", snapshot.up)
    if snapshot.census is not None and snapshot.totals is not None:
        labels = _labels(snapshot.totals.counters)
        yield from _of_jobs(snapshot.totals.counters, labels)
        yield from _of_counters(snapshot.totals.counters, labels)
        yield from _of_queues(snapshot.census, snapshot.totals, labels)
        yield from _of_workers(snapshot.census, labels)
        yield from _of_database(snapshot.census, snapshot.totals)
        yield from _of_upkeep(snapshot.census, snapshot.totals)
        yield from _of_the_predecessor(snapshot.census, snapshot.totals)
        yield from _of_the_look(snapshot.census, snapshot.totals)
    yield metric_families.gauge(
        "scrape_duration_seconds", "How long this took.", snapshot.took
    )


def _labels(sums: Sequence[CounterSum]) -> Labels:
    """Return labels that know the values of all counters, in the order first seen.

    So these values keep their own series, whatever else is counted later.
    """
    labels = Labels()
    for each in sums:
        if each.queue:
            labels.value("queue", each.queue)
        if each.job_type:
            labels.value("type", each.job_type)
        labels.value("reason" if each.metric in _DECISIONS else "code", each.code)
    return labels


def _of_jobs(sums: Sequence[CounterSum], labels: Labels) -> Iterator[Metric]:
    """Yield the counts of enqueued jobs (they are some seconds late), and of replayed
    ones.
    """
    yield metric_families.counter(
        "jobs_enqueued", "Jobs that were enqueued, replays too; counted seconds later.",
        ("queue", "job_type"),
        metric_families.added(
            (_names(labels, each), each.count)
            for each in sums if each.metric == "arrivals"
        ),
    )  # fmt: skip
    yield _by_queue(sums, labels, "replays", "Jobs that a replay has made.")


def _by_queue(
    sums: Sequence[CounterSum], labels: Labels, name: str, words: str
) -> Metric:
    return metric_families.counter(
        name, words, ("queue",),
        metric_families.added(
            ((labels.value("queue", each.queue),), each.count)
            for each in sums if each.metric == name
        ),
    )  # fmt: skip


def _of_counters(sums: Sequence[CounterSum], labels: Labels) -> Iterator[Metric]:
    """Yield the counters of attempts, refusals and policy decisions."""
    yield metric_families.counter(
        "attempts", "Attempts that ended.",
        ("queue", "job_type", "error_code", "outcome"),
        metric_families.added(
            (
                (*_names(labels, each), labels.value("code", each.code), each.outcome),
                each.count,
            )
            for each in sums if each.metric == "attempts"
        ),
    )  # fmt: skip
    yield metric_families.histogram(
        "job_duration_seconds", "How long attempts took.", ("queue", "job_type"),
        DURATIONS, [s for s in sums if s.metric == "duration"],
        lambda each: _names(labels, each),
    )  # fmt: skip
    yield metric_families.histogram(
        "job_wait_seconds", "How long due jobs waited to be leased.", ("queue",),
        WAITS, [s for s in sums if s.metric == "wait"],
        lambda each: (labels.value("queue", each.queue),),
    )  # fmt: skip
    yield _by_queue(
        sums, labels, "leases_expired", "Leases that ran out and were reaped."
    )
    yield metric_families.counter(
        "log_lines_dropped", "Lines that workers could not write to their log.", (),
        {(): sum(s.count for s in sums if s.metric == "log_lines_dropped")},
    )  # fmt: skip
    for name, words in _DECISIONS.items():
        yield metric_families.counter(
            name, words, ("queue", "reason_code"),
            metric_families.added(
                (
                    (
                        labels.value("queue", each.queue),
                        labels.value("reason", each.code),
                    ),
                    each.count,
                )
                for each in sums if each.metric == name
            ),
        )  # fmt: skip


def _of_queues(taken: QueueReport, totals: Totals, labels: Labels) -> Iterator[Metric]:
    others = totals.others
    jobs: list[tuple[tuple[str, ...], float]] = []
    limits: list[tuple[tuple[str, ...], float]] = []
    each: dict[str, list[tuple[tuple[str, ...], float]]] = defaultdict(list)
    for status in taken.queues:
        queue, found = labels.value("queue", status.queue), status.measure
        states = {
            "runnable": status.runnable,
            "scheduled": status.scheduled,
            "retrying": min(found.retrying, status.counted),
            "running": found.running,
            "dlq": status.dlq,
        }
        jobs += [((queue, state), count) for state, count in states.items()]
        limits += [
            ((queue, name), value)
            for name in _LIMITS
            if (value := getattr(found, name)) is not None
        ]
        each["expired_leases"].append(((queue,), found.expired_leases))
        each["paused"].append(((queue,), found.paused))
        each["oldest_runnable_age_seconds"].append(
            ((queue,), found.oldest_age_seconds or 0.0)
        )
        each["oldest_running_age_seconds"].append(
            ((queue,), found.oldest_running_age_seconds or 0.0)
        )
    if others.queues:
        rest = {"runnable": others.runnable, "scheduled": others.scheduled}
        jobs += [((OTHER, state), count) for state, count in rest.items()]
        each["oldest_runnable_age_seconds"].append(
            ((OTHER,), others.oldest_age_seconds or 0.0)
        )
    yield metric_families.labeled(
        "queue_jobs", "Jobs by state; those retrying are scheduled, too.",
        ("queue", "state"), jobs,
    )  # fmt: skip
    for name, words in _OF_A_QUEUE.items():
        merge = max if name.startswith(("oldest", "paused")) else sum
        yield metric_families.labeled(
            f"queue_{name}", words, ("queue",), each[name], merge
        )
    yield metric_families.labeled(
        "queue_policy_limit", "Limits.", ("queue", "limit"), limits, min
    )


_OF_A_QUEUE = {
    "oldest_runnable_age_seconds": "For how long the oldest due job has waited.",
    "oldest_running_age_seconds": "For how long the oldest running job has run.",
    "expired_leases": "Leases that have run out and hold jobs still.",
    "paused": "Whether the queue is paused.",
}


def _of_workers(taken: QueueReport, labels: Labels) -> Iterator[Metric]:
    processes, slots = [], []
    for status in taken.queues:
        queue = labels.value("queue", status.queue)
        serving = [w for w in taken.measures.workers if w.serves(status.queue)]
        busy = sum(worker.busy_slots for worker in serving)
        free = sum(worker.slots for worker in serving) - busy
        processes.append(((queue,), len(serving)))
        slots += [((queue, "busy"), busy), ((queue, "free"), free)]
    yield metric_families.labeled(
        "workers", "Live processes that lease.", ("queue",), processes, max
    )
    yield metric_families.labeled(
        "worker_slots", "Their slots.", ("queue", "state"), slots, max
    )
    states = Counter(
        worker_blockers.state_of(worker) for worker in taken.measures.workers
    )
    yield metric_families.labeled(
        "worker_processes",
        "Known processes; all but leasing lease nothing.",
        ("state",),
        [((word,), states[word]) for word in worker_blockers.STATES],
    )


def _of_database(taken: QueueReport, totals: Totals) -> Iterator[Metric]:
    found = taken.measures.cluster
    yield metric_families.labeled(
        "db_connections", "Sessions.", ("state",),
        [((state,), count) for state, count in totals.connections.items()],
    )  # fmt: skip
    yield metric_families.labeled(
        "table_dead_tuples", "Dead rows, as the statistics have them.", ("table",),
        [((name,), count) for name, count in totals.dead_tuples.items()],
    )  # fmt: skip
    yield metric_families.gauge(
        "db_clock_skew_seconds", "The database's clock minus ours.", taken.skew
    )
    yield metric_families.gauge(
        "oldest_xmin_age_seconds", "How old the oldest snapshot is.",
        found.oldest_xmin_age_seconds or 0.0,
    )  # fmt: skip
    yield metric_families.gauge("fenced", "Whether nothing is leased.", found.fenced)
    schema = str(found.schema_version or "")
    yield metric_families.labeled(
        "build_info", "The program and its schema.", ("version", "schema"),
        [((version("pgflow"), schema), 1)],
    )  # fmt: skip


def _of_upkeep(taken: QueueReport, totals: Totals) -> Iterator[Metric]:
    """Yield when maintain and backup last succeeded; tasks that never did are left
    out.
    """
    yield metric_families.labeled(
        "maintenance_last_success_timestamp_seconds", "When a task last succeeded.",
        ("task",),
        [
            ((task.task,), task.last_success_at.timestamp())
            for task in totals.maintenance if task.last_success_at
        ],
    )  # fmt: skip
    yield metric_families.counter(
        "maintenance_rows", "Rows that a task has treated.", ("task",),
        {(task.task,): float(task.rows_total) for task in totals.maintenance},
    )  # fmt: skip
    found = taken.measures.cluster
    backed_up = None if (at := found.backed_up_at) is None else at.timestamp()
    yield from metric_families.known(
        {
            "backup_last_success_timestamp_seconds": (
                "When the last backup ended.", backed_up,
            ),
            "backup_bytes": ("How large it is.", found.backup_bytes),
        }
    )  # fmt: skip


def _of_the_look(taken: QueueReport, totals: Totals) -> Iterator[Metric]:
    """Yield the metrics about this scrape: which parts failed, and which were left
    out.
    """
    yield metric_families.gauge("queues", "Queues that are known.", taken.known)
    yield metric_families.gauge(
        "queues_left_out", "Those of them counted together, as `other`.",
        taken.left_out,
    )  # fmt: skip
    yield metric_families.labeled(
        "scrape_failed", "Whether a part of this was too slow or forbidden.", ("part",),
        [((part,), failed) for part, failed in totals.collectors.items()],
    )  # fmt: skip


def _of_the_predecessor(taken: QueueReport, totals: Totals) -> Iterator[Metric]:
    rates = taken.measures.rates.values()
    yield from metric_families.known(
        {
            "queue_depth": (
                "Due jobs of all queues.",
                sum(s.runnable for s in taken.queues) + totals.others.runnable,
            ),
            "running_jobs": (
                "Running jobs of all queues.", sum(s.running for s in taken.queues)
            ),
            "jobs_succeeded_last_60s": (
                "Attempts that succeeded.", sum(r.succeeded for r in rates)
            ),
            "jobs_failed_last_60s": (
                "Attempts that failed.", sum(r.finished - r.succeeded for r in rates)
            ),
        }
    )  # fmt: skip


def _names(labels: Labels, each: CounterSum) -> tuple[str, str]:
    return labels.value("queue", each.queue), labels.value("type", each.job_type)
