"""One line for each event, under fixed names; nothing forged in it, nothing secret."""

from __future__ import annotations

import ast
import io
import json
import logging
import re
import threading
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import pgflow_cli
from pgflow_cli import handlers
from pgflow_cli.cli.settings.report import Value
from pgflow_cli.errors import DatabaseUnavailable, StatementFailed
from pgflow_cli.handlers import App, Job, JobFields
from pgflow_cli.handlers.outcomes import EVENTS
from pgflow_cli.telemetry import logs
from pgflow_cli.telemetry.log_format import FIELDS, JsonLines, TextLines, story
from tests.support.leased_jobs import leased

ROOT = Path(pgflow_cli.__file__).parent
RUNBOOK = ROOT.parent / "RUNBOOK.md"
PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
HOSTILE = (
    'x\n{"ts": "2026", "level": "error", "event": "job_dlq"}\r\n'
    "12:00:00.000 error  forged\x0b\x0c\x1b]0;title\x07\x85\u2028\u2029\u202e\ud800\x00"
)
FORMS = {
    "json": JsonLines(worker_id="w1"),
    "text": TextLines(worker_id="w1"),
    "tall": TextLines(tall=True, worker_id="w1"),
}
Log = Callable[[str], tuple[logging.Logger, io.StringIO]]


@pytest.fixture
def log() -> Iterator[Log]:
    """A logger that writes one of the forms, and what it has written."""
    made: list[logging.Logger] = []

    def make(form: str) -> tuple[logging.Logger, io.StringIO]:
        stream = io.StringIO()
        handler = logging.StreamHandler(stream)
        handler.setFormatter(FORMS[form])
        handler.addFilter(handlers.JobFields())
        logger = logging.getLogger(f"tests.logs.{form}")
        logger.handlers[:], logger.propagate = [handler], False
        logger.setLevel("DEBUG")
        made.append(logger)
        return logger, stream

    yield make
    for logger in made:
        logger.handlers.clear()
        logger.propagate = True


@pytest.fixture
def root() -> Iterator[None]:
    """Put back what `set_up` changes for the whole process."""
    logger = logging.getLogger()
    before = logger.handlers[:], logger.level, threading.excepthook
    yield
    logger.handlers[:], level, threading.excepthook = before
    logger.setLevel(level)
    logging.captureWarnings(capture=False)


def raised(error: BaseException, cause: BaseException | None = None) -> BaseException:
    try:
        raise error from cause
    except BaseException as caught:
        return caught


# The form.


def test_the_fields_stand_under_their_names(log: Log) -> None:
    logger, written = log("json")
    meta = json.dumps({"traceparent": PARENT})
    job = leased(job_type="mail", queue="emails", attempt_no=3, meta=meta)
    outcome = handlers.conclude(handlers.Handler("mail"), job, handlers.Fail("NO_ROOM"))
    handlers.log_outcome(logger, job, outcome, 0.0123)
    line = json.loads(written.getvalue())
    assert list(line)[:5] == ["ts", "level", "event", "logger", "message"]
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", line["ts"])
    assert (line["level"], line["event"]) == ("error", "job_dlq")
    assert tuple(line)[5:14] == FIELDS
    assert {name: line[name] for name in FIELDS} == {
        "worker_id": "w1",
        "queue": "emails",
        "job_id": job.job_id,
        "job_type": "mail",
        "attempt_no": 3,
        "latency_ms": 12.3,
        "error_code": "NO_ROOM",
        "reason_code": "NON_RETRYABLE",
        "trace_id": "0af7651916cd43dd8448eb211c80319c",
    }


def test_text_has_the_same_fields(log: Log) -> None:
    logger, written = log("text")
    logger.warning("two words", extra={"event": "job_lost", "error_code": "A B"})
    assert re.fullmatch(
        r'\S+Z warning two words  event=job_lost worker_id=w1 error_code="A B"\n',
        written.getvalue(),
    )


@pytest.mark.parametrize("form", ["json", "text"])
@pytest.mark.parametrize(
    "where",
    ["message", "argument", "event", "field", "key", "nested", "exception", "logger"],
)
def test_no_field_forges_a_line(log: Log, form: str, where: str) -> None:
    logger, written = log(form)
    extra: dict[str, Any] = {}
    message, arguments, error = "a message", [], None
    if where == "message":
        message = HOSTILE.replace("%", "")
    elif where == "argument":
        message, arguments = "a %s", [HOSTILE]
    elif where == "event":
        extra = {"event": HOSTILE}
    elif where == "field":
        extra = dict.fromkeys((*FIELDS, "mine"), HOSTILE)
    elif where == "key":
        extra = {HOSTILE: 1}
    elif where == "nested":
        extra = {"mine": {HOSTILE: [HOSTILE, (HOSTILE,)]}}
    elif where == "exception":
        error = raised(ValueError(HOSTILE), KeyError(HOSTILE))
    else:
        logger = logger.getChild(HOSTILE)
    logger.info(message, *arguments, extra=extra, exc_info=error)
    text = written.getvalue()
    assert text.isascii() or form == "text"
    assert text.endswith("\n")
    assert len(text.splitlines()) == 1
    assert text[:-1].isprintable()
    if form == "json":
        line = json.loads(text)
        assert line["level"] == "info"
        assert (line["worker_id"] == "w1") is (where != "field")


