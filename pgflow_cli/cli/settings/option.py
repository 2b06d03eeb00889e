"""An option that also looks into variables and files, and knows where it looked."""

from __future__ import annotations

import functools
import os
import re
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field, fields
from itertools import chain
from pathlib import Path
from typing import Any, Generic, TypeVar

import click
from click.core import ParameterSource

from pgflow_cli.cli.settings import sources
from pgflow_cli.cli.settings.sources import Found, Report, Sources
from pgflow_cli.errors import ConfigurationError

F = TypeVar("F", bound=Callable[..., Any])
T = TypeVar("T")

COMMAND_LINE = "command line"
_UNITS = {"ms": "milliseconds", "s": "seconds", "d": "days"}
_NUMBER = re.compile(r"[0-9]+(?:\.[0-9]+)?")
_HALF_PAIR = re.compile(r"[\ud800-\udfff]")
_NAMES_FILES = re.compile(r"FILE|DIR|MODULE|TYPE=CMD")
_BOOLEANS = {
    **dict.fromkeys(("1", "true", "yes", "on"), True),
    **dict.fromkeys(("0", "false", "no", "off"), False),
}


@dataclass(slots=True)
class Session:
    """What one run of the program was told; `ctx.obj` of every command.

    `given` holds the global options by name: first as typed before the sub-command, in
    the end as they are in force. `origins` says where each value came from; what is
    missing there is the default. `arguments` is the command line, split. A command
    that `ignores_sources` runs whatever variables and files say: it explains what is
    wrong with them.
    """

    variables: Collection[str] = ()
    arguments: Sequence[str] = ()
    given: dict[str, Any] = field(default_factory=dict)
    origins: dict[str, Found] = field(default_factory=dict)
    loaded: Sources | None = None
    ignores_sources: bool = False

    @classmethod
    def current(cls) -> Session:
        """Return the session of the running command; outside of one, an empty one."""
        ctx = click.get_current_context(silent=True)
        found = ctx.find_object(cls) if ctx is not None else None
        return found or cls()

    @property
    def sources(self) -> Sources:
        """Return the places to look into, read once, when the first value is wanted."""
        if self.ignores_sources:
            return Sources((), None)
        if self.loaded is None:
            self.loaded = self.read(sources.refuse)
        return self.loaded

    def read(self, report: Report) -> Sources:
        """Read every place now, and report what is wrong with it."""
        env_file, config = self.given.get("env_file"), self.given.get("config")
        return sources.load(
            os.environ,
            variables=self.variables,
            directory=Path(),
            env_file=Path(env_file) if env_file else None,
            config=Path(config) if config else None,
            profile=self.given.get("profile"),
            report=report,
        )


