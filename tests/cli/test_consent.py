"""What every change shares: who it was, what was typed, what is asked and refused."""

from __future__ import annotations

import getpass
import json
import socket
from typing import Any

import click
import pytest

from pgflow_cli.cli import changes, filters
from pgflow_cli.cli.changes import Change
from pgflow_cli.cli.context import command
from pgflow_cli.models.selection import JobFilter, Page, token
from tests.cli.programs import run
from tests.unit.models.test_selection import NOON

URL = "postgres://app:canary-pw@db:5432/app"


@command("change")
@click.argument("ids", nargs=-1)
@filters.filter_options("queues", "error_codes", "since", "meta", "match", "replay_of")
@changes.change_options(bulk=True)
def changing(ids: tuple[str, ...], chosen: JobFilter, change: Change) -> None:
    """Change nothing."""
    read = changes.read_ids(ids)
    change.require_selection(read, chosen)
    change.require_at_most(len(read))
    if change.dry_run:
        changes.tell_dry_run()
        return
    change.confirm(f"Change {len(read)} jobs", count=len(read))
    operator = change.operator
    about = [operator.actor, operator.command, operator.note, read, chosen.queues]
    click.echo(json.dumps([*about, chosen.meta]))


@command("page")
@filters.page_options
def paging(page: Page) -> None:
    """Print the page."""
    click.echo(f"{page.limit} {page.after} {page.everything}")


def change(*words: str, **more: Any) -> Any:
    variables = {"DATABASE_URL": URL, **more.pop("variables", {})}
    return run("change", *words, commands=[changing], variables=variables, **more)


def test_the_operator_is_the_user_of_this_host_unless_named():
    actor, *_ = json.loads(change("a", "--yes").stdout)
    assert actor == f"{getpass.getuser()}@{socket.gethostname()}"
    assert json.loads(change("a", "--as", "eve").stdout)[0] == "eve"
    variables = {"PGFLOW_ACTOR": "cron"}
    assert json.loads(change("a", variables=variables).stdout)[0] == "cron"


def test_the_command_is_kept_as_typed_without_secrets():
    result = change("a", "--note", "it's me", "--database-url", URL)
    _, typed, note, *_ = json.loads(result.stdout)
    assert typed == "pgflow change a --note 'it'\"'\"'s me' --database-url '***'"
    assert note == "it's me"
    inline = change("a", f"--database-url={URL}")
    assert "canary-pw" not in inline.stdout


@pytest.mark.parametrize(
    "words", [(), ("a", "--all"), ("a", "-q", "x"), ("--all", "-q", "x")]
)
def test_a_change_of_nothing_in_particular_is_refused(words):
    assert change(*words).exit_code == 2


def test_more_than_max_is_refused_with_the_way_out():
    result = change("a", "b", "c", "--max", "2", "--yes")
    assert result.exit_code == 4
    assert "--max 3" in result.stderr


def test_several_jobs_need_a_yes_where_nobody_can_be_asked():
    refused = change("a", "b")
    assert (refused.exit_code, refused.stdout) == (4, "")
    assert change("a", "b", "--yes").exit_code == 0
    assert change("a").exit_code == 0


def test_in_production_one_job_needs_a_yes_too():
    variables = {"PGFLOW_PRODUCTION": "1"}
    assert change("a", variables=variables).exit_code == 4
    assert change("a", "--yes", variables=variables).exit_code == 0


def test_a_dry_run_prints_the_command_that_does_it():
    result = change("-q", "emails.*", "--since", "2h", "-n")
    assert "DRY RUN, nothing changed" in result.stderr
    assert "app@db:5432/app" in result.stderr
    assert "canary-pw" not in result.output
    run_it = "Run      pgflow change -q 'emails.*' --since 2h --yes\n"
    assert result.stdout == run_it


def test_ids_come_from_stdin_and_files_each_once(tmp_path):
    path = tmp_path / "ids"
    path.write_text("# a comment\nc\n\nb\n")
    result = change("a", "-", f"@{path}", "--yes", typed="b\na\n")
    assert json.loads(result.stdout)[3] == ["a", "b", "c"]
    assert change("@/nowhere", "--yes").exit_code == 3
    path.write_bytes(b"\xff\xfe")
    assert change(f"@{path}", "--yes").exit_code == 2


def test_filters_are_validated_at_the_edge():
    for words in (
        ("-q", "no queue"),
        ("--error-code", "lower"),
        ("--since", "soon"),
        ("--meta", "novalue"),
        ("--match", "a\0b"),
        ("--replay-of", "short"),
        ("--note", "x" * 1001),
        ("--batch-size", "0"),
    ):
        assert change("--yes", *words).exit_code == 2, words


def test_no_variable_narrows_a_filter():
    variables = {"PGFLOW_QUEUE": "emails"}
    assert json.loads(change("a", variables=variables).stdout)[4] == []


def test_pages_have_bounds_and_cursors_are_checked():
    def page(*words: str) -> Any:
        return run("page", *words, commands=[paging])

    assert page().stdout == "50 None False\n"
    assert page("--limit", "500", "--all-pages").stdout == "500 None True\n"
    assert page("--limit", "501").exit_code == 2
    assert page("--cursor", "nonsense").exit_code == 2
    shown = page("--cursor", token((NOON, "an-id"))).stdout
    assert "an-id" in shown