def test_before_a_person_a_traceback_stands_apart_and_marked(log: Log) -> None:
    logger, written = log("tall")
    logger.error("it fails", exc_info=raised(ValueError("a\n12:00:00.000 error x")))
    first, *more = written.getvalue().splitlines()
    assert re.match(r"\d\d:\d\d:\d\d\.\d{3} error +it fails", first)
    assert more
    assert all(line.startswith("  | ") for line in more)
    assert "  | ValueError: a" in more


@pytest.mark.parametrize("form", FORMS)
def test_what_cannot_be_written_is_written_all_the_same(log: Log, form: str) -> None:
    class Hostile:
        def __str__(self) -> str:
            raise SystemExit

        __repr__ = __str__

    class Deaf(Exception):
        def __str__(self) -> str:
            raise RecursionError

        def __eq__(self, other: object) -> bool:
            raise ValueError

        __hash__ = None  # type: ignore[assignment]

    loop: list[object] = []
    loop.append(loop)
    logger, written = log(form)
    logger.info("a %d", "word")
    logger.info("a", extra={"o": Hostile(), "n": float("nan"), "l": loop, "s": {1, 2}})
    logger.info("a", extra={"d": {(1, 2): b"\xff", None: Hostile()}, "e": Deaf()})
    logger.error("a", exc_info=raised(Deaf(), Deaf()))
    logger.error("a", exc_info=raised(BaseExceptionGroup("g", [ValueError(), Deaf()])))
    lines = [
        line for line in written.getvalue().splitlines() if not line.startswith("  | ")
    ]
    assert len(lines) == 5
    if form == "json":
        for line in lines:
            json.loads(line, parse_constant=pytest.fail)


def test_no_handler_changes_what_is_ours(log: Log) -> None:
    logger, written = log("json")
    names = ("ts", "level", "logger", "traceback")
    logger.info("mine", extra={**dict.fromkeys(names, "forged"), "event": 7})
    line = json.loads(written.getvalue())
    assert "forged" not in line.values()
    assert line["event"] == "log"


def test_a_huge_line_is_cut(log: Log) -> None:
    logger, written = log("json")
    logger.info("x" * 3_000_000, extra={"mine": "y" * 3_000_000})
    assert len(written.getvalue()) < 50_000


@pytest.mark.parametrize("form", FORMS)
def test_no_line_shows_a_password_or_a_row(log: Log, form: str) -> None:
    class Diagnosis:
        message_primary = 'duplicate key value violates unique constraint "a"'

    class UniqueViolation(Exception):
        diag = Diagnosis()

    canary = "cAnArY"
    detail = f"duplicate key\nDETAIL:  Key (a)=({canary}) already exists."
    logger, written = log(form)
    logger.info("to postgres://me:%s@db/x", canary, extra={"u": f"a://b:{canary}@c"})
    logger.info("a", extra={"nested": {"dsn": [f"password={canary} host=db"]}})
    logger.error("a", exc_info=raised(ValueError("a"), raised(UniqueViolation(detail))))
    logger.error("a", exc_info=raised(ValueError(f"postgres://me:{canary}@db")))
    assert "violates unique constraint" in written.getvalue()
    assert canary not in written.getvalue()


def test_a_traceback_begins_with_the_cause() -> None:
    def deep(n: int) -> None:
        deep(n + 1)

    try:
        deep(0)
    except RecursionError as error:
        lines = list(story(raised(ValueError("last"), error)))
    assert len(lines) < 200
    said = [line for line in lines if not line.startswith(" ")]
    assert said[0] == said[3] == "Traceback (most recent call last):"
    assert said[1].startswith("RecursionError: ")
    assert said[2] == "which led to:"
    assert said[-1] == "ValueError: last"


# A process's log.


def test_lines_of_threads_and_warnings_have_the_form(
    root: None, capsys: pytest.CaptureFixture[str]
) -> None:
    logs.set_up("json", "info", worker_id="w1")
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        logging.captureWarnings(capture=False)
        logging.captureWarnings(capture=True)
        warnings.warn("old\nthing", stacklevel=1)

    def fail() -> None:
        raise ValueError("a\nb")

    thread = threading.Thread(target=fail)
    thread.start()
    thread.join()
    lines = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert [line["event"] for line in lines] == ["log", "thread_failed"]
    assert "ValueError: a\nb" in lines[1]["traceback"]


