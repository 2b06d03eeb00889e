"""Every shared flag, variable, default and help text, once.

A flag's variable is derived from it (`--lease-seconds` → `PGFLOW_LEASE_SECONDS`) unless
the operators' documents name another. Stack a setting on a command as a decorator; one
without a flag is asked for its `value()`.
"""

from __future__ import annotations

import os
import stat
from itertools import chain
from pathlib import Path
from typing import Any

import click

from pgflow_cli import output
from pgflow_cli.configuration import Found
from pgflow_cli.errors import ConfigurationError, UsageError
from pgflow_cli.options import COMMAND_LINE, Session, Setting, stack
from pgflow_cli.parameters import (
    ANY_TYPE,
    JOB_ID,
    NAME,
    PLAN,
    QUEUE,
    TYPE,
    WORKER,
    Address,
    Choice,
    Duration,
    InstantType,
    Json,
    Number,
    QueueList,
    Size,
)

__all__ = [
    "ANY_TYPE",
    "JOB_ID",
    "NAME",
    "PLAN",
    "QUEUE",
    "TYPE",
    "WORKER",
    "Choice",
    "Duration",
    "InstantType",
    "Json",
    "Number",
    "QueueList",
    "Session",
    "Size",
]

DEV_FOLDER = Path(".pgflow")
_DAY = 86_400.0
_TEN_YEARS = 3650 * _DAY
_WAYS_OUT = (
    "Set DATABASE_URL (or DATABASE_URL_FILE), like postgres://user@host:5432/dbname",
    "or start a private server here:  pgflow dev",
    "or only look at pgflow at work:  pgflow demo",
)


def _flag(
    *flags: str,
    help: str,  # noqa: A002 - named as in click
    variable: bool | str = False,
    **more: Any,
) -> Setting:
    """Declare a setting; `variable=True` derives the variable from the flag."""
    derived = f"PGFLOW_{Setting(flags, help).name.upper()}"
    name = derived if variable is True else variable or None
    return Setting(flags, help, variable=name, **more)


def _flattened(
    _ctx: click.Context, _param: click.Parameter, value: tuple[tuple[str, ...], ...]
) -> tuple[str, ...]:
    return tuple(dict.fromkeys(chain.from_iterable(value)))


# The options that stand before or after every sub-command.

GLOBAL = (
    _flag(
        "--database-url",
        help="Where the database is.",
        variable="DATABASE_URL",
        metavar="URL",
        is_global=True,
    ),
    _flag(
        "--database-url-file",
        help="A file that holds the URL of the database.",
        variable="DATABASE_URL_FILE",
        metavar="FILE",
        is_global=True,
    ),
    _flag(
        "--profile",
        help="Use [profile.NAME] of the configuration file.",
        variable=True,
        metavar="NAME",
        is_global=True,
        is_eager=True,
    ),
    _flag(
        "--config",
        help="The configuration file, not pgflow/config.toml in XDG_CONFIG_HOME.",
        variable=True,
        metavar="FILE",
        is_global=True,
        is_eager=True,
    ),
    _flag(
        "--env-file",
        help="Read variables from this file instead of ./.env.",
        metavar="FILE",
        is_global=True,
        is_eager=True,
    ),
    _flag(
        "-o",
        "--output",
        help="How rows are written.",
        kind=Choice(output.FORMATS),
        is_global=True,
        show_default="table on a terminal, plain elsewhere",
    ),
    _flag(
        "--color",
        help="Whether to write in colour; auto heeds NO_COLOR, FORCE_COLOR and TERM.",
        kind=Choice(("auto", "always", "never")),
        default="auto",
        is_global=True,
        is_eager=True,
    ),
    _flag(
        "--time",
        help="How times are written.",
        kind=Choice(output.TIMES),
        is_global=True,
        show_default="relative on a terminal, iso elsewhere",
    ),
    _flag("--no-pager", help="Never start a pager.", is_flag=True, is_global=True),
    _flag("--quiet", help="Leave out counts and hints.", is_flag=True, is_global=True),
    _flag(
        "-v",
        "--verbose",
        help="Say more; twice: more still.",
        count=True,
        is_global=True,
    ),
    _flag(
        "--debug",
        help="Print the traceback of an error.",
        is_flag=True,
        is_global=True,
        is_eager=True,
    ),
    _flag(
        "--log-format",
        help="How log lines are written; auto: text on a terminal, json elsewhere.",
        variable=True,
        kind=Choice(("auto", "text", "json")),
        default="auto",
        is_global=True,
    ),
    _flag(
        "--log-level",
        help="Which log lines are written.",
        variable=True,
        kind=Choice(("debug", "info", "warning", "error"), case_sensitive=False),
        default="info",
        is_global=True,
    ),
    _flag(
        "--timeout",
        help="Longest time a statement may take.",
        kind=Duration(0.001, _DAY),
        default="30s",
        is_global=True,
    ),
    _flag(
        "--connect-timeout",
        help="Longest time to try to connect.",
        kind=Duration(0.1, 3600),
        default="5s",
        is_global=True,
    ),
    _flag(
        "--no-input", help="Never ask; refuse instead.", is_flag=True, is_global=True
    ),
)