@dataclass(frozen=True, eq=False)
class Setting:
    """A flag with its variable, its default and its help text; decorates a command.

    A global one is not handed to the command: it is asked for in the session. With a
    `unit` (ms, s or d) the variable counts in it, where the flag takes a duration.
    """

    flags: tuple[str, ...]
    help: str
    kind: Any = None
    default: Any = None
    variable: str | None = None
    multiple: bool = False
    is_flag: bool = False
    is_eager: bool = False
    is_global: bool = False
    count: bool = False
    show_default: bool | str = True
    metavar: str | None = None
    unit: str = ""
    callback: Callable[[click.Context, click.Parameter, Any], Any] | None = None

    def __call__(self, function: F) -> F:
        """Add the option to a command."""
        added = click.option(
            *self.flags, cls=SettingOption, setting=self, **self._attributes()
        )
        return added(function)

    def option(self, *, hidden: bool = False) -> SettingOption:
        """Return the option by itself."""
        return SettingOption(
            self.flags, setting=self, hidden=hidden, **self._attributes()
        )

    @property
    def name(self) -> str:
        """What the option is called in Python."""
        if not self.flags:
            return sources.key_of(str(self.variable))
        named = [flag for flag in self.flags if not flag.startswith("-")]
        longest = max(self.flags, key=len).split("/")[0]
        return named[0] if named else longest.lstrip("-").replace("-", "_")

    @property
    def names_files(self) -> bool:
        """Whether its value names files, which may have any bytes in their names."""
        return names_files(self.kind, self.metavar)

    def value(self) -> Any:
        """Return the value of a variable, a file or the default, without the flag."""
        session = Session.current()
        written = self.look_up(session)
        if written is None:
            if self.kind is None or not isinstance(self.default, str):
                return self.default
            return self.kind.convert(self.default, None, None)
        if self.is_flag or self.kind is None:
            return written
        try:
            return self.kind.convert(written, None, None)
        except click.BadParameter:
            raise self.refusal(session.origins[self.name]) from None

    def look_up(self, session: Session) -> Any:
        """Return the text of a variable or file, for `kind` to convert; None if there
        is none.
        """
        found = session.sources.find(self.variable) if self.variable else None
        if found is None:
            return None
        session.origins[self.name] = found
        if not is_text(found.value) and not self.names_files:
            raise ConfigurationError(f"{found.key} ({found.origin}) is not UTF-8")
        return self._boolean(found) if self.is_flag else self._written(found)

    def refusal(self, found: Found) -> ConfigurationError:
        """Return the error for a bad value; it names key and place, never the value."""
        expects = (
            "on or off" if self.is_flag else getattr(self.kind, "expects", "acceptable")
        )
        if self.unit:
            counted = _UNITS[self.unit]
            expects += f"; the variable counts {counted}: a number without a unit"
        return ConfigurationError(f"{found.key} ({found.origin}) is not {expects}")

    def _written(self, found: Found) -> str | tuple[str, ...]:
        value = found.value
        if isinstance(value, list) and self.multiple:
            if not all(isinstance(part, str) for part in value):
                raise self.refusal(found)
            return tuple(value)
        if isinstance(value, bool) or not isinstance(value, str | int | float):
            raise self.refusal(found)
        if self.multiple:
            return tuple(part.strip() for part in str(value).split(",") if part.strip())
        # A unit of its own would be misread: 5m, and an s behind it.
        if self.unit and not _NUMBER.fullmatch(str(value).strip()):
            raise self.refusal(found)
        return f"{str(value).strip()}{self.unit}" if self.unit else str(value)

    def _boolean(self, found: Found) -> bool:
        value = found.value
        if not isinstance(value, bool):
            known = _BOOLEANS.get(str(value).strip().lower())
            if known is None:
                raise self.refusal(found)
            return known
        return value

    def _attributes(self) -> dict[str, Any]:
        # click would put a default that is told in words into parentheses.
        told = isinstance(self.show_default, str)
        words = (
            self.help,
            f"[{self.variable}]" if self.variable else "",
            f"[default: {self.show_default}]" if told else "",
        )
        attributes: dict[str, Any] = {
            "help": "  ".join(filter(None, words)),
            "default": self.default,
            "show_default": not told,
            "is_eager": self.is_eager,
            "expose_value": not self.is_global,
            "callback": self.callback,
        }
        if self.count:
            return {**attributes, "count": True, "show_default": False}
        if self.is_flag:
            return {**attributes, "is_flag": True, "default": bool(self.default)}
        more = {"type": self.kind, "multiple": self.multiple, "metavar": self.metavar}
        return {**attributes, **more}


class SettingOption(click.Option):
    """The option of a setting, which click asks where the command line is silent."""

    def __init__(self, *args: Any, setting: Setting, **attributes: Any) -> None:
        super().__init__(*args, **attributes)
        self.setting = setting

    def value_from_envvar(self, ctx: click.Context) -> Any:
        """Return the value typed before the sub-command, or that of a variable or
        file.
        """
        session = _session_of(ctx)
        if self.setting.is_global and self.setting.name in session.given:
            return session.given[self.setting.name]
        # An outer command only takes note of what is typed. The eager ones say which
        # files to read.
        if (
            isinstance(ctx.command, click.Group)
            or ctx.resilient_parsing
            or self.is_eager
        ):
            return None
        return self.setting.look_up(session)

    def process_value(self, ctx: click.Context, value: Any) -> Any:
        """Convert the value; a bad one is exit 2 if it was typed, else exit 78."""
        session, name = _session_of(ctx), self.setting.name
        typed = ctx.get_parameter_source(str(self.name)) is ParameterSource.COMMANDLINE
        if typed:
            session.origins[name] = Found(None, max(self.opts, key=len), COMMAND_LINE)
            require_text(ctx, self, value)
        try:
            result = super().process_value(ctx, value)
        except click.BadParameter:
            found = session.origins.get(name)
            if typed or found is None or found.origin == COMMAND_LINE:
                raise
            raise self.setting.refusal(found) from None
        if self.setting.is_global and (
            typed or not isinstance(ctx.command, click.Group)
        ):
            session.given[name] = result
        return result


