"""Every setting as it is in force, its secrets masked; the files that hold secrets."""

from __future__ import annotations

import re
import stat
from dataclasses import dataclass
from pathlib import Path

from pgflow_cli import escaping, settings
from pgflow_cli.options import COMMAND_LINE, Session
from pgflow_cli.symptoms import SecretFile

_SECRET = re.compile("TOKEN|SECRET|PASSWORD")


def password_is_typed() -> bool:
    """Return whether a password stands on the command line, for everybody to see."""
    session = Session.current()
    found = session.origins.get("database_url")
    if found is None or found.origin != COMMAND_LINE:
        return False
    url = str(session.given["database_url"])
    return escaping.redact(url) != url


def secret_files() -> list[SecretFile]:
    """Return the files that hold a secret of ours, with their modes."""
    session = Session.current()
    named = [(session.given.get("database_url_file"), "the database URL")]
    for level in session.sources.levels:
        secret = [v for v, found in level.values.items() if is_secret(v, found.value)]
        named += [(level.origin.split(" [")[0], secret[0])] if secret else []
    seen = {str(path): what for path, what in named if path}
    return [
        SecretFile(path, what, stat.S_IMODE(Path(path).stat().st_mode))
        for path, what in seen.items()
        if Path(path).is_file()
    ]


def is_secret(variable: str, value: object) -> bool:
    """Return whether a value must not be shown as it is."""
    if _SECRET.search(variable) and not variable.endswith("_FILE"):
        return True
    return isinstance(value, str) and escaping.redact(value) != value


def masked(variable: str, value: object) -> str:
    """Return a value for a reader, its secrets masked."""
    if value is None:
        return ""
    if isinstance(value, list | tuple):
        return ",".join(masked(variable, part) for part in value)
    if isinstance(value, bool):
        return "on" if value else "off"
    if _SECRET.search(variable) and not variable.endswith("_FILE"):
        return "***"
    if variable == "DATABASE_URL" and "://" not in str(value):
        return escaping.redact(str(value)) if "=" in str(value) else "***"
    return escaping.redact(str(value))


@dataclass(frozen=True, slots=True)
class InForce:
    """A setting as it is in force: its value, masked, and where it came from."""

    setting: str
    value: str
    origin: str
    variable: str | None
    option: str


def listing() -> list[InForce]:
    """Return every setting that has a variable or goes with every command."""
    session = Session.current()
    rows = {}
    for setting in settings.ALL:
        if setting.variable is None and setting not in settings.GLOBAL:
            continue
        value, origin = setting.in_force(session)
        flags = ", ".join(flag for flag in setting.flags if flag.startswith("-"))
        variable = setting.variable or ""
        shown = masked(variable or setting.name, value)
        rows[setting.name] = InForce(
            setting.name, shown, origin, setting.variable, flags
        )
    return list(rows.values())
