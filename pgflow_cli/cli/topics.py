"""The texts of `pgflow help TOPIC`, made from the program's own tables where it has
them, so that they cannot say something else.
"""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Iterator

from pgflow_cli.cli.output import records
from pgflow_cli.cli.settings import report

WIDTH = 78

_CODES = (
    ("0", "done; an empty list is done, too"),
    ("1", "some jobs failed, or the answer was no"),
    ("2", "usage: an argument or a field of a job is not acceptable"),
    ("3", "not found, or an id that fits several jobs"),
    ("4", "refused by a guard or by the state of a job"),
    ("5", "a check found what it looks for"),
    ("69", "the database does not answer, or takes no writes"),
    ("70", "a bug in pgflow; the traceback is saved"),
    (
        "74",
        "a file cannot be written, or stdout: it is closed, its disk is full; or the"
        " server cannot read a part of its data",
    ),
    ("75", "try later: another session holds the lock, or time ran out"),
    ("77", "the database refuses this role"),
    ("78", "a setting is missing or wrong, or the schema is of another version"),
    ("130, 143", "SIGINT, SIGTERM; `work` exits 0 after a graceful end"),
    ("141", "the reader of the output has closed the pipe"),
)
_FORMATS = {
    "table": "on a terminal: fitted to its width, short ids, relative times",
    "plain": "elsewhere: full ids, ISO 8601 in UTC, nothing cut",
    "wide": "table with the extra columns",
    "json": "one document, with the field names of the HTTP API",
    "jsonl": "one object a line, streamed",
    "csv": "a header and rows; no cell is a formula",
    "tsv": "the same with tabs",
    "ids": "one full id a line, for `pgflow replay -` and the like",
    "md": "a table for incident notes",
}
_TIMES = (
    ("15m, 1d12h", "so long ago; where a time lies ahead: in so long"),
    ("2h ago, in 10m", "the same in words"),
    ("today, yesterday", "midnight in UTC"),
    ("09:30", "the last one, or the next one where a time lies ahead; UTC"),
    ("2026-11-23 09:30", "without a zone: UTC"),
    ("2026-11-23T09:30:00+01:00", "RFC 3339"),
    ("@1795426200", "seconds since 1970"),
)
_INCIDENTS = (
    (
        "Queue depth grows",
        "pgflow queues list",
        "pgflow jobs list -q emails --status queued --limit 1",
        "pgflow explain ID",
        "pgflow decisions list --kind policy -q emails --since 1h",
        "pgflow queues set-policy emails --max-in-flight 20",
    ),
    (
        "Jobs stuck in running",
        "pgflow jobs list --stuck",
        "pgflow maintain --task reap",
        "pgflow jobs list --slow",
        "pgflow jobs cancel ID --kill",
    ),
    (
        "DLQ spike",
        "pgflow dlq list --since 2h --group",
        "pgflow explain ID --attempts all",
        "pgflow replay --fingerprint F --since 2h --dry-run",
        "pgflow replay --fingerprint F --since 2h --canary 5 --rate 20/s",
        "pgflow replay status PLAN -w",
    ),
    (
        "Enqueue rejected",
        "pgflow decisions list --kind ingest --since 1h",
        "pgflow queues set-policy reports --max-payload-bytes 1048576",
        "pgflow queues set-policy reports --max-enqueue-per-minute 6000",
        "pgflow queues bound",
    ),
    (
        "Nothing runs, explain says FENCED",
        "pgflow fence status",
        "pgflow fence accept --dry-run",
    ),
)


def environment() -> Iterator[str]:
    """Yield every variable with its option, default and meaning."""
    yield "An option beats its variable; a variable beats .env, then ./pgflow.toml or"
    yield "[tool.pgflow] of pyproject.toml, then pgflow/config.toml in XDG_CONFIG_HOME."
    for value in report.values():
        yield ""
        option = f"  {value.option}" if value.option else ""
        default = f"  [default: {value.default}]" if value.default else ""
        yield f"{value.variable}{option}{default}"
        yield from _wrapped(value.meaning)


def exit_codes() -> Iterator[str]:
    """Yield every exit code and what it means."""
    yield from _listed(_CODES)


def formats() -> Iterator[str]:
    """Yield what -o takes and where output goes."""
    yield "Data goes to stdout; counts, hints, questions and logs go to stderr."
    yield "An empty list is a success. -o takes:"
    yield ""
    yield from _listed((form, _FORMATS[form]) for form in records.FORMATS)
    yield ""
    yield "--columns A,B picks columns, --sort A:desc sorts the page, --no-headers"
    yield "leaves the headings out; NO_COLOR and FORCE_COLOR are heeded; a screen that"
    yield "overflows goes through PGFLOW_PAGER (less)."


def times_() -> Iterator[str]:
    """Yield what --since, --until and --run-at take."""
    yield "--since, --until, --run-at take a time; the database's clock decides:"
    yield ""
    yield from _listed(_TIMES)
    yield ""
    yield "Lengths of time are 500ms, 30s, 5m, 2h, 7d or 1d12h. --time relative, iso,"
    yield "local or unix says how times are shown."


def handlers() -> Iterator[str]:
    """Yield how jobs are run."""
    yield from textwrap.dedent(
        """\
        In Python, for `pgflow work --app jobs.py`:

            from pgflow_cli import App, Fail, Retry, Snooze
            app = App()

            @app.handler("email_send", timeout="20s", concurrency=10)
            def email_send(job):
                if "to" not in job.payload:
                    raise Fail(code="BAD_PAYLOAD", message="missing 'to'")

        It returns: succeeded. It raises: retried with back-off, up to max_attempts,
        then a dead letter. Fail: a dead letter at once. Retry(after=…): again then.
        Snooze(…): later, uncharged. A job may run more than once: make it idempotent.

        In any language, for `pgflow work --handlers-dir DIR`: an executable file named
        after the job type; the payload is its stdin, its exit status the outcome.
        Or for one type: --exec email_send=./send.sh. `pgflow work --check` prints what
        a worker would run."""
    ).splitlines()


def incidents() -> Iterator[str]:
    """Yield the incidents of RUNBOOK.md with the commands that end them."""
    yield "First: pgflow doctor, then pgflow top. RUNBOOK.md says more."
    for title, *commands in _INCIDENTS:
        yield ""
        yield title
        yield from (f"  {command}" for command in commands)


TOPICS: dict[str, Callable[[], Iterator[str]]] = {
    "environment": environment,
    "exit-codes": exit_codes,
    "output": formats,
    "time": times_,
    "handlers": handlers,
    "incidents": incidents,
}


def _listed(rows: object) -> Iterator[str]:
    pairs = [*rows]  # type: ignore[misc]
    width = max(len(name) for name, _ in pairs) + 2
    for name, meaning in pairs:
        lines = textwrap.wrap(meaning, WIDTH - width)
        yield f"{name:<{width}}{lines[0]}"
        yield from (" " * width + line for line in lines[1:])


def _wrapped(text: str) -> list[str]:
    return textwrap.wrap(text, WIDTH, initial_indent="  ", subsequent_indent="  ")
