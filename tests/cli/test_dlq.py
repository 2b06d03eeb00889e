"""The command `dlq`: lists, groups, exports, discards; its formats and exit codes."""

from __future__ import annotations

import csv
import io
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.cli.terminals import on_a_terminal
from tests.support.jobs import audit, plant, plant_dead

PGFLOW = str(Path(sys.executable).with_name("pgflow"))
HOSTILE = "=cmd|' /C calc'!A0\x1b]0;owned\x07\u202e"
UNKNOWN = "01a2081d-307c-7b77-8a50-0f6c9c41e07b"


def items(result: Any) -> list[dict[str, Any]]:
    assert result.returncode == 0, result.stderr
    found: list[dict[str, Any]] = json.loads(result.stdout)["items"]
    return found


def ids_of(result: Any) -> list[str]:
    assert result.returncode == 0, result.stderr
    return list(result.stdout.split())


@pytest.fixture
def dead(connection) -> list[str]:
    """Seven dead letters of two kinds, the latest death first."""
    ids = plant_dead(connection, 5, died_ago="1 minute")
    return [
        *ids,
        *plant_dead(
            connection, 2, queue="billing", job_type="invoice_pdf", died_ago="1 hour",
            error_code="BAD_PAYLOAD", reason="NON_RETRYABLE", fingerprint="f1-00000002",
        ),
    ]  # fmt: skip


def test_the_list_has_the_columns_of_the_contract(pgflow, dead):
    result = pgflow("dlq", "list", "--limit", "2")
    heading, first, _ = result.stdout.splitlines()
    assert heading.split() == [
        "ID", "QUEUE", "TYPE", "DIED", "ATTEMPTS", "REASON", "ERROR", "MESSAGE",
    ]  # fmt: skip
    assert first.split()[:3] == [dead[0], "emails", "email_send"]
    assert first.split()[4:] == [
        "1/25", "MAX_ATTEMPTS_EXCEEDED", "DEPENDENCY_DOWN", "connection", "refused",
    ]  # fmt: skip
    shown, causes, next_steps = result.stderr.splitlines()
    assert shown.startswith("2 of 7 shown. Next page: --cursor ")
    assert causes == "By error: DEPENDENCY_DOWN 5, BAD_PAYLOAD 2"
    assert next_steps == (
        f"Next: pgflow explain {dead[0][-8:]}  |  pgflow dlq list --limit 2 --group"
    )


def test_resolved_ones_are_hidden_counted_and_shown_when_asked_for(pgflow, dead):
    assert pgflow("dlq", "discard", dead[0]).returncode == 0
    result = pgflow("dlq", "list")
    assert dead[0] not in result.stdout
    assert "6 of 6 shown, 1 resolved are hidden." in result.stderr
    result = pgflow("dlq", "list", "--include-resolved")
    assert dead[0] in result.stdout
    assert "7 of 7 shown." in result.stderr


def test_an_item_has_the_fields_of_the_api(pgflow, dead):
    row = items(pgflow("dlq", "list", "-o", "json", "--limit", "1"))[0]
    api = {
        "id", "queue", "job_type", "status", "run_at", "priority", "max_attempts",
        "last_error_code", "last_error_message", "dlq_reason_code", "created_at",
        "updated_at", "short_id", "attempt_no", "dlq_at", "fingerprint", "resolved_at",
        "replay_of_job_id", "worker_id",
    }  # fmt: skip
    assert api <= set(row)
    assert "tries" not in row
    assert (row["id"], row["status"], row["worker_id"]) == (dead[0], "dlq", "worker-1")


def test_pages_visit_each_once(pgflow, dead):
    seen, cursor = [], []
    for _ in range(10):
        result = pgflow("dlq", "list", "--limit", "3", "-o", "ids", *cursor)
        seen += ids_of(result)
        if "--cursor" not in result.stderr:
            break
        cursor = ["--cursor", result.stderr.rsplit("--cursor ", 1)[1].strip()]
    assert seen == dead
    every = pgflow("dlq", "list", "--limit", "1", "--all-pages", "-o", "ids")
    assert ids_of(every) == dead
    assert every.stderr == ""


