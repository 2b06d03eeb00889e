"""Which of our secrets are where others may read them."""

from __future__ import annotations

import stat
from pathlib import Path
from typing import Any

from pgflow_cli import configuration, settings
from pgflow_cli.admin.plan import LOOPBACK
from pgflow_cli.formats import safe_text
from pgflow_cli.models.diagnosis import SecretFile
from pgflow_cli.options import COMMAND_LINE, Session


def password_is_typed() -> bool:
    """Return whether a password is on the command line, for everybody to see."""
    session = Session.current()
    found = session.origins.get("database_url")
    if found is None or found.origin != COMMAND_LINE:
        return False
    url = str(session.given["database_url"])
    return safe_text.redact(url) != url


def open_address() -> str | None:
    """Return the address at which an admin server would let in anybody from outside."""
    address = settings.work_admin.value()
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
    if configuration.names_a_secret(variable):
        return True
    return isinstance(value, str) and safe_text.redact(value) != value
