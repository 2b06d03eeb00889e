"""The URL of the database and the tokens, wherever they come from."""

from __future__ import annotations

import stat
from pathlib import Path

import click

from pgflow_cli.cli.output import messages
from pgflow_cli.cli.settings.common import api_token, environment, metrics_token, pg_bin
from pgflow_cli.cli.settings.option import COMMAND_LINE, Session, Setting
from pgflow_cli.cli.settings.serve import api_token_file, metrics_token_file
from pgflow_cli.cli.settings.sources import Found
from pgflow_cli.errors import ConfigurationError, UsageError

DEV_FOLDER = Path(".pgflow")
_WAYS_OUT = (
    "Set DATABASE_URL (or DATABASE_URL_FILE), like postgres://user@host:5432/dbname",
    "or start a private server here:  pgflow dev",
    "or only look at pgflow at work:  pgflow demo",
)


def names_a_database() -> bool:
    """Return whether a URL is set anywhere."""
    given = Session.current().given
    return bool(given.get("database_url") or given.get("database_url_file"))


def database_url() -> str:
    """Return the URL of the database; ConfigurationError without one, with ways out."""
    session = Session.current()
    url = nearest_url(session)
    if url is None:
        raise ConfigurationError("no database URL is set", *_dev_server(), *_WAYS_OUT)
    _warn_of_unheeded_profile(session)
    return _local(url) if url.startswith("dev:") else url


def typed_database_url() -> str | None:
    """Return the URL if it was typed; no variable or file counts."""
    session = Session.current()
    found = session.origins.get("database_url")
    if found is None or found.origin != COMMAND_LINE:
        return None
    url = str(session.given["database_url"])
    return _local(url) if url.startswith("dev:") else url


def nearest_url(session: Session) -> str | None:
    """Return the URL, or what its file holds, whichever was set closer to the user."""
    url, path = (
        session.given.get("database_url"),
        session.given.get("database_url_file"),
    )
    if not path:
        return url or None
    ranks = [_rank(session, name) for name in ("database_url", "database_url_file")]
    if url and ranks == [-1, -1]:
        raise UsageError("--database-url and --database-url-file exclude each other")
    return url if url and ranks[0] <= ranks[1] else _secret(Path(path))


def api_tokens() -> list[str]:
    """Return the lines that name tokens for clients, of the file and the variable."""
    return _token_lines(api_token_file, api_token)


def metrics_tokens() -> list[str]:
    """Return the lines that name tokens for scrapers."""
    return _token_lines(metrics_token_file, metrics_token)


def _rank(session: Session, name: str) -> int:
    found = session.origins.get(name)
    if found is None or found.origin == COMMAND_LINE:
        return -1
    return session.sources.rank(found)


def _token_lines(file: Setting, variable: Setting) -> list[str]:
    ctx = click.get_current_context()
    path, single = ctx.params.get(file.name), variable.value()
    lines = _secret(path, "a token in each line").splitlines() if path else []
    return [*lines, *([single] if single else [])]


def _secret(path: Path, what: str = "the database URL") -> str:
    try:
        text = path.read_text(encoding="utf-8-sig").strip()
        mode = path.stat().st_mode
    except UnicodeDecodeError:
        raise ConfigurationError(f"{path} is not UTF-8") from None
    except OSError as error:
        raise ConfigurationError(
            f"cannot read {path}: {error.strerror}", f"It should hold {what}."
        ) from None
    if not text:
        raise ConfigurationError(f"{path} is empty; it should hold {what}")
    if mode & stat.S_IROTH:
        messages.warn(f"others can read {path}; try: chmod o-r {path}")
    return text


def _warn_of_unheeded_profile(session: Session) -> None:
    if "profile" not in session.origins:
        return
    found: Found | None = session.origins.get("database_url") or session.origins.get(
        "database_url_file"
    )
    theirs = session.sources.profile_value("DATABASE_URL")
    if theirs is not None and found is not None and found.origin != theirs.origin:
        messages.warn(
            f"the database comes from {found.key} ({found.origin}), not the profile"
        )


def _dev_server() -> tuple[str, ...]:
    if not DEV_FOLDER.is_dir():
        return ()
    from pgflow_cli import local

    if local.running_url(DEV_FOLDER) is None:
        return ()
    return ("A dev server runs here:  export DATABASE_URL=$(pgflow dev --print-url)",)


def _local(url: str) -> str:
    """Return the URL of this folder's private server, which is started if need be."""
    from pgflow_cli import local

    return local.url_of_dev(
        Path(url.removeprefix("dev:") or DEV_FOLDER),
        environment=environment.value(),
        pg_bin=pg_bin.value(),
    )
