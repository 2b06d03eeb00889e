"""The options of a command are one object, made from the fields that declare them."""

from __future__ import annotations

import inspect
import json
import re
from dataclasses import FrozenInstanceError, dataclass, fields
from typing import Any

import click
import pytest

from pgflow_cli.admin.options import AdminOptions
from pgflow_cli.backups import Wanted
from pgflow_cli.cli import servers
from pgflow_cli.cli.context import command
from pgflow_cli.cli.settings.option import (
    OptionGroup,
    build,
    declared,
    option,
    setting,
)
from pgflow_cli.cli.settings.work import WorkOptions
from pgflow_cli.commands import backup, enqueue, maintain, serve_admin, work
from pgflow_cli.maintenance import MaintenancePlan
from pgflow_cli.models.jobs import JobOptions
from pgflow_cli.worker.options import WorkerOptions
from tests.cli.programs import run

USED = [
    (WorkOptions, WorkerOptions, work),
    (serve_admin.ServeAdminOptions, AdminOptions, serve_admin),
    (maintain.MaintainOptions, MaintenancePlan, maintain),
    (backup.BackupOptions, Wanted, backup),
    (enqueue.EnqueueOptions, JobOptions, enqueue),
]


@dataclass(frozen=True)
class _Inner:
    depth: str = setting("--depth", help="How deep.", variable="PGFLOW_DEPTH")


@dataclass(frozen=True)
class _Outer:
    name: str = declared(click.argument("name"))
    width: int = option("--width", type=int, default=3, help="How wide.")
    inner: _Inner = declared(OptionGroup(_Inner, "inner"))
    last: bool = setting("--last", help="The last one.", is_flag=True)


@dataclass(frozen=True)
class _Made:
    width: int
    depth: str | None
    colour: str = "red"


@command("measure")
@OptionGroup(_Outer)
def measure(options: _Outer) -> None:
    """Print what it was given."""
    with pytest.raises(FrozenInstanceError):
        options.width = 9  # type: ignore[misc]
    made = build(_Made, options, options.inner, colour=options.name)
    click.echo(json.dumps([made.width, made.depth, made.colour, options.last]))


def test_a_command_is_called_with_one_object_and_groups_may_hold_groups() -> None:
    result = run("measure", "blue", "--depth", "2m", commands=[measure])
    assert json.loads(result.stdout) == [3, "2m", "blue", False], result.output
    result = run("measure", "blue", "--width", "5", "--last", commands=[measure])
    assert json.loads(result.stdout) == [5, None, "blue", True], result.output


def test_the_help_lists_options_in_the_order_of_the_fields() -> None:
    text = run("measure", "--help", commands=[measure]).stdout
    places = [text.index(flag) for flag in ("NAME", "--width", "--depth", "--last")]
    assert places == sorted(places)
    assert "[PGFLOW_DEPTH]" in text


def test_the_settings_of_a_group_are_those_of_its_groups_too() -> None:
    assert [each.name for each in OptionGroup(_Outer).settings] == ["depth", "last"]


def test_what_is_named_beats_what_an_option_of_that_name_says() -> None:
    made = build(_Made, _Made(1, "a"), depth="b")
    assert made == _Made(1, "b")


@pytest.mark.parametrize(
    ("options", "made", "module"), USED, ids=[each[0].__name__ for each in USED]
)
def test_no_option_is_lost_on_its_way(options: Any, made: Any, module: Any) -> None:
    """`build` takes those with the name of a field, the command uses the others."""
    code = inspect.getsource(module) + inspect.getsource(servers)
    used = set(re.findall(r"\boptions\.(\w+)", code))
    lost = {each.name for each in fields(options)} - {
        each.name for each in fields(made)
    }
    assert lost <= used