# Options that several commands share.

queue_name = _flag("-q", "--queue", help="The queue.", kind=QUEUE, metavar="NAME")
columns = _flag(
    "--columns",
    help="Only these columns, in this order.",
    metavar="A,B",
    is_global=True,
)
no_headers = _flag(
    "--no-headers", help="Leave out the line of headings.", is_flag=True, is_global=True
)
sort = _flag(
    "--sort",
    help="Sort the rows of this page by a column; :desc for the other way round.",
    metavar="FIELD[:desc]",
    is_global=True,
)
actor = _flag(
    "--as",
    "actor",
    help="Who makes this change, for the audit.",
    variable="PGFLOW_ACTOR",
    metavar="NAME",
    show_default="user@host",
)
app = _flag(
    "--app",
    help="Where the handlers are: MODULE, MODULE:ATTR or FILE.py; repeatable.",
    variable=True,
    multiple=True,
    metavar="MODULE[:ATTR]",
)
pg_bin = _flag(
    "--pg-bin",
    help="The folder with the programs of PostgreSQL (initdb, postgres).",
    variable=True,
    kind=click.Path(path_type=Path),
    metavar="DIR",
    show_default="the newest one found",
)

# What `work` takes.

exec_ = _flag(
    "--exec",
    "executables",
    help="Run a command for a job type, the payload on its stdin; repeatable.",
    multiple=True,
    metavar="TYPE=CMD",
)
exec_env = _flag(
    "--exec-env", help="Let those commands see DATABASE_URL.", is_flag=True
)
handlers_dir = _flag(
    "--handlers-dir",
    help="Run this folder's executable files, each for the type it is named after.",
    kind=click.Path(exists=True, file_okay=False, path_type=Path),
    metavar="DIR",
)
on_unknown = _flag(
    "--on-unknown",
    help="Leave job types without a handler to other workers, or move them to the DLQ.",
    kind=Choice(("leave", "dlq")),
    default="leave",
)
simulate = _flag(
    "--simulate",
    help="Register the demo handlers, if there are no others.",
    variable=True,
    is_flag=True,
)
queues = _flag(
    "-q",
    "--queue",
    help="The queues to serve, with commas between them; '*' for all.",
    variable=True,
    kind=QueueList(),
    multiple=True,
    default=("default",),
    metavar="A,B|'*'",
    callback=_flattened,
)
concurrency = _flag(
    "-c",
    "--concurrency",
    help="How many jobs a process runs at once.",
    variable=True,
    kind=Number(1, 1000),
    default=8,
)
processes = _flag(
    "--processes",
    help="How many processes run jobs.",
    variable=True,
    kind=Number(1, 256),
    default=1,
)
batch_size = _flag(
    "--batch-size",
    help="How many jobs to lease at most in one statement.",
    variable="PGFLOW_DEQUEUE_BATCH_SIZE",
    kind=Number(1, 10_000),
    default=256,
)
pool_size = _flag(
    "--pool-size",
    help="How many connections a process opens at most.",
    variable="PGFLOW_DB_MAX_CONNECTIONS",
    kind=Number(1, 1000),
    show_default="as many as it uses",
)
worker_id = _flag(
    "--worker-id",
    help="The name of this worker.",
    variable=True,
    kind=NAME,
    metavar="NAME",
    show_default="hostname-pid",
)
lease_seconds = _flag(
    "--lease-seconds",
    help="How long a job stays with a worker that has gone silent.",
    variable=True,
    kind=Number(1, 86_400),
    default=10,
)
heartbeat = _flag(
    "--heartbeat",
    help="How often leases are renewed; at most a third of the lease.",
    kind=Duration(0.05, 28_800),
    show_default="a third of the lease",
)
reap_interval = _flag(
    "--reap-interval",
    help="How often expired leases are looked for; the variable counts milliseconds.",
    variable="PGFLOW_REAP_INTERVAL_MS",
    kind=Duration(0.05, 3600),
    default="5s",
    unit="ms",
)
crash_budget = _flag(
    "--crash-budget",
    help="Move a job to the DLQ that was lost so often with its worker.",
    kind=Number(1, 1000),
    default=3,
)
poll = _flag(
    "--poll",
    help="How often an idle worker looks for jobs.",
    kind=Duration(0.01, 3600),
    default="250ms",
)
listen = _flag(
    "--listen/--no-listen",
    help="Whether idle workers are also woken by NOTIFY.",
    is_flag=True,
    default=True,
)
migrate = _flag(
    "--migrate",
    help="Bring the schema up to date first.",
    variable="PGFLOW_MIGRATE_ON_STARTUP",
    is_flag=True,
)
maintain = _flag(
    "--maintain/--no-maintain",
    help="Whether it also does what `pgflow maintain` does.",
    variable="PGFLOW_MAINTAIN",
    is_flag=True,
    default=True,
)
maintenance_interval = _flag(
    "--maintenance-interval",
    help="How often it does; the variable counts seconds.",
    variable="MAINTENANCE_INTERVAL_SECS",
    kind=Duration(0.5, _DAY),
    default="60s",
    unit="s",
)
shutdown_timeout = _flag(
    "--shutdown-timeout",
    help="How long running jobs may take to end after SIGTERM.",
    variable=True,
    kind=Duration(0, _DAY),
    default="30s",
)
drain = _flag("--drain", help="Exit 0 when nothing is left to run.", is_flag=True)
once = _flag("--once", help="Run one batch, then exit.", is_flag=True)
max_jobs = _flag("--max-jobs", help="Exit after so many jobs.", kind=Number(1, 10**15))
max_runtime = _flag("--max-runtime", help="Exit after so long.", kind=Duration(0.1))
idle_timeout = _flag(
    "--idle-timeout", help="Exit after so long without a job.", kind=Duration(0.1)
)
log_jobs = _flag(
    "--log-jobs",
    help="Log each job that ends.",
    variable="PGFLOW_VERBOSE_JOB_LOGS",
    is_flag=True,
)
code_version = _flag(
    "--code-version",
    help="The version of the handlers, for the history of attempts.",
    variable=True,
    kind=NAME,
    metavar="TEXT",
)
# What serves HTTP, of `serve-admin` and of `work`.

