"""The address of a database and its timeouts, as parameters for libpq."""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from pgflow_cli.errors import ConfigurationError
from pgflow_cli.repository import session
from pgflow_cli.repository.watchdog import Watchdog

# The server ends a statement whose client is gone, unless it waits for a standby.
WATCHED = "client_connection_check_interval"

MOST_PATIENCE = 30  # seconds to connect, at most: a URL cannot ask for more

_KEEPALIVE = {
    "keepalives_idle": "10",
    "keepalives_interval": "3",
    "keepalives_count": "3",
    "tcp_user_timeout": "10000",
}


@dataclass(frozen=True, slots=True)
class Database:
    """Where the database is and how long to wait for it; times are in seconds.

    What a session must be like is pinned in `session`, whatever the URL, a service file
    or the environment asks for; the rest of their options is passed on.
    `call_timeout` bounds every statement from the client's side; None leaves operators'
    long reports alone; `server_timeout` bounds them on the server, for the whole
    session, where no pooler forbids it. `steady_plans` is for workers: statements are
    prepared, planned once, and never by a sequential scan, because a day's partition is
    empty when the plan is made and large before anything analyses it. With
    `read_only` the server refuses to change anything. `reached` is set once a
    connection has come about: from then on a refusal is an outage and no mistake.
    `bare` is set once a pooler has refused `options`: it is not asked again.
    """

    url: str = field(repr=False)
    application_name: str = "pgflow"
    connect_timeout: float = 5.0
    call_timeout: float | None = None
    statement_timeout: float | None = None
    server_timeout: float | None = None
    steady_plans: bool = False
    read_only: bool = False
    watchdog: Watchdog = field(default_factory=Watchdog, repr=False)
    reached: threading.Event = field(default_factory=threading.Event, repr=False)
    bare: threading.Event = field(default_factory=threading.Event, repr=False)

    def parameters(self) -> dict[str, str]:
        """Return libpq's parameters; a URL that cannot be read is exit 78, without
        repeating any part of it.
        """
        try:
            given = conninfo_to_dict(self.url)
        except psycopg.Error:
            # psycopg repeats parts of a malformed URL, perhaps the password.
            raise _unreadable() from None
        _require_encoded(self.url, given)
        merged = {k: str(v) for k, v in given.items() if v is not None}
        hosts = merged.get("host", "")
        defaults = {**_KEEPALIVE, "fallback_application_name": self.application_name}
        # For each host: together they take no longer than twice as long.
        each = min(1, 2 / len(hosts.split(","))) * self.connect_timeout
        defaults["connect_timeout"] = str(max(2, round(each)))
        merged["client_encoding"] = "UTF8"  # a pooler passes it on, if nothing else
        merged["options"] = self._options(merged)
        if self.bare.is_set():
            del merged["options"]
        if "," in hosts:
            defaults["target_session_attrs"] = "read-write"
        # A URL may ask for more patience, but not for patience without end.
        if given_seconds := merged.pop("connect_timeout", ""):
            defaults["connect_timeout"] = _bounded(given_seconds)
        return {**defaults, **merged}

    def pinned(self) -> dict[str, str]:
        """Return the settings of a session of ours, whatever others ask for."""
        return session.pinned(steady=self.steady_plans, read_only=self.read_only)

    def _options(self, given: dict[str, str]) -> str:
        """Return libpq's options: the last word counts, so that comes from us."""
        options = []
        if self.call_timeout is not None:
            options.append(f"-c {WATCHED}=1000")
        if self.server_timeout is not None:
            options.append(f"-c statement_timeout={int(self.server_timeout * 1000)}")
        theirs = given.get("options")
        if theirs is None:
            theirs = session.given_options(self.url, service="service" in given)
        return " ".join([*options, theirs, *session.as_options(self.pinned())])

    def for_programs(self) -> tuple[str, str | None]:
        """Return a connection string that may stand in a command line, and the
        password.
        """
        parameters = self.parameters()
        if "sslpassword" in parameters:
            raise ConfigurationError(
                "the database URL holds an sslpassword, which a program would show",
                "Use a key without one, or put it into a service file: service=NAME",
            )
        password = parameters.pop("password", None)
        return make_conninfo("", **parameters), password

    def of_name(self, name: str) -> Database:
        """Return another database of the same server."""
        url = make_conninfo(self.url, dbname=name)
        return replace(self, url=url, reached=threading.Event())

    def name(self) -> str | None:
        """Return the database's name, if the URL says it."""
        return self.parameters().get("dbname")

    @property
    def on_socket(self) -> bool:
        """Whether it is reached over a socket of this host's file system."""
        parameters = self.parameters()
        host = parameters.get("host", "")
        return "hostaddr" not in parameters and (not host or host.startswith("/"))

    def _left_open(self) -> dict[str, str]:
        """Return where libpq would connect to, of what the URL does not say."""
        if "service" not in self.parameters() and "PGSERVICE" not in os.environ:
            return _in_environment()
        # No port is 0: it gives up there, before it looks a name up.
        placed = session.resolved(self.url, port="0")
        named = session.resolved(self.url, host="/nonexistent", hostaddr="")
        wanted = {"host": placed, "hostaddr": placed, "port": named}
        wanted |= {"user": named, "dbname": named}
        return {k: where[k] for k, where in wanted.items() if k in where}

    def display(self) -> str:
        """Return `user@host:port/dbname`, which never holds a secret.

        As libpq takes it: what the URL leaves to a service or a variable, too.
        """
        p = {**self._left_open(), **self.parameters()}
        hosts = (p.get("host") or p.get("hostaddr") or "local socket").split(",")
        # Before an at sign stands a piece of a password, but in the path of a socket.
        host = ",".join(h if h[:1] == "/" else h.rpartition("@")[2] for h in hosts)
        user = f"{p['user']}@" if "user" in p else ""
        return (
            f"{user}{host}:{p.get('port', '5432')}/{p.get('dbname', p.get('user', ''))}"
        )


