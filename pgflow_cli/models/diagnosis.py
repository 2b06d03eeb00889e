"""What `doctor` asks a server: facts without a judgement."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True)
class Instance:
    """A server's settings and who we are there; `role` and `database` are quoted for
    SQL.

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
    """The server's clock minus ours, and the round trip of the best look; seconds."""

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
    """What the database takes; `free` and `total` only if we are on the server's
    host.
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
class Shadow:
    """What bears the name of one of the server's own: its kind and whole name."""

    kind: str  # function, operator, table, view, type
    name: str
    owner: str


@dataclass(frozen=True, slots=True)
class Privileges:
    """What the current role may do with one relation or function of the schema."""

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
    """Jobs whose row cannot be read: open dead letters, and the first that wait; one of
    them, and what is damaged where the server has named it.
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
    """Leases that have run out and that nobody has reaped; the oldest as a sample."""

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
    """A queue with due jobs: how long the oldest waits, and what may hold it."""

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
    """Who keeps vacuum from removing dead rows.

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
    """How vacuum keeps up with one table; times are seconds ago, None for never.

    `threshold` is how many dead rows call autovacuum; `row_bytes` is None where the
    statistics may not be read.
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
    """When something was last done, as it is recorded; `seconds_ago` is None for
    never.
    """

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
    """A version of the schema as `migrate status` tells it."""

    version: int
    applied_at: datetime | str | None
    drift: bool
    pending: bool