_ADDRESS = "PGFLOW_ADMIN_ADDR"
admin_address = _flag(
    "--addr",
    "address",
    help="Where to listen.",
    variable=_ADDRESS,
    kind=Address(),
    default="127.0.0.1:3003",
    metavar="HOST:PORT",
)
work_admin = _flag(
    "--admin",
    help="Where to serve the admin API and page, if anywhere.",
    variable=_ADDRESS,
    kind=Address(),
    default="off",
    metavar="HOST:PORT|off",
)
probe = _flag(
    "--probe",
    help="Where to answer health probes without any data of jobs, if anywhere.",
    variable="PGFLOW_PROBE_ADDR",
    kind=Address(),
    default="off",
    metavar="HOST:PORT|off",
)
api_token_file = _flag(
    "--api-token-file",
    help="Clients must have a token of this file: TOKEN or TOKEN read in each line.",
    variable=True,
    kind=click.Path(path_type=Path),
    metavar="FILE",
)
metrics_token_file = _flag(
    "--metrics-token-file",
    help="Tokens that open /metrics/prom and nothing else.",
    variable=True,
    kind=click.Path(path_type=Path),
    metavar="FILE",
)
insecure_no_token = _flag(
    "--insecure-no-token",
    help="Listen beyond this host although no client needs a token.",
    variable="PGFLOW_ADMIN_INSECURE",
    is_flag=True,
)
read_only = _flag(
    "--read-only",
    help="Refuse every change.",
    variable="PGFLOW_ADMIN_READ_ONLY",
    is_flag=True,
)
allow_host = _flag(
    "--allow-host",
    help="A name by which clients may call this server; repeatable; * for any."
    " Loopback names and the address it listens on always are.",
    variable="PGFLOW_ADMIN_HOSTS",
    multiple=True,
    metavar="NAME",
)
SERVING = (
    api_token_file,
    metrics_token_file,
    insecure_no_token,
    read_only,
    allow_host,
)
serving_options = stack(*SERVING)

