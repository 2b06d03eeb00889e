"""The rows that `doctor` reads: facts, which the checks judge."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True)
class Instance:
    """A server's settings and the role of our session; `role` and `database` are quoted
    for SQL.

    `commit_source` is where `synchronous_commit` was set, as pg_settings says.
    `data_directory` is None where it may not be read.
    """

    version_number: int
    version: str
    role: str
    database: str
    database_name: str
    in_recovery: bool
    fsync: bool
    full_page_writes: bool
    synchronous_commit: str
    commit_source: str
    autovacuum: bool
    track_counts: bool
    sees_all_sessions: bool
    data_directory: str | None


@dataclass(frozen=True, slots=True)
class Clock:
    """The server's clock minus ours, and the round trip of the best read; seconds."""

    skew: float
    round_trip: float


@dataclass(frozen=True, slots=True)
class Connections:
    """Connections in use and how many there may be; limits are None where there is
    none.
    """

    used: int
    idle_in_transaction: int
    allowed: int
    reserved: int
    role_used: int
    role_limit: int | None
    database_used: int
    database_limit: int | None


@dataclass(frozen=True, slots=True)
class Disk:
    """The size of the database; `free` and `total` of the disk only if the server is on
    this host.
    """

    database_bytes: int
    schema_bytes: int
    free: int | None = None
    total: int | None = None


@dataclass(frozen=True, slots=True)
class Honoured:
    """A timeout of the session, which pgflow honours: in seconds, 0 for none."""

    name: str
    seconds: float
    source: str  # database, user, client …
    role: str


@dataclass(frozen=True, slots=True)
class LockHolder:
    """A session, in `words`, that keeps others from tables of pgflow, named."""

    pid: int
    words: str
    tables: str


@dataclass(frozen=True, slots=True)
class Shadow:
    """An object that shadows one of the server's own: its kind and full name."""

    kind: str  # function, operator, table, view, type
    name: str
    owner: str


@dataclass(frozen=True, slots=True)
class Privileges:
    """The privileges of the current role on one relation or function of the schema."""

    name: str
    kind: str  # table, view, function, schema
    may_read: bool
    may_insert: bool
    may_update: bool
    may_delete: bool
    owns: bool


@dataclass(frozen=True, slots=True)
class Index:
    """An index of the schema; `partitioned` if its table is."""

    name: str
    table: str
    primary: bool
    valid: bool
    partitioned: bool
    definition: str


@dataclass(frozen=True, slots=True)
class UnreadableLetters:
    """Jobs whose row cannot be read: open dead letters, and the first waiting jobs; an
    example, and the damaged relation if the server has named it.
    """

    letters: int
    waiting: int
    job_id: str | None
    damages: list[str]


@dataclass(frozen=True, slots=True)
class Reading:
    """How to read a part of a table, or an index: `name` is its own, for SQL."""

    name: str
    is_index: bool
    statement: str


@dataclass(frozen=True, slots=True)
class ExpiredLeases:
    """Expired leases that were not reaped; the oldest one as an example."""

    leases: int
    jobs: int
    oldest_seconds: float | None
    worker_name: str | None
    job_id: str | None


@dataclass(frozen=True, slots=True)
class LongRun:
    """A job that runs for much longer than its type's jobs do."""

    job_id: str
    queue: str
    job_type: str
    worker_name: str
    seconds: float
    p99_seconds: float


@dataclass(frozen=True, slots=True)
class DueQueue:
    """A queue with due jobs: the wait of the oldest, and what may hold it back."""

    queue: str
    job_id: str
    waits_seconds: float
    paused: bool
    limited: bool


@dataclass(frozen=True, slots=True)
class DueType:
    """A type among the first due jobs of a queue that is not paused."""

    queue: str
    job_type: str
    jobs: int
    waits_seconds: float


@dataclass(frozen=True, slots=True)
class XminHolder:
    """A holder of the xmin horizon, which keeps vacuum from removing dead rows.

    `kind` is transaction, pg_dump, prepared, slot or standby. `xids` is how many
    transactions have begun since. `seconds` is the age where there is one;
    `idle_seconds` how long a transaction has done nothing. `data` is False for a slot
    that holds back the catalogs alone.
    """

    kind: str
    pid: int | None
    name: str
    role: str | None
    client: str | None
    database: str | None
    state: str | None
    xids: int
    seconds: float | None
    idle_seconds: float | None
    active: bool
    data: bool
    retained_bytes: int | None


@dataclass(frozen=True, slots=True)
class TableVitals:
    """The vacuum statistics of one table; times are seconds ago, None for never.

    `threshold` is the number of dead rows at which autovacuum starts; `row_bytes` is
    None if the role may not read the statistics.
    """

    name: str
    live_rows: int
    dead_rows: int
    vacuumed_ago: float | None
    autovacuum_enabled: bool
    threshold: float
    heap_bytes: int
    index_bytes: int
    row_bytes: float | None


@dataclass(frozen=True, slots=True)
class Upkeep:
    """When a task or a backup last succeeded; `seconds_ago` is None for never."""

    name: str
    seconds_ago: float | None
    detail: str | None = None


@dataclass(frozen=True, slots=True)
class Strays:
    """Rows of a parent's default partition, counted up to a limit."""

    parent: str
    rows: int


@dataclass(frozen=True, slots=True)
class ClientTool:
    """A pg_dump that was found."""

    path: str
    version: str
    major: int


@dataclass(frozen=True, slots=True)
class SecretFile:
    """A file that holds a secret, and what its mode lets others do."""

    path: str
    what: str
    mode: int


@dataclass(frozen=True, slots=True)
class AppliedStep:
    """A version of the schema, as `migrate status` lists it."""

    version: int
    applied_at: datetime | str | None
    drift: bool
    pending: bool
