"""Rows are written in every format as documented, and nothing in them does harm."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from uuid import UUID

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from pgflow_cli.cli.output import live, messages, records, terminal
from pgflow_cli.cli.output.cells import Column
from pgflow_cli.errors import NotFound
from tests.cli.programs import calling, run, writing

ID = UUID("01a2081d-307c-7b77-8a50-0f6c9c41e07b")
DIED = datetime(2026, 11, 23, 15, 16, 22, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Dead:
    job_id: UUID | str
    queue: str
    attempts: int
    died_at: datetime | str | None
    took_ms: float | None
    message: str | None
    meta: dict[str, object] | None = None


COLUMNS = (
    Column("job_id", "ID", kind="id"),
    Column("queue"),
    Column("attempts", kind="number"),
    Column("died_at", "DIED", kind="time"),
    Column("took_ms", "TOOK", kind="ms"),
    Column("message"),
    Column("meta", kind="json", wide=True),
)
ROWS = (
    Dead(ID, "emails", 1200, DIED, 12.5, "refused", {"a": [1]}),
    Dead(str(ID), "billing", -1, "infinity", None, None),
)


def written(*arguments: str, rows: object = ROWS) -> str:
    result = run("list", *arguments, commands=[writing(rows, COLUMNS)])  # type: ignore[arg-type]
    assert result.exit_code == 0, result.output
    return str(result.stdout)


def test_plain_is_the_default_where_no_terminal_is() -> None:
    assert written() == written("-o", "plain")
    first, second, third = written().splitlines()
    assert first.split() == ["ID", "QUEUE", "ATTEMPTS", "DIED", "TOOK", "MESSAGE"]
    assert second.split() == [
        str(ID),
        "emails",
        "1200",
        "2026-11-23T15:16:22Z",
        "12ms",
        "refused",
    ]
    assert third.split() == [str(ID), "billing", "-1", "infinity"]


def test_a_table_has_short_ids_and_relative_times() -> None:
    rows = [Dead(ID, "emails", 1200, datetime.now(UTC) - timedelta(minutes=4), 3, "x")]
    lines = written("-o", "table", rows=rows).splitlines()
    assert lines[1].split() == ["9c41e07b", "emails", "1,200", "4m", "ago", "3ms", "x"]
    assert "META" not in lines[0]
    assert "META" in written("-o", "wide", rows=rows)


def test_json_is_one_document() -> None:
    document = json.loads(written("-o", "json"))
    assert list(document) == ["items", "next_cursor_created_at", "next_cursor_id"]
    assert document["items"][0] == {
        "job_id": str(ID),
        "queue": "emails",
        "attempts": 1200,
        "died_at": "2026-11-23T15:16:22Z",
        "took_ms": 12.5,
        "message": "refused",
        "meta": {"a": [1]},
    }
    assert document["next_cursor_id"] is None


def test_json_names_the_next_page() -> None:
    command = writing(ROWS, COLUMNS, cursor=(DIED, ID))
    document = json.loads(run("list", "-o", "json", commands=[command]).stdout)
    assert document["next_cursor_created_at"] == "2026-11-23T15:16:22Z"
    assert document["next_cursor_id"] == str(ID)


def test_json_is_ascii_and_knows_no_nan() -> None:
    rows = [Dead("ü\ud800\x1b", "e", 1, None, float("nan"), "\u202e")]
    text = written("-o", "json", rows=rows)
    assert text.isascii()
    assert json.loads(text)["items"][0]["took_ms"] is None


def test_jsonl_has_an_object_on_each_line() -> None:
    lines = [json.loads(line) for line in written("-o", "jsonl").splitlines()]
    assert [line["queue"] for line in lines] == ["emails", "billing"]


@pytest.mark.parametrize(("form", "separator"), [("csv", ","), ("tsv", "\t")])
def test_csv_and_tsv_have_a_header_and_rows(form: str, separator: str) -> None:
    rows = list(csv.reader(io.StringIO(written("-o", form)), delimiter=separator))
    assert rows[0] == [column.field for column in COLUMNS]
    assert rows[1][0] == str(ID)
    assert rows[1][6] == '{"a": [1]}'
    assert rows[2][2:6] == ["-1", "infinity", "", ""]


def test_ids_are_full_and_one_on_each_line() -> None:
    assert written("-o", "ids") == f"{ID}\n{ID}\n"


def test_md_is_a_table_for_notes() -> None:
    rows = [Dead(ID, "a|b", 1, None, None, "x")]
    lines = written("-o", "md", rows=rows).splitlines()
    assert lines[1].startswith("|---") or lines[1].startswith("|:--")
    assert "a\\|b" in lines[2]


@pytest.mark.parametrize(
    ("form", "expected"),
    [
        (
            "json",
            '{"items": [], "next_cursor_created_at": null, "next_cursor_id": null}\n',
        ),
        ("jsonl", ""),
        ("ids", ""),
        ("csv", "job_id,queue,attempts,died_at,took_ms,message,meta\n"),
        ("plain", "ID    QUEUE    ATTEMPTS    DIED    TOOK    MESSAGE\n"),
    ],
)
def test_nothing_is_a_success(form: str, expected: str) -> None:
    assert written("-o", form, rows=[]).replace("  ", " ") == expected.replace(
        "  ", " "
    )


@pytest.mark.parametrize("form", ["table", "wide", "md", "tsv"])
def test_nothing_in_other_formats_is_a_header(form: str) -> None:
    assert "queue" in written("-o", form, rows=[]).lower()


def test_columns_may_be_chosen_by_field_or_heading() -> None:
    assert (
        written("-o", "csv", "--columns", "queue,ID").splitlines()[0] == "queue,job_id"
    )
    assert written("--columns", "meta").splitlines()[0] == "META"
    result = run("list", "--columns", "nope", commands=[writing(ROWS, COLUMNS)])
    assert result.exit_code == 2
    assert "Columns: job_id, queue" in result.stderr


@pytest.mark.parametrize("form", ["plain", "table", "csv", "tsv"])
def test_the_headings_may_be_left_out(form: str) -> None:
    assert len(written("-o", form, "--no-headers").splitlines()) == 2


@pytest.mark.parametrize(
    ("choice", "expected"),
    [("iso", "2026-11-23T15:16:22Z"), ("unix", "1795446982"), ("local", "2026-11-23 ")],
)
def test_times_are_written_as_asked(choice: str, expected: str) -> None:
    for form in ("plain", "table"):
        assert expected in written("-o", form, "--time", choice, "--columns", "died_at")


def test_ids_of_what_has_none_are_refused() -> None:
    command = writing([{"a": 1}], [Column("a")])
    result = run("list", "-o", "ids", commands=[command])
    assert result.exit_code == 2


def test_rows_may_be_mappings_and_values_of_any_kind() -> None:
    rows = [{"a": Decimal("1.50"), "b": True, "c": timedelta(seconds=90), "d": (1, 2)}]
    columns = [Column(name) for name in "abcd"]
    result = run("list", "-o", "csv", commands=[writing(rows, columns)])
    assert result.stdout == 'a,b,c,d\n1.50,true,90.0,"[1, 2]"\n'


anything = st.text(st.characters(exclude_categories=()), max_size=30)


@pytest.mark.parametrize("form", records.FORMATS)
@hypothesis_settings(
    max_examples=30,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(text=anything)
def test_no_format_sends_control_characters(form: str, text: str) -> None:
    rows = [Dead(text, text, 1, text, 1, text, {text: text})]
    sent = written("-o", form, rows=rows)
    allowed = {"\n", "\t"} if form == "tsv" else {"\n"}
    bad = {c for c in sent if (ord(c) < 32 or 127 <= ord(c) < 160) and c not in allowed}
    assert not bad
    assert not set("\u061c\u200e\u200f\u202a\u202e\u2066\u2069") & set(sent)


@hypothesis_settings(
    max_examples=50,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(text=anything)
def test_a_row_stays_on_its_line(text: str) -> None:
    rows = [Dead(ID, "q", 1, None, 1, text)] * 2
    for form in ("plain", "jsonl", "ids", "md", "table"):
        lines = written("-o", form, "--no-headers", rows=rows).splitlines()
        assert len(lines) == (3 if form == "md" and len(lines) == 3 else 2)


def test_one_object_is_lines_of_its_fields_or_the_object_itself() -> None:
    command = calling(lambda: records.write_record(ROWS[0], COLUMNS))
    lines = run("call", commands=[command]).stdout.splitlines()
    assert lines[0] == f"ID        {ID}"
    assert lines[1] == "QUEUE     emails"
    document = json.loads(run("call", "-o", "json", commands=[command]).stdout)
    assert document["job_id"] == str(ID)
    one_line = run("call", "-o", "jsonl", commands=[command]).stdout
    assert json.loads(one_line) == document
    assert run("call", "-o", "ids", commands=[command]).stdout == f"{ID}\n"


def test_a_screen_of_text_is_neutral() -> None:
    command = calling(lambda: records.write_text(["a\x1b[31m", "b\nc"]))
    assert run("call", commands=[command]).stdout == "a\\x1b[31m\nb\\nc\n"


def test_words_go_to_stderr_and_quiet_leaves_out_all_but_warnings() -> None:
    def speak() -> None:
        messages.say("done")
        messages.hint("Next: more")
        messages.warn("odd")

    loud = run("call", commands=[calling(speak)])
    assert loud.stderr == "done\nNext: more\nWarning: odd\n"
    assert loud.stdout == ""
    assert run("call", "--quiet", commands=[calling(speak)]).stderr == "Warning: odd\n"


@pytest.mark.parametrize("arguments", [(), ("--no-input",), ("-o", "json")])
def test_without_a_terminal_a_change_is_refused(arguments: tuple[str, ...]) -> None:
    command = calling(lambda: messages.confirm("replay 14 jobs", yes=False))
    result = run("call", *arguments, commands=[command], typed="y\n")
    assert result.exit_code == 4
    assert "--yes" in result.stderr


def test_yes_needs_no_question() -> None:
    command = calling(lambda: messages.confirm("replay 14 jobs", yes=True))
    result = run("call", commands=[command])
    assert (result.exit_code, result.output) == (0, "")


@pytest.mark.parametrize(
    ("given_name", "code"), [("emails", 0), ("email", 4), (None, 4)]
)
def test_something_severe_needs_the_name(given_name: str | None, code: int) -> None:
    command = calling(
        lambda: messages.confirm_name("purge emails", "emails", given=given_name)
    )
    result = run("call", commands=[command])
    assert result.exit_code == code
    assert code == 0 or "--confirm" in result.stderr


def test_a_bar_is_silent_where_no_terminal_is() -> None:
    def count() -> None:
        with terminal.progress("enqueue", total=3) as advance:
            advance(3)

    assert run("call", commands=[calling(count)]).output == ""


def test_a_live_table_leaves_its_last_state_where_no_terminal_is() -> None:
    def watch() -> None:
        with live.live([Column("n", kind="number")]) as show:
            show([{"n": 1}])
            show([{"n": 2}])

    assert run("call", commands=[calling(watch)]).stdout.split() == ["N", "2"]


def test_an_error_after_rows_leaves_the_rows() -> None:
    def half() -> None:
        records.write([{"a": 1}], [Column("a")])
        raise NotFound("the rest is gone")

    result = run("call", "-o", "jsonl", commands=[calling(half)])
    assert (result.exit_code, result.stdout) == (3, '{"a": 1}\n')