def test_filters_and_globs_narrow(pgflow, dead):
    for words in (
        ("-q", "bill*"),
        ("-t", "invoice_pdf", "--error-code", "BAD_PAYLOAD"),
        ("--until", "30m"),
        ("--fingerprint", "f1-00000002"),
    ):
        assert ids_of(pgflow("dlq", "list", *words, "-o", "ids")) == dead[5:]
    nothing = pgflow("dlq", "list", "-q", "none*", "-o", "json")
    assert items(nothing) == []
    assert "No dead letters" in pgflow("dlq", "list", "-q", "nope").stderr


def test_no_variable_narrows_a_list(pgflow, dead):
    result = pgflow("dlq", "list", "-o", "ids", env={"PGFLOW_QUEUE": "billing"})
    assert ids_of(result) == dead


def test_the_exit_code_is_5_if_there_are_any(pgflow, dead):
    assert pgflow("dlq", "list", "--exit-code").returncode == 5
    assert pgflow("dlq", "list", "--group", "--exit-code").returncode == 5
    empty = pgflow("dlq", "list", "--exit-code", "-q", "nope")
    assert (empty.returncode, empty.stdout.count("\n")) == (0, 1)


def test_groups_are_by_fingerprint_unless_told(pgflow, dead):
    result = pgflow("dlq", "list", "--since", "2h", "--group")
    heading, first, second = result.stdout.splitlines()
    assert heading.split() == [
        "FINGERPRINT", "COUNT", "SHARE", "FIRST", "LAST", "TYPE", "ERROR", "SAMPLE",
        "MESSAGE",
    ]  # fmt: skip
    assert first.split()[:3] == ["f1-3ac91b20", "5", "71.4%"]
    assert second.split()[:2] == ["f1-00000002", "2"]
    assert "pgflow replay --fingerprint f1-3ac91b20 --dry-run" in result.stderr
    for key, names in (
        ("error-code", ["DEPENDENCY_DOWN", "BAD_PAYLOAD"]),
        ("reason", ["MAX_ATTEMPTS_EXCEEDED", "NON_RETRYABLE"]),
        ("type", ["email_send", "invoice_pdf"]),
        ("queue", ["emails", "billing"]),
        ("code-version", ["4f2a9c"]),
    ):
        rows = items(pgflow("dlq", "list", "--group", key, "-o", "json"))
        assert [row["key"] for row in rows] == names
    assert list(rows[0]) == [
        "key", "count", "share", "first_at", "last_at", "job_type", "error_code",
        "sample_job_id", "message",
    ]  # fmt: skip
    assert pgflow("dlq", "list", "--group", "color").returncode == 2
    cursor = ("--cursor", "WyIyMDI2LTExLTIzVDAwOjAwOjAwKzAwOjAwIiwieCJd")
    assert pgflow("dlq", "list", "--group", "type", *cursor).returncode == 2


def test_stats_count_by_time_and_key(pgflow, dead):
    rows = items(
        pgflow("dlq", "stats", "--by", "error-code", "--bucket", "30d", "-o", "json")
    )
    assert [(row["key"], row["count"]) for row in rows] == [
        ("DEPENDENCY_DOWN", 5), ("BAD_PAYLOAD", 2),
    ]  # fmt: skip
    assert list(rows[0]) == ["bucket", "key", "count"]
    plain = pgflow("dlq", "stats", "-q", "billing")
    assert plain.stdout.split()[:3] == ["BUCKET", "KEY", "COUNT"]


def test_show_explains_and_prints_the_payload(pgflow, connection):
    [job_id] = plant_dead(connection, payload='{"customer": 7}')
    result = pgflow("dlq", "show", job_id[-8:])
    assert result.stdout.startswith(f"Job {job_id}  email_send on emails  [x] DLQ")
    assert 'Payload {"customer": 7}' in result.stdout
    document = json.loads(pgflow("dlq", "show", job_id, "-o", "json").stdout)
    assert document["payload_json"] == {"customer": 7}


def test_show_is_for_dead_letters_only(pgflow, connection):
    [waiting] = plant(connection)
    refused = pgflow("dlq", "show", waiting)
    assert refused.returncode == 4
    assert "is queued; only dead letters can be shown here" in refused.stderr
    assert pgflow("dlq", "show", UNKNOWN).returncode == 3
    assert pgflow("dlq", "show", "xyz").returncode == 2