def _in_environment() -> dict[str, str]:
    variables = {
        "user": "PGUSER",
        "host": "PGHOST",
        "hostaddr": "PGHOSTADDR",
        "port": "PGPORT",
        "dbname": "PGDATABASE",
    }
    return {k: os.environ[v] for k, v in variables.items() if os.environ.get(v)}


def _bounded(connect_timeout: str) -> str:
    """Return the seconds of a URL, at most `MOST_PATIENCE`; libpq takes 0 for endless.

    A value that is no number is left to libpq, which names the parameter.
    """
    try:
        seconds = int(connect_timeout)
    except ValueError:
        return connect_timeout
    return str(min(seconds, MOST_PATIENCE) if seconds > 0 else MOST_PATIENCE)


def _require_encoded(url: str, given: Mapping[str, object]) -> None:
    """Raise where libpq takes part of a password for host, port or database: it does
    where an at sign or a slash in it was not encoded, and whatever names the server
    would show it.
    """
    scheme, _, rest = url.partition("://")
    if scheme in ("postgres", "postgresql"):
        place, _, path = rest.partition("/")
        user, at, hosts_and_more = place.partition("@")
        if "@" in hosts_and_more.partition("?")[0]:
            raise _not_encoded()
        # Parameters with an at sign, right after the host, are a user's name to libpq.
        asks = at and re.search(r"^[^:]*\?|\?\w+=", user)
        if asks or "@" in path.partition("?")[0]:
            raise _unreadable()
    hosts = str(given.get("host") or "").split(",")
    if any("@" in host and not host.startswith(("/", "@")) for host in hosts):
        raise _not_encoded()
    ports = str(given.get("port") or "").split(",")
    if not all(port == "" or port.isdigit() for port in ports):
        raise _unreadable()


def _not_encoded() -> ConfigurationError:
    return ConfigurationError(
        "the database URL has an @ in its user or password; write it as %40"
    )


def _unreadable() -> ConfigurationError:
    return ConfigurationError(
        "the database URL cannot be read",
        "It looks like postgres://user:password@host:5432/dbname;"
        " special characters are percent-encoded.",
    )
