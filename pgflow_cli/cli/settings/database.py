"""The URL of the database and the tokens, wherever they come from."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import click

from pgflow_cli.cli.output import messages
from pgflow_cli.cli.settings.common import api_token, environment, metrics_token, pg_bin
from pgflow_cli.cli.settings.option import COMMAND_LINE, Session, Setting, is_text
from pgflow_cli.cli.settings.serve import ServingOptions
from pgflow_cli.cli.settings.sources import Found
from pgflow_cli.errors import ConfigurationError, UsageError

DEV_FOLDER = Path(".pgflow")
# Of these commands the URL dev: makes a server; a question must not leave 40 MB behind.
_MAY_CREATE = frozenset({"demo", "dev", "enqueue", "migrate", "work"})
_WAYS_OUT = (
    "Set DATABASE_URL (or DATABASE_URL_FILE), like postgres://user@host:5432/dbname",
    "or start a private server here:  pgflow dev",
    "or only look at pgflow at work:  pgflow demo",
)


# What libpq and psycopg read as text; PGPASSWORD may have any bytes, and so may the
# names of files.
_CONNECTION_TEXTS = (
    "PGHOST",
    "PGHOSTADDR",
    "PGPORT",
    "PGDATABASE",
    "PGUSER",
    "PGOPTIONS",
    "PGAPPNAME",
    "PGSERVICE",
    "PGCLIENTENCODING",
    "PGCONNECT_TIMEOUT",
    "PGSSLMODE",
    "PGREQUIRESSL",
    "PGSSLCOMPRESSION",
    "PGSSLSNI",
    "PGSSLMINPROTOCOLVERSION",
    "PGSSLMAXPROTOCOLVERSION",
    "PGSSLCERTMODE",
    "PGSSLNEGOTIATION",
    "PGREQUIREPEER",
    "PGREQUIREAUTH",
    "PGCHANNELBINDING",
    "PGGSSENCMODE",
    "PGGSSLIB",
    "PGGSSDELEGATION",
    "PGKRBSRVNAME",
    "PGTARGETSESSIONATTRS",
    "PGLOADBALANCEHOSTS",
    "PGMINPROTOCOLVERSION",
    "PGMAXPROTOCOLVERSION",
    "PGDATESTYLE",
    "PGTZ",
    "PGGEQO",
)


def require_connection_text() -> None:
    """Raise for a variable of libpq that is not UTF-8, but for the folder of a socket:
    psycopg would fail on it, at a place that names no variable.
    """
    for name in _CONNECTION_TEXTS:
        value = os.environ.get(name, "")
        if not is_text(value) and not (name == "PGHOST" and value.startswith("/")):
            raise ConfigurationError(f"{name} (environment) is not UTF-8")


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
    require_connection_text()
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
    return url if url and ranks[0] <= ranks[1] else _url_in(Path(path))


def api_tokens(serving: ServingOptions) -> tuple[str, ...]:
    """Return the lines that name tokens for clients, of the file and the variable."""
    return _token_lines(serving.api_token_file, api_token)


def metrics_tokens(serving: ServingOptions) -> tuple[str, ...]:
    """Return the lines that name tokens for scrapers."""
    return _token_lines(serving.metrics_token_file, metrics_token)


def _rank(session: Session, name: str) -> int:
    found = session.origins.get(name)
    if found is None or found.origin == COMMAND_LINE:
        return -1
    return session.sources.rank(found)


def _token_lines(path: Path | None, variable: Setting) -> tuple[str, ...]:
    single = variable.value()
    lines = _secret(path, "a token in each line").splitlines() if path else []
    return (*lines, *([single] if single else []))


def _url_in(path: Path) -> str:
    url = _secret(path)
    if len(url.splitlines()) > 1:
        # libpq would take the rest for a part of the database's name.
        raise ConfigurationError(
            f"{path} has several lines; it should hold the database URL and no more"
        )
    return url


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


def _command() -> str | None:
    """Return the name of the command that runs, of a group the group's."""
    ctx = click.get_current_context(silent=True)
    return ctx.find_root().invoked_subcommand if ctx is not None else None


def _local(url: str) -> str:
    """Return the URL of this folder's private server, which is started if need be; its
    data are created only by commands that begin something.
    """
    from pgflow_cli import local

    return local.url_of_dev(
        Path(url.removeprefix("dev:") or DEV_FOLDER),
        environment=environment.value(),
        pg_bin=pg_bin.value(),
        may_create=_command() in _MAY_CREATE,
    )
