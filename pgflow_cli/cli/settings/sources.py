"""Where values come from besides the command line: variables, files; nearest first."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from pgflow_cli.errors import ConfigurationError

Report = Callable[[ConfigurationError], None]

_PREFIX = "PGFLOW_"
_SECRET = re.compile("TOKEN|SECRET|PASSWORD")
_DOTENV_LINE = re.compile(
    r"""\s*(?:export\s+)?([A-Za-z_]\w*)\s*=\s*(?:'([^']*)'|"((?:[^"\\]|\\.)*)"|([^#\s][^\n]*?)??)(?:\s+\#.*|\s*)""",
    re.ASCII,
)
_ESCAPES = {"n": "\n", "t": "\t", "r": "\r"}


@dataclass(frozen=True, slots=True)
class Found:
    """A value as it was written, the name it was written under, and the place."""

    value: object
    key: str
    origin: str


@dataclass(frozen=True, slots=True)
class Level:
    """One place: its name for the operator, and what it says by variable."""

    origin: str
    values: Mapping[str, Found]


class Sources:
    """Every place that is consulted, nearest first; an empty value is an unset one."""

    def __init__(self, levels: tuple[Level, ...], profile: str | None) -> None:
        self.levels = levels
        self.profile = profile

    def find(self, variable: str) -> Found | None:
        """Return the nearest value of a variable."""
        return _find(self.levels, variable)

    def rank(self, found: Found) -> int:
        """Return how far away a value was found; 0 is nearest."""
        return [level.origin for level in self.levels].index(found.origin)

    def profile_value(self, variable: str) -> Found | None:
        """Return the values of the chosen profile, whether or not a nearer source
        overrides them.
        """
        ours = (
            level
            for level in self.levels
            if level.origin.endswith(f"[profile.{self.profile}]")
        )
        return _find(tuple(ours), variable)


def key_of(variable: str) -> str:
    """Return a variable's key in files: `lease_seconds` for `PGFLOW_LEASE_SECONDS`."""
    return variable.removeprefix(_PREFIX).lower()


def names_a_secret(variable: str) -> bool:
    """Return whether what a variable holds must not be shown, whatever it is."""
    return bool(_SECRET.search(variable)) and not variable.endswith("_FILE")


def refuse(error: ConfigurationError) -> None:
    """Raise the first problem; `load` takes another report to collect them all."""
    raise error


def load(
    environ: Mapping[str, str],
    *,
    variables: Collection[str],
    directory: Path,
    env_file: Path | None = None,
    config: Path | None = None,
    profile: str | None = None,
    report: Report = refuse,
) -> Sources:
    """Read every place.

    Reports an unknown key or profile, and a file that cannot be read; what is not right
    is passed over, if `report` returns.
    """
    keys = {key_of(variable): variable for variable in variables}
    levels = [
        Level("environment", dict(_from_variables(environ, variables, "environment"))),
        *_dotenv(
            env_file or directory / ".env",
            variables,
            wanted=env_file is not None,
            report=report,
        ),
        *_project(directory, keys, report),
    ]
    named = _find(tuple(levels), "PGFLOW_CONFIG")
    path = config or (Path(str(named.value)) if named else None)
    user = _toml(path or user_file(environ), wanted=path is not None, report=report)
    profiles = user.pop("profile") if isinstance(user.get("profile"), dict) else {}
    origin = str(path or user_file(environ))
    top = Level(origin, dict(_from_table(user, keys, origin, report)))
    if profile is None:
        chosen = _find((*levels, top), "PGFLOW_PROFILE")
        profile = str(chosen.value) if chosen else None
    if profile is not None:
        levels += _profile(profiles, profile, keys, origin, report)
    return Sources((*levels, top), profile)


def _find(levels: tuple[Level, ...], variable: str) -> Found | None:
    for level in levels:
        found = level.values.get(variable)
        if found is not None and found.value not in ("", []):
            return found
    return None