def is_text(value: object) -> bool:
    """Whether a value that was given is text: Python hands on bytes that are not UTF-8
    as halves of surrogate pairs, which neither a file nor a database takes.
    """
    if isinstance(value, list | tuple):
        return all(map(is_text, value))
    return not (isinstance(value, str) and _HALF_PAIR.search(value))


def names_files(kind: object, metavar: str | None) -> bool:
    """Whether an option or argument of this kind names files, or commands with them."""
    if isinstance(kind, click.Path | click.File) or kind is click.UNPROCESSED:
        return True
    return bool(_NAMES_FILES.match(metavar or ""))


def require_text(ctx: click.Context, parameter: click.Parameter, value: object) -> None:
    """Raise for what was typed and is not UTF-8, unless it names files: exit 2."""
    if is_text(value) or names_files(parameter.type, parameter.metavar):
        return
    raise click.BadParameter("it is not UTF-8", ctx=ctx, param=parameter)


def stack(*settings: Setting) -> Callable[[F], F]:
    """Return one decorator for several settings, listed in the order given."""

    def decorate(function: F) -> F:
        for setting in reversed(settings):
            function = setting(function)
        return function

    return decorate


class OptionGroup(Generic[T]):
    """The options that the fields of a dataclass declare; decorates a command.

    The command is called with one object of that class, by the name of `argument`. A
    field has the name that its option has in Python; its declaration is a setting, an
    option of click's or another group.
    """

    def __init__(self, made: type[T], argument: str = "options") -> None:
        self.made, self.argument = made, argument

    def __call__(self, function: F) -> F:
        """Add the options to a command."""
        names = [each.name for each in self._fields()]

        @functools.wraps(function)
        def wrapped(*args: Any, **given: Any) -> Any:
            # Not by __init__: to generate one for each class costs every start.
            made = object.__new__(self.made)
            for name in names:
                object.__setattr__(made, name, given.pop(name))
            return function(*args, **{self.argument: made}, **given)

        command: Any = wrapped
        for each in reversed(self._fields()):
            command = each.metadata["declaration"](command)
        return command  # type: ignore[no-any-return]

    @property
    def settings(self) -> Iterator[Setting]:
        """Yield the settings among the declarations, those of groups included."""
        for each in self._fields():
            declaration = each.metadata["declaration"]
            if isinstance(declaration, OptionGroup):
                yield from declaration.settings
            elif isinstance(declaration, Setting):
                yield declaration

    def _fields(self) -> Sequence[Any]:
        return fields(self.made)  # type: ignore[arg-type]  # no type is a dataclass


def declared(declaration: Callable[[Any], Any]) -> Any:
    """Declare the field of an `OptionGroup` by what adds its option to a command."""
    return field(metadata={"declaration": declaration})


def build(made: type[T], *options: object, **more: Any) -> T:
    """Make an object whose fields are the options of their names, but for `more`."""
    known = {each.name for each in fields(made)}  # type: ignore[arg-type]
    given = {
        each.name: getattr(group, each.name)
        for group in options
        for each in fields(group)  # type: ignore[arg-type]
        if each.name in known
    }
    return made(**{**given, **more})


def _session_of(ctx: click.Context) -> Session:
    session = ctx.find_object(Session)
    assert session is not None, (
        "a setting belongs on a command made with pgflow_cli.cli.context"
    )
    return session


DAY = 86_400.0  # seconds
TEN_YEARS = 3650 * DAY


def flag(
    *flags: str,
    help: str,  # noqa: A002 - named as in click
    variable: bool | str = False,
    **more: Any,
) -> Setting:
    """Declare a setting; `variable=True` derives the variable from the flag."""
    if variable is True:
        variable = f"PGFLOW_{Setting(flags, help).name.upper()}"
    return Setting(flags, help, variable=variable or None, **more)


def flattened(
    _ctx: click.Context, _param: click.Parameter, value: tuple[tuple[str, ...], ...]
) -> tuple[str, ...]:
    """Return the values of an option that may be given several times, each once."""
    return tuple(dict.fromkeys(chain.from_iterable(value)))


def setting(*flags: str, **more: Any) -> Any:
    """Declare the field of an `OptionGroup` by a setting of its own."""
    return declared(flag(*flags, **more))


def option(*flags: str, **more: Any) -> Any:
    """Declare the field of an `OptionGroup` by an option of click's."""
    return declared(click.option(*flags, **more))
