"""Every setting as it is in force: its value, its place, and what is wrong with it."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from pgflow_cli.admin.options import LOOPBACK
from pgflow_cli.cli import settings
from pgflow_cli.cli.settings import common, serve, sources, work
from pgflow_cli.cli.settings.database import nearest_url
from pgflow_cli.cli.settings.option import COMMAND_LINE, Session, Setting
from pgflow_cli.cli.settings.types import Endpoint
from pgflow_cli.errors import ConfigurationError, PgflowError
from pgflow_cli.formats import safe_text, times
from pgflow_cli.models.diagnosis import SecretFile

# What a command that stays has no use for.
_FOR_PEOPLE = frozenset({"check", "pager", "production"})


@dataclass(frozen=True, slots=True)
class Value:
    """A setting in force; secrets are masked."""

    variable: str
    option: str
    value: str
    origin: str
    default: str
    meaning: str


@dataclass(frozen=True, slots=True)
class Place:
    """A place that is looked into for settings."""

    origin: str
    path: str
    found: bool


def values() -> list[Value]:
    """Return every setting with a variable; a bad value is shown as it was written."""
    return [_value(setting) for setting in _with_variable()]


def in_force() -> list[Value]:
    """Return every setting that the running command uses, which is one that stays.

    Secrets are masked, and of a handler's command only its job type is told.
    """
    options = click.get_current_context().params
    everywhere = {*common.GLOBAL, *common.VARIABLE_ONLY}
    used = {
        each.name: each
        for each in settings.ALL
        if (each.name in options or (each in everywhere and each.variable))
        and each.name not in _FOR_PEOPLE
    }
    return [_value(each, options) for each in used.values()]


def problems() -> list[str]:
    """Return a sentence for each thing that is not acceptable; never a value.

    Every file is read to its end, and the URL of the database is parsed.
    """
    session = Session.current()
    wrong: list[ConfigurationError] = []
    session.ignores_sources = False
    session.loaded = session.read(wrong.append)
    found = [error.message for error in wrong]
    found += [text for each in _with_variable() if (text := _problem(each))]
    return found + [text for text in (_problem_of_url(session),) if text]


def places() -> list[Place]:
    """Return the places that are looked into, the nearest first."""
    given = Session.current().given
    env_file = Path(given.get("env_file") or ".env")
    user = sources.user_file(os.environ)
    files = [
        (".env", env_file),
        ("project", Path("pgflow.toml")),
        ("project [tool.pgflow]", Path("pyproject.toml")),
        ("user", Path(given.get("config") or user)),
    ]
    found = [
        Place(origin, str(path.absolute()), path.is_file()) for origin, path in files
    ]
    return [
        Place("command line", "", True),
        Place("environment", "", True),
        *found,
        Place("default", "", True),
    ]


def template() -> Iterator[str]:
    """Yield the lines of a file with every setting as a comment."""
    yield "# Settings of pgflow. An option beats its variable, a variable beats .env,"
    yield "# .env beats this file. Secrets belong into DATABASE_URL_FILE or PGPASSFILE."
    for setting in _with_variable():
        assert setting.variable is not None
        yield ""
        yield f"# {setting.help}"
        yield f"# {sources.key_of(setting.variable)} = {_toml(setting)}"


def _with_variable() -> list[Setting]:
    by_variable = {each.variable: each for each in settings.ALL if each.variable}
    return list(by_variable.values())


def _value(setting: Setting, options: Mapping[str, Any] | None = None) -> Value:
    session = Session.current()
    typed = session.origins.get(setting.name)
    if typed is not None and typed.origin == COMMAND_LINE:
        given = {**(options or {}), **session.given}
        written, origin = given.get(setting.name), typed.key
    else:
        found = session.sources.find(str(setting.variable))
        written = found.value if found else None
        origin = found.origin if found else "default"
    if setting is work.exec_:
        # A command line may hold anything.
        written = tuple(
            spec.partition("=")[0] for spec in (options or {}).get(setting.name, ())
        )
    shown = _default(setting) if written is None else _text(written)
    flags = [flag for flag in setting.flags if flag.startswith("-")]
    return Value(
        setting.variable or "",
        max(flags, key=len, default=""),
        _masked(str(setting.variable), shown),
        origin,
        _default(setting),
        setting.help,
    )


def _masked(variable: str, shown: str) -> str:
    if shown and sources.names_a_secret(variable):
        return safe_text.MASK
    if variable == "DATABASE_URL":
        return safe_text.redact_url(shown)
    return safe_text.redact(shown)


def _problem(setting: Setting) -> str | None:
    session = Session.current()
    try:
        written = setting.look_up(session)
        if written is None or setting.is_flag or setting.kind is None:
            return None
        for part in written if isinstance(written, tuple) else [written]:
            setting.kind.convert(part, None, None)
    except click.BadParameter:
        return setting.refusal(session.origins[setting.name]).message
    except ConfigurationError as error:
        return error.message
    return None


def _problem_of_url(session: Session) -> str | None:
    """Return the mistakes of the URL; no server is started, and none is asked."""
    from pgflow_cli.repository import Database

    for setting in common.GLOBAL:
        if setting.name in ("database_url", "database_url_file"):
            typed = session.given.get(setting.name)
            session.given[setting.name] = typed or setting.look_up(session)
    try:
        url = nearest_url(session)
        if url is not None and not url.startswith("dev:"):
            Database(url).parameters()
    except PgflowError as error:
        return error.message
    return None


def _default(setting: Setting) -> str:
    if isinstance(setting.show_default, str):
        return setting.show_default
    if setting.is_flag:
        return "on" if setting.default else "off"
    return "" if setting.default is None else _text(setting.default)


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, float):
        return times.format_duration(value)
    if isinstance(value, tuple | list) and not isinstance(value, Endpoint):
        return ",".join(map(str, value))
    return str(value)


def _toml(setting: Setting) -> str:
    """Return the default as a file says it; one that is told in words is empty, which
    is unset.
    """
    if setting.is_flag:
        return "true" if setting.default else "false"
    if isinstance(setting.show_default, str) or setting.default is None:
        told = setting.show_default if isinstance(setting.show_default, str) else ""
        return '""' + (f"  # default: {told}" if told else "")
    text = _text(setting.default)
    if setting.unit:
        # What the variable counts: a unit of its own would be refused.
        one = times.parse_duration(f"1{setting.unit}")
        text = f"{times.parse_duration(text) / one:g}"
    return text if text.isdigit() else json.dumps(text)


def password_is_typed() -> bool:
    """Return whether a password is on the command line, where every process sees it."""
    session = Session.current()
    found = session.origins.get("database_url")
    if found is None or found.origin != COMMAND_LINE:
        return False
    url = str(session.given["database_url"])
    return safe_text.redact(url) != url


def open_address() -> str | None:
    """Return the address at which an admin server would let in every client."""
    address = serve.work_admin.value()
    if address is None or address.host in LOOPBACK:
        return None
    find = Session.current().sources.find
    tokens = ("PGFLOW_API_TOKEN", "PGFLOW_API_TOKEN_FILE")
    guarded = any(find(variable) for variable in tokens)
    return None if guarded else str(address)


def secret_files() -> list[SecretFile]:
    """Return the files that hold a secret of ours, with their modes."""
    session = Session.current()
    named: list[tuple[Any, str]] = [
        (session.given.get("database_url_file"), "the database URL")
    ]
    for variable in ("PGFLOW_API_TOKEN_FILE", "PGFLOW_METRICS_TOKEN_FILE"):
        found = session.sources.find(variable)
        named += [(found.value, "a token")] if found else []
    for level in session.sources.levels:
        secret = [v for v, has in level.values.items() if is_secret(v, has.value)]
        named += [(level.origin.split(" [")[0], secret[0])] if secret else []
    seen = {str(path): what for path, what in named if path}
    return [
        SecretFile(path, what, stat.S_IMODE(Path(path).stat().st_mode))
        for path, what in seen.items()
        if Path(path).is_file()
    ]


def is_secret(variable: str, value: object) -> bool:
    """Return whether a value must not be shown as it is."""
    if sources.names_a_secret(variable):
        return True
    return isinstance(value, str) and safe_text.redact(value) != value