def _from_variables(
    environ: Mapping[str, str], variables: Collection[str], origin: str
) -> Iterator[tuple[str, Found]]:
    for variable in variables:
        if variable in environ:
            yield variable, Found(environ[variable], variable, origin)


def _dotenv(
    path: Path, variables: Collection[str], *, wanted: bool, report: Report
) -> Iterator[Level]:
    """Read `KEY=value` lines; what is not ours belongs to the application."""
    text = _text(path, wanted=wanted, report=report)
    if text is None:
        return
    values: dict[str, str] = {}
    for line in text.splitlines():
        match = _DOTENV_LINE.fullmatch(line)
        if match is not None:
            single, double, bare = match[2], match[3], match[4]
            if double is not None:
                double = re.sub(r"\\(.)", lambda m: _ESCAPES.get(m[1], m[1]), double)
            values[match[1]] = next(
                (v for v in (single, double, bare) if v is not None), ""
            )
    yield Level(str(path), dict(_from_variables(values, variables, str(path))))


def _project(
    directory: Path, keys: Mapping[str, str], report: Report
) -> Iterator[Level]:
    own = directory / "pgflow.toml"
    if own.is_file():
        table = _toml(own, wanted=True, report=report)
        yield Level(str(own), dict(_from_table(table, keys, str(own), report)))
        return
    shared = directory / "pyproject.toml"
    if not shared.is_file():
        return
    tool = _toml(shared, wanted=True, report=report).get("tool")
    ours = tool.get("pgflow") if isinstance(tool, dict) else None
    if isinstance(ours, dict):
        origin = f"{shared} [tool.pgflow]"
        yield Level(origin, dict(_from_table(ours, keys, origin, report)))


def _profile(
    profiles: object, name: str, keys: Mapping[str, str], origin: str, report: Report
) -> Iterator[Level]:
    assert isinstance(profiles, dict)
    table = profiles.get(name)
    if not isinstance(table, dict):
        known = ", ".join(sorted(profiles)) or "none"
        report(
            ConfigurationError(
                f"there is no profile of the chosen name in {origin}",
                f"Profiles there: {known}.",
            )
        )
        return
    place = f"{origin} [profile.{name}]"
    yield Level(place, dict(_from_table(table, keys, place, report)))


def _from_table(
    table: Mapping[str, object], keys: Mapping[str, str], origin: str, report: Report
) -> Iterator[tuple[str, Found]]:
    for key, value in table.items():
        variable = keys.get(key.replace("-", "_"))
        if variable is None:
            report(
                ConfigurationError(
                    f"unknown key {key!a} in {origin}",
                    "A key is the name of the variable in lower case, without PGFLOW_.",
                )
            )
            continue
        yield variable, Found(value, key, origin)


def _toml(path: Path, *, wanted: bool, report: Report) -> dict[str, object]:
    text = _text(path, wanted=wanted, report=report)
    if text is None:
        return {}
    import tomllib  # costs 2 ms of a start, and most folders have no such file

    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        # The sentence of tomllib may repeat what it stumbled over; the position is
        # enough.
        where = re.search(r"\(at .*\)$", str(error))
        position = f" {where[0]}" if where else ""
        report(ConfigurationError(f"{path} is not valid TOML{position}"))
        return {}


def _text(path: Path, *, wanted: bool, report: Report) -> str | None:
    try:
        return path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        problem = f"there is no file {path}" if wanted else ""
    except UnicodeDecodeError:
        problem = f"{path} is not UTF-8"
    except OSError as error:
        # A folder of that name, or another user's file: not ours to report.
        problem = f"cannot read {path}: {error.strerror}" if wanted else ""
    if problem:
        report(ConfigurationError(problem))
    return None


def user_file(environ: Mapping[str, str]) -> Path:
    """Return where the user's own file is, if there is one."""
    base = environ.get("XDG_CONFIG_HOME") or "~/.config"
    return Path(base).expanduser() / "pgflow" / "config.toml"
