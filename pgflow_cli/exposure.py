"""Which of our secrets stand where others may read them."""

from __future__ import annotations

import re
import stat
from pathlib import Path

from pgflow_cli import escaping
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