def test_nothing_of_a_dead_letter_commands_a_terminal_or_a_spreadsheet(
    pgflow, connection
):
    plant_dead(connection, error_message=HOSTILE, payload='{"a": "\\u009b\\u202e"}')
    for arguments in (
        ("list",), ("list", "-o", "table"), ("list", "-o", "csv"), ("list", "--group"),
        ("list", "-o", "md"), ("export",), ("export", "--format", "csv"),
    ):  # fmt: skip
        text = pgflow("dlq", *arguments).stdout
        assert not {"\x1b", "\x07", "\x9b", "\u202e"} & set(text), arguments
    for arguments in (("list", "-o", "csv"), ("export", "--format", "csv")):
        text = pgflow("dlq", *arguments).stdout
        [row] = csv.DictReader(io.StringIO(text))
        assert row["last_error_message"].startswith("'=cmd")


def test_an_export_holds_all_that_a_job_was(pgflow, connection, tmp_path):
    payload = '{"n": 1e400, "big": 12345678901234567890, "text": "ü\\u0001"}'
    [job_id] = plant_dead(connection, payload=payload, meta='{"tenant": "a"}')
    result = pgflow("dlq", "export", "dead.jsonl")
    assert (result.returncode, result.stdout) == (0, "")
    assert "exported 1 dead letters" in result.stderr
    file = tmp_path / "dead.jsonl"
    assert file.stat().st_mode & 0o777 == 0o600
    assert list(tmp_path.glob("*.partial*")) == []
    text = file.read_text(encoding="ascii")
    row = json.loads(text, parse_float=str)
    assert (row["id"], row["meta"]) == (job_id, {"tenant": "a"})
    assert row["payload_json"]["big"] == 12345678901234567890
    assert row["payload_json"]["text"] == "ü\x01"
    assert f'"n": 1{"0" * 400}' in text
    assert pgflow("dlq", "export").stdout == text


def test_an_export_has_every_page_of_a_filter(pgflow, connection):
    ids = plant_dead(connection, 230)
    plant_dead(connection, 2, queue="other")
    lines = pgflow("dlq", "export", "-q", "emails", "-").stdout.splitlines()
    assert [json.loads(line)["id"] for line in lines] == ids
    rows = pgflow("dlq", "export", "--format", "csv").stdout.splitlines()
    assert rows[0].endswith("meta,payload_json")
    assert len(rows) == 233


def test_an_export_that_cannot_be_written_leaves_no_file(pgflow, dead, tmp_path):
    missing = pgflow("dlq", "export", "no/such/folder")
    assert missing.returncode == 74
    assert "cannot write no/such/folder: No such file" in missing.stderr
    (tmp_path / "taken").mkdir()
    assert pgflow("dlq", "export", "taken").returncode == 74
    assert [path.name for path in tmp_path.iterdir() if "taken" in path.name] == [
        "taken"
    ]


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGTERM, 143), (signal.SIGHUP, 129)]
)
def test_an_export_that_a_signal_ends_leaves_no_payload_behind(
    database, connection, dead, tmp_path, wait_until, number, code
):
    """It waits for a lock in the database, with its file open."""
    with database.connect() as other:
        other.autocommit = False
        other.execute("lock table pgflow.dead_letters")
        ignored = signal.signal(number, signal.SIG_DFL)  # by nohup, and so inherited
        process = subprocess.Popen(
            [str(Path(sys.executable).with_name("pgflow")), "dlq", "export", "a.jsonl"],
            env={**os.environ, "DATABASE_URL": database.url},
            cwd=tmp_path,
            stderr=subprocess.PIPE,
        )
        signal.signal(number, ignored)
        try:
            wait_until(lambda: list(tmp_path.glob("a.jsonl.*")), "it has begun a file")
            process.send_signal(number)
            assert process.wait(60) == code
        finally:
            process.kill()
            process.communicate()
    assert list(tmp_path.iterdir()) == []


def test_what_is_discarded_is_resolved_and_audited_once(pgflow, connection, dead):
    result = pgflow("dlq", "discard", "-t", "invoice_pdf", "--note", "never", "--yes")
    assert (result.returncode, result.stdout) == (
        0, "discarded 2, skipped 0, failed 0 (action 1)\n",
    )  # fmt: skip
    rows = connection.execute(
        "select action, jobs, note from pgflow.operator_actions"
    ).fetchall()
    assert rows == [("dlq.discard", 2, "never")]
    assert ids_of(pgflow("dlq", "list", "-o", "ids")) == dead[:5]
    assert audit(connection) == (0, 0)


