"""See which settings are in force, where they come from, and what is wrong."""

from __future__ import annotations

from pathlib import Path

import click

from pgflow_cli.cli.context import SettingsFreeCommand, group
from pgflow_cli.cli.output import messages, records
from pgflow_cli.cli.output.cells import Column
from pgflow_cli.cli.settings import report
from pgflow_cli.errors import ConfigurationError, Refused

SETTINGS = (
    Column("variable"),
    Column("option"),
    Column("value"),
    Column("default", wide=True),
    Column("meaning", wide=True),
)
ORIGINS = (*SETTINGS[:3], Column("origin"), *SETTINGS[3:])
PATHS = (
    Column("origin", "PLACE"),
    Column("path"),
    Column("found"),
)


@group("config")
def config() -> None:
    """See which settings are in force and where they come from.

    \b
    Examples:
      pgflow config show --origin
      pgflow config check
    """


@config.command("show")
@click.option("--origin", is_flag=True, help="Where each value comes from, too.")
def show(origin: bool) -> None:
    """Show every setting that has a variable, as it is in force; secrets are masked.

    \b
    Examples:
      pgflow config show --origin
      pgflow config show -o json
    """
    records.write(report.values(), ORIGINS if origin else SETTINGS)


@config.command("check", cls=SettingsFreeCommand)
def check() -> None:
    """Check every setting; exit 78 and name each that is wrong.

    \b
    Examples:
      pgflow config check
    """
    problems = report.problems()
    if problems:
        raise ConfigurationError(
            f"{len(problems)} settings are not acceptable", *problems
        )
    messages.say("every setting is acceptable")


@config.command("path", cls=SettingsFreeCommand)
def path() -> None:
    """List the places that are looked into, the nearest first.

    \b
    Examples:
      pgflow config path
    """
    records.write(report.places(), PATHS)


@config.command("init", cls=SettingsFreeCommand)
@click.option(
    "--file",
    "target",
    type=click.Path(path_type=Path, dir_okay=False),
    default="pgflow.toml",
    show_default=True,
    help="What to write.",
)
def init(target: Path) -> None:
    """Write a file with every setting in it, as a comment with its default.

    \b
    Examples:
      pgflow config init
    """
    try:
        with target.open("x", encoding="utf-8") as file:
            file.writelines(f"{line}\n" for line in report.template())
    except FileExistsError:
        raise Refused(
            f"{target} exists; nothing was written", "Try: --file OTHER.toml"
        ) from None
    except OSError as error:
        raise ConfigurationError(f"cannot write {target}: {error.strerror}") from None
    messages.say(f"wrote {target}; every line is a comment, so nothing has changed")