check = _flag(
    "--check", help="Print handlers, queues and limits, then exit.", is_flag=True
)

WORK = (
    app,
    exec_,
    exec_env,
    handlers_dir,
    on_unknown,
    simulate,
    queues,
    concurrency,
    processes,
    batch_size,
    pool_size,
    worker_id,
    lease_seconds,
    heartbeat,
    reap_interval,
    crash_budget,
    poll,
    listen,
    migrate,
    maintain,
    maintenance_interval,
    shutdown_timeout,
    drain,
    once,
    max_jobs,
    max_runtime,
    idle_timeout,
    log_jobs,
    code_version,
    work_admin,
    probe,
    *SERVING,
    check,
)
work_options = stack(*WORK)

# What `maintain` takes, and heeds when `work` does it.

archive_after = _flag(
    "--archive-after",
    help="When a job that succeeded moves to the archive; the variable counts days.",
    variable="ARCHIVE_SUCCEEDED_AFTER_DAYS",
    kind=Duration(0, _TEN_YEARS),
    default="7d",
    unit="d",
)
prune_after = _flag(
    "--prune-after",
    help="How long the archive keeps a job and its attempts, and how long decisions"
    " are kept; the variable counts days.",
    variable="PRUNE_HISTORY_AFTER_DAYS",
    kind=Duration(0, _TEN_YEARS),
    default="7d",
    unit="d",
)
interval = _flag(
    "--interval",
    help="How often, with --loop; the variable counts seconds.",
    variable="MAINTENANCE_INTERVAL_SECS",
    kind=Duration(0.5, _DAY),
    default="60s",
    unit="s",
)
MAINTAIN = (archive_after, prune_after, interval)
list_options = stack(sort, columns, no_headers)

# Variables without a flag.

max_payload_bytes = _flag(
    help="The largest payload, where the queue's policy says nothing.",
    variable="PGFLOW_MAX_PAYLOAD_BYTES",
    kind=Number(2, 16_777_216),
    default=262_144,
)
max_enqueue_per_minute = _flag(
    help="Most jobs a minute, where the queue's policy says nothing; 0: no limit.",
    variable="PGFLOW_MAX_ENQUEUE_PER_MINUTE",
    kind=Number(0, 2_147_483_647),
    default=0,
)
environment = _flag(
    help="What this installation is for; anything but dev forbids the URL dev:.",
    variable="PGFLOW_ENV",
)
pager = _flag(help="The pager; off for none.", variable="PGFLOW_PAGER", default="less")
production = _flag(
    help="Ask before changes of a single job, too; for a profile.",
    variable="PGFLOW_PRODUCTION",
    is_flag=True,
    default=False,
)

api_token = _flag(
    help="A token that clients must have; rather in a file.",
    variable="PGFLOW_API_TOKEN",
)
metrics_token = _flag(
    help="A token that opens /metrics/prom and nothing else; rather in a file.",
    variable="PGFLOW_METRICS_TOKEN",
)

VARIABLE_ONLY = (
    api_token,
    metrics_token,
    max_payload_bytes,
    max_enqueue_per_minute,
    environment,
    pager,
    production,
)
ALL = (
    *GLOBAL,
    queue_name,
    sort,
    columns,
    no_headers,
    actor,
    pg_bin,
    *WORK,
    *MAINTAIN,
    admin_address,
    *VARIABLE_ONLY,
)
VARIABLES = frozenset(setting.variable for setting in ALL if setting.variable)


def given(name: str) -> Any:
    """Return a global option as it is in force, such as `given("timeout")`."""
    return Session.current().given.get(name)


def heartbeat_seconds(lease: int, wanted: float | None) -> float:
    """Return how often to renew leases; more than a third of the lease is refused."""
    if wanted is not None and wanted > lease / 3:
        raise UsageError(
            f"--heartbeat is longer than a third of the lease ({lease}s)",
            "A worker that misses one heartbeat would lose its jobs.",
        )
    return lease / 3 if wanted is None else wanted


def names_a_database() -> bool:
    """Return whether a URL is set, wherever."""
    return bool(given("database_url") or given("database_url_file"))


def database_url() -> str:
    """Return the URL of the database; none at all is exit 78 with the ways out."""
    session = Session.current()
    url = nearest_url(session)
    if url is None:
        raise ConfigurationError("no database URL is set", *_dev_server(), *_WAYS_OUT)
    _warn_of_unheeded_profile(session)
    return _local(url) if url.startswith("dev:") else url


