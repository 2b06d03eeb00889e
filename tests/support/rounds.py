"""Goes once through what pgflow does to a database: for tests of what must not matter.

Each step is a command, a producer's call or a request; what it said is kept with its
ids, times and counts blotted out.
"""

from __future__ import annotations

import json
import re
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
from psycopg.conninfo import conninfo_to_dict
from werkzeug.test import Client

from pgflow_cli.admin import application
from pgflow_cli.admin.options import AdminOptions
from pgflow_cli.admin.service import Service
from pgflow_cli.operations import enqueue
from tests.support import executable

JOB_ID = "019a0000-0000-7000-8000-00000000000{}"
# Of 16 digits, outside ASCII, and what a setting spoils.
PAYLOAD = {"whole": 9007199254740991, "snow": "☃", "slash": "a\\'b", "null": None}
_BEYOND = 9007199254740994  # float64 holds it, and 15 digits do not

_BLOTS = (
    (re.compile(r"\(database [^)]*\)"), "(database)"),
    (re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"), "ID"),
    (
        re.compile(
            r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d(:\d\d(\.\d+)?)?"
            r"(Z|[+-]\d\d(:?\d\d)?| UTC)?"
        ),
        "AT",
    ),
    (re.compile(r"-?\d+([.,:]\d+)*(e-?\d+)?"), "N"),
    (re.compile(r"N[a-z]*(?=\b)"), "N"),
    (re.compile(r"[0-9a-f]*N[0-9a-fN]*"), "N"),
    (re.compile(r"[ \t]+"), " "),
)  # fmt: skip

APP = """
import pgflow_cli

app = pgflow_cli.App()


@app.handler("greet")
def greet(job):
    assert job.payload == {payload!r}, job.payload
    return {{"heard": job.payload["snow"]}}


@app.handler("fail")
def fail(job):
    raise pgflow_cli.Fail("NO_GOOD", "it is no good")
"""

Step = Callable[[], object]


def walk(url: str, folder: Path) -> dict[str, str]:
    """Take every step on a database that has no schema, and return what each said."""
    folder.mkdir(exist_ok=True)
    (folder / "app.py").write_text(APP.format(payload=PAYLOAD), encoding="utf-8")
    said: dict[str, str] = {}
    for name, step in _steps(url, folder):
        try:
            answer = step()
        except Exception as error:
            answer = f"{type(error).__name__}: {error}"
        said[name] = str(answer)
    return said


def _steps(url: str, folder: Path) -> Iterator[tuple[str, Step]]:
    for line in textwrap.dedent(_BEFORE).strip().splitlines():
        yield _command(line, url, folder)
    yield "python", lambda: _by_python(url)
    yield "sql", lambda: _by_sql(url)
    yield "http", lambda: _by_http(url)
    for line in textwrap.dedent(_AFTER).strip().splitlines():
        yield _command(line, url, folder)
    yield "pages", lambda: _pages(url)
    yield "text", lambda: _texts(url)


_BEFORE = f"""
    migrate
    migrate --check
    enqueue greet {json.dumps(PAYLOAD).replace(" ", "")} --id {JOB_ID.format(1)} --queue calls
    enqueue fail --id {JOB_ID.format(2)} --queue calls
    enqueue greet {{}} --id {JOB_ID.format(3)} --queue later --in 2h --job-timeout 5s
    enqueue greet {{}} --id {JOB_ID.format(4)} --queue later --run-at 2030-05-06T07:08:09+02:00
    queues set-policy calls --max-in-flight 5 --max-attempts-per-minute 1000 --yes --note limits
    queues set-policy calls --max-enqueue-per-minute 5000 --yes --note limits
    queues pause later --yes --note pause
    queues list
    queues show calls
    jobs list
    jobs show {JOB_ID.format(3)}
    explain {JOB_ID.format(1)}
"""  # noqa: E501

_AFTER = f"""
    work --app app.py --queue * --drain --max-runtime 60s --no-listen --concurrency 1
    jobs list --status succeeded
    jobs show {JOB_ID.format(1)}
    jobs tail
    timeline {JOB_ID.format(1)}
    explain {JOB_ID.format(2)}
    explain {JOB_ID.format(3)}
    dlq list
    dlq show {JOB_ID.format(2)}
    dlq stats
    dlq export -
    replay run {JOB_ID.format(2)} --yes --note again
    replay list
    jobs reprioritize {JOB_ID.format(3)} 7 --yes --note sooner
    jobs run-now {JOB_ID.format(3)} --yes --note now
    jobs cancel {JOB_ID.format(4)} --yes --note no
    queues resume later --yes --note go
    queues purge later --confirm later --note gone
    queues clear-policy calls --yes --note free
    workers list
    maintain --archive-after 0s --prune-after 0s --max-runtime 60s
    metrics --json
    decisions list
    audit list --limit 50
    fence status
    fence raise --note test
    fence accept --interrupted dlq --note ours --confirm DATABASE
    health --ready
    top --once
    doctor --output json
"""


def _command(line: str, url: str, folder: Path) -> tuple[str, Step]:
    database = conninfo_to_dict(url)["dbname"]
    arguments = line.replace("DATABASE", database).split()

    def step() -> str:
        done = executable.fork(
            *arguments,
            environment={"DATABASE_URL": url, "PATH": "/usr/bin:/bin"},
            folder=folder,
            input=None,
        )
        if arguments[0] in ("work", "doctor", "metrics", "top"):
            # What they say depends on the moment, and on the server.
            return f"{done.returncode} {_keys(arguments[0], done.stdout, done.stderr)}"
        done.stdout, done.stderr = (
            text.replace(database, "DATABASE") for text in (done.stdout, done.stderr)
        )
        return f"{done.returncode}\n{_blotted(done.stdout)}\n{_blotted(done.stderr)}"

    return " ".join(line.split()[:4]), step


def _keys(command: str, stdout: str, stderr: str) -> str:
    if command == "work":
        lines = [json.loads(line) for line in stderr.splitlines() if line[:1] == "{"]
        bad = {line["event"] for line in lines if line["level"] == "error"}
        return " ".join(sorted(bad))
    if command == "metrics":
        return " ".join(sorted(json.loads(stdout)))
    if command == "doctor":
        found = json.loads(stdout)["items"]
        return " ".join(
            f"{row['check']}={row['result']}"
            for row in found
            if row["check"].startswith("schema") or "may not" in row["detail"]
        )
    return ""


def _by_python(url: str) -> str:
    with psycopg.connect(url) as connection:
        connection.read_only = False  # its producer's own affair
        one = enqueue.enqueue(
            connection,
            "greet",
            PAYLOAD,
            queue="calls",
            job_timeout="30s",
            meta={"é": "☃"},
        )
        many = enqueue.enqueue_many(
            connection, [{"job_type": "greet", "payload": PAYLOAD, "queue": "calls"}]
        )
        assert all(type(each) is str for each in (one, *many)), (one, many)
    return "enqueued"


def _by_sql(url: str) -> str:
    with psycopg.connect(url) as connection:
        connection.read_only = False
        connection.execute("set client_encoding = 'UTF8'")
        job = {
            "job_type": "ignored",
            "payload_json": {"number": _BEYOND},
            "queue": "calls",
            "job_timeout": "1h30m",
            "run_at": "2026-01-02T03:04:05Z",
        }
        rows = connection.execute(
            "select pgflow.enqueue('greet', %s::pg_catalog.jsonb, 'calls')"
            " is not null, pgflow.enqueue_many(%s::pg_catalog.jsonb) is not null",
            (json.dumps(PAYLOAD), json.dumps([job])),
        )
        return str(rows.fetchall())


def _by_http(url: str) -> str:
    with _service(url) as client:
        body = {"job_type": "greet", "payload_json": PAYLOAD, "queue": "calls"}
        answer = client.post("/jobs", json=body)
        return f"{answer.status_code} {sorted(answer.get_json())}"


def _pages(url: str) -> str:
    paths = ("/queues", "/jobs", "/dlq", "/workers", "/metrics", "/doctor", "/audit")
    with _service(url) as client:
        return " ".join(f"{path} {client.get(path).status_code}" for path in paths)


class _service:  # noqa: N801 - a context manager
    def __init__(self, url: str) -> None:
        self._service = Service(AdminOptions(url=url, access_log=False))

    def __enter__(self) -> Client:
        return Client(application.application(self._service))

    def __exit__(self, *_: object) -> None:
        self._service.end()
        self._service.close()


def _texts(url: str) -> list[tuple[Any, ...]]:
    """Return the rows that the jobs have left in the tables."""
    with psycopg.connect(url) as connection:
        connection.execute("set client_encoding = 'UTF8'")
        return connection.execute(
            "select job_type, queue,"
            " payload operator(pg_catalog.=) %s::pg_catalog.jsonb,"
            " timeout_ms, meta::pg_catalog.text"
            " from pgflow.any_jobs order by queue, job_type, timeout_ms, payload, meta",
            (json.dumps(PAYLOAD),),
        ).fetchall()


def _blotted(text: str) -> str:
    for pattern, word in _BLOTS:
        text = pattern.sub(word, text)
    return "\n".join(line.strip() for line in text.strip().splitlines())