def test_several_are_not_discarded_unasked(pgflow, connection, dead):
    for form in ("plain", "json", "ids"):
        refused = pgflow("dlq", "discard", "-q", "emails", "-o", form)
        assert (refused.returncode, refused.stdout) == (4, "")
    tried = pgflow("dlq", "discard", "-q", "emails", "-n")
    assert tried.stdout.splitlines() == [
        "Would discard 5 dead letters", "Run      pgflow dlq discard -q emails --yes",
    ]  # fmt: skip
    assert pgflow("dlq", "discard").returncode == 2
    too_many = pgflow("dlq", "discard", "--all", "--max", "6", "--yes")
    assert too_many.returncode == 4
    assert "--max" in too_many.stderr
    assert ids_of(pgflow("dlq", "list", "-o", "ids")) == dead
    assert connection.execute("select from pgflow.operator_actions").fetchall() == []


def test_bad_ids_are_told_and_the_others_go_on(pgflow, connection, dead):
    [waiting] = plant(connection)
    given = "\n".join([dead[0], UNKNOWN, "xyz", waiting, dead[1]])
    result = pgflow("dlq", "discard", "-", "--yes", input=given)
    assert result.returncode == 1
    assert result.stdout == "discarded 2, skipped 0, failed 3 (action 1)\n"
    for word in (f"there is no job {UNKNOWN}", "xyz", "is queued"):
        assert word in result.stderr
    again = pgflow("dlq", "discard", "-", "--yes", input=f"{dead[0]}\n{dead[1]}\n")
    assert (again.returncode, again.stdout) == (
        0, "discarded 0, skipped 2, failed 0\n",
    )  # fmt: skip
    assert pgflow("dlq", "discard", dead[0]).returncode == 4
    assert pgflow("dlq", "discard", UNKNOWN).returncode == 3
    nothing = pgflow("dlq", "discard", "-", input="")
    assert (nothing.returncode, nothing.stdout) == (
        0, "discarded 0, skipped 0, failed 0\n",
    )  # fmt: skip


def test_what_is_deleted_is_gone_for_good(pgflow, connection, dead):
    result = pgflow(
        "dlq", "discard", "-q", "billing", "--delete", "--yes", "-o", "json"
    )
    assert json.loads(result.stdout) == {
        "deleted": 2, "skipped": 0, "failed": 0, "action": 1,
    }  # fmt: skip
    left = connection.execute("select count(*) from pgflow.jobs").fetchone()
    assert left == (5,)
    assert audit(connection) == (0, 0)
    assert pgflow("explain", dead[5]).returncode == 3


def test_a_person_is_asked_and_may_say_no(database, connection, dead):
    words = [PGFLOW, "dlq", "discard", "-q", "emails"]
    variables = {"DATABASE_URL": database.url}
    no = on_a_terminal(words, variables=variables, typed="n\n")
    assert no.code == 1
    assert "Discard 5 dead letters (database " in no.text
    yes = on_a_terminal(words, variables=variables, typed="y\n")
    assert (yes.code, yes.lines[-1].split("] ")[-1]) == (
        0, "discarded 5, skipped 0, failed 0 (action 1)",
    )  # fmt: skip


def test_a_screen_of_80_columns_keeps_ids_and_fingerprints_whole(database, dead):
    variables = {"DATABASE_URL": database.url}
    seen = on_a_terminal([PGFLOW, "dlq", "list", "--group"], variables=variables)
    assert seen.lines[1].startswith("f1-3ac91b20 ")
    assert dead[0][-8:] in seen.lines[1]
    seen = on_a_terminal([PGFLOW, "dlq", "list"], variables=variables)
    table = [line for line in seen.lines if line.startswith(dead[0][-8:])]
    assert len(table) == 1
    assert max(len(line) for line in seen.lines[:8]) <= 80


def test_a_watched_list_is_jsonl_elsewhere_than_on_a_terminal(database, dead):
    from subprocess import PIPE, Popen  # noqa: PLC0415

    with Popen(
        [PGFLOW, "dlq", "list", "-w", "--limit", "1"],
        env={"DATABASE_URL": database.url, "PATH": "/usr/bin"},
        stdout=PIPE,
        encoding="utf-8",
    ) as process:
        assert process.stdout is not None
        rows = [json.loads(process.stdout.readline()) for _ in range(2)]
        process.terminate()
    assert [row["id"] for row in rows] == [dead[0]] * 2