def typed_database_url() -> str | None:
    """Return the URL if it was typed; no variable or file counts."""
    session = Session.current()
    found = session.origins.get("database_url")
    if found is None or found.origin != COMMAND_LINE:
        return None
    url = str(session.given["database_url"])
    return _local(url) if url.startswith("dev:") else url


def nearest_url(session: Session) -> str | None:
    """Return the URL or what its file holds, whichever was set nearer to the user."""
    url, path = (
        session.given.get("database_url"),
        session.given.get("database_url_file"),
    )
    if not path:
        return url or None
    ranks = [_rank(session, name) for name in ("database_url", "database_url_file")]
    if url and ranks == [-1, -1]:
        raise UsageError("--database-url and --database-url-file exclude each other")
    return url if url and ranks[0] <= ranks[1] else _secret(Path(path))


def api_tokens() -> list[str]:
    """Return the lines that name tokens for clients, of the file and the variable."""
    return _token_lines(api_token_file, api_token)


def metrics_tokens() -> list[str]:
    """Return the lines that name tokens for scrapers."""
    return _token_lines(metrics_token_file, metrics_token)


def status_folders() -> list[Path]:
    """Return where workers of this user write their status, the first choice first."""
    from pgflow_cli import status_files  # noqa: PLC0415 - start-up stays quick

    return status_files.folders(os.environ.get("XDG_STATE_HOME"))


def trace_context() -> dict[str, str | None]:
    """Return the caller's trace context: no settings of ours, but a convention."""
    names = ("traceparent", "tracestate")
    return {name: os.environ.get(name.upper()) for name in names}


def notify_socket() -> str | None:
    """Return where systemd wants to hear of a service; no setting of ours either."""
    return os.environ.get("NOTIFY_SOCKET") or None


def watchdog_seconds() -> float:
    """Return how long systemd lets this very process be silent; 0: for ever."""
    micros = os.environ.get("WATCHDOG_USEC", "")
    meant = os.environ.get("WATCHDOG_PID") in (None, "", str(os.getpid()))
    return int(micros) / 1e6 if meant and micros.isdecimal() else 0.0


def _rank(session: Session, name: str) -> int:
    found = session.origins.get(name)
    if found is None or found.origin == COMMAND_LINE:
        return -1
    return session.sources.rank(found)


def _token_lines(file: Setting, variable: Setting) -> list[str]:
    ctx = click.get_current_context()
    path, single = ctx.params.get(file.name), variable.value()
    lines = _secret(path, "a token in each line").splitlines() if path else []
    return [*lines, *([single] if single else [])]


def _secret(path: Path, what: str = "the database URL") -> str:
    try:
        text = path.read_text(encoding="utf-8-sig").strip()
        mode = path.stat().st_mode
    except UnicodeDecodeError:
        raise ConfigurationError(f"{path} is not UTF-8") from None
    except OSError as error:
        raise ConfigurationError(
            f"cannot read {path}: {error.strerror}", f"It should hold {what}."
        ) from None
    if not text:
        raise ConfigurationError(f"{path} is empty; it should hold {what}")
    if mode & stat.S_IROTH:
        output.warn(f"others can read {path}; try: chmod o-r {path}")
    return text


def _warn_of_unheeded_profile(session: Session) -> None:
    if "profile" not in session.origins:
        return
    found: Found | None = session.origins.get("database_url") or session.origins.get(
        "database_url_file"
    )
    theirs = session.sources.profile_value("DATABASE_URL")
    if theirs is not None and found is not None and found.origin != theirs.origin:
        output.warn(
            f"the database comes from {found.key} ({found.origin}), not the profile"
        )


def _dev_server() -> tuple[str, ...]:
    if not DEV_FOLDER.is_dir():
        return ()
    from pgflow_cli import local_server  # noqa: PLC0415 - start-up stays quick

    if local_server.running_url(DEV_FOLDER) is None:
        return ()
    return ("A dev server runs here:  export DATABASE_URL=$(pgflow dev --print-url)",)


def _local(url: str) -> str:
    """Return the URL of this folder's private server, which is started if need be."""
    from pgflow_cli import local_server  # noqa: PLC0415 - start-up stays quick

    return local_server.url_of_dev(
        Path(url.removeprefix("dev:") or DEV_FOLDER),
        environment=environment.value(),
        pg_bin=pg_bin.value(),
    )