def test_one_trouble_is_told_once_in_a_while(
    root: None, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = [0.0]
    monkeypatch.setattr(logs, "monotonic", lambda: clock[0])
    logs.set_up("json", "info", processes=2)
    logger = logging.getLogger("tests.logs.trouble")
    away, bug = DatabaseUnavailable("away"), StatementFailed("bug")
    for tick in range(100):
        clock[0] = tick / 10
        logger.warning("a %d", tick, extra=logs.trouble("heartbeat_failed", away))
        logger.warning("b %d", tick, extra=logs.trouble("upkeep_failed", away))
    logger.warning("c", extra=logs.trouble("upkeep_failed", bug))
    logger.warning("d", extra={"event": "job_retried"})
    logger.warning("d", extra={"event": "job_retried"})
    lines = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert [line["message"] for line in lines] == [
        "a 0", "a 20", "a 40", "a 60", "a 80", "c", "d", "d"
    ]  # fmt: skip
    assert [line.get("left_out") for line in lines[:3]] == [None, 39, 39]
    assert lines[0]["error_class"] == "DatabaseUnavailable"
    assert "_repeats" not in lines[0]


def test_lines_of_a_talkative_library_share_a_limit(
    root: None, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = [0.0]
    monkeypatch.setattr(logs, "monotonic", lambda: clock[0])
    logs.set_up("json", "info")
    logs.limit("tests.logs.queue")
    for tick in range(20):
        clock[0] = tick / 10
        logging.getLogger("tests.logs.queue").warning("depth is %d", tick)
        logging.getLogger("tests.logs.other").warning("something else")
    lines = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    told = [line for line in lines if line["logger"] == "tests.logs.queue"]
    assert [line["message"] for line in told] == ["depth is 0", "depth is 10"]
    assert told[1]["left_out"] == 9
    assert len(lines) == len(told) + 20


def test_the_first_line_is_the_settings(
    root: None, capsys: pytest.CaptureFixture[str]
) -> None:
    logs.set_up("json", "info")
    logs.say_settings(
        [
            Value("PGFLOW_QUEUE", "--queue", "a", "environment", "default", ""),
            Value("", "--poll", "250ms", "default", "250ms", ""),
        ]
    )
    line = json.loads(capsys.readouterr().err)
    assert line["event"] == "settings"
    assert line["settings"] == {
        "PGFLOW_QUEUE": {"value": "a", "origin": "environment"},
        "--poll": {"value": "250ms", "origin": "default"},
    }
    assert "PGFLOW_QUEUE=a (environment)" in line["message"]
    assert "--poll" not in line["message"]


# Handlers.


def test_lines_of_a_handler_carry_its_job(
    root: None, capsys: pytest.CaptureFixture[str]
) -> None:
    logs.set_up("json", "info", worker_id="w1", filters=[JobFields()])
    app = App()

    @app.handler("thread")
    def in_thread(job: Job) -> None:
        logging.getLogger("lib").info("deep inside")

    @app.handler("async")
    async def in_loop(job: Job) -> None:
        logging.getLogger("lib").info("deep inside")

    for job_type in ("thread", "async"):
        app.run(job_type, queue="emails", meta={"traceparent": PARENT})
    logging.getLogger("lib").info("outside")
    *inside, outside = [
        json.loads(line) for line in capsys.readouterr().err.splitlines()
    ]
    for line, job_type in zip(inside, ("thread", "async"), strict=True):
        assert (line["worker_id"], line["queue"]) == ("w1", "emails")
        assert (line["job_type"], line["attempt_no"]) == (job_type, 1)
        assert len(line["job_id"]) == 36
        assert line["trace_id"] == PARENT[3:35]
    assert "job_id" not in outside


# The names of events.


def test_every_event_is_in_the_runbook_and_the_other_way_round() -> None:
    found = re.search(
        r"<!-- log events: .*?-->\n(.*?)<!-- end of log events -->",
        RUNBOOK.read_text(encoding="utf-8"),
        re.DOTALL,
    )
    assert found is not None, "RUNBOOK has no table of log events"
    rows = [line for line in found[1].splitlines() if line.startswith("| `")]
    listed = [
        name for row in rows for name in re.findall(r"`(\w+)`", row.split("|")[1])
    ]
    assert len(listed) == len(set(listed))
    assert set(listed) == {*events(), "log"}


def test_every_line_of_ours_names_its_event() -> None:
    for module, call in log_calls():
        extra = next((k.value for k in call.keywords if k.arg == "extra"), None)
        assert extra is not None, f"{module.name}:{call.lineno} has no event"


def events() -> set[str]:
    """Return the names that the code gives to events."""
    found = set(EVENTS.values())
    for module in ROOT.rglob("*.py"):
        for node in ast.walk(ast.parse(module.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Dict):
                found |= {
                    value.value
                    for key, value in zip(node.keys, node.values, strict=True)
                    if isinstance(key, ast.Constant)
                    and key.value == "event"
                    and isinstance(value, ast.Constant)
                }
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "logs.trouble":
                assert isinstance(node.args[0], ast.Constant)
                found.add(node.args[0].value)
    return found


def log_calls() -> Iterator[tuple[Path, ast.Call]]:
    levels = {"debug", "info", "warning", "error", "exception", "critical", "log"}
    for module in ROOT.rglob("*.py"):
        for node in ast.walk(ast.parse(module.read_text(encoding="utf-8"))):
            if (
                isinstance(node, ast.Call)
                and isinstance(node.func, ast.Attribute)
                and node.func.attr in levels
                and re.search(r"(^|\.)log$|getLogger", ast.unparse(node.func.value))
            ):
                yield module, node
