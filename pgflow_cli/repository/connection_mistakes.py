"""Mistakes in connection parameters of a URL or the environment. They are found without
parsing libpq's messages, and named for an operator.
"""

from __future__ import annotations

import ipaddress
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

import psycopg
from psycopg import pq
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from pgflow_cli.repository import session

# Parameters that libpq parses when it connects: a bad number looks like a failed
# connection.
_NUMBERS = (
    "keepalives",
    "keepalives_idle",
    "keepalives_interval",
    "keepalives_count",
    "tcp_user_timeout",
)
_MOST_PORTS = 65535  # the largest TCP port
_NOWHERE = "/nonexistent"
_NO_ONE = "pgflow"


class _Demand(NamedTuple):
    """Values of a parameter that demand nothing of a server, and the weakest of all."""

    harmless: tuple[str, ...]
    least: str


_DEMANDS = {
    "sslmode": _Demand(("disable", "allow", "prefer"), "prefer"),
    "channel_binding": _Demand(("disable", "prefer"), "prefer"),
    "gssencmode": _Demand(("disable", "prefer"), "disable"),
    "require_auth": _Demand((), ""),
    "requirepeer": _Demand((), ""),
    "min_protocol_version": _Demand(("3.0",), "3.0"),
    "target_session_attrs": _Demand(("any", "prefer-standby"), "any"),
}
MAY_COME = ("target_session_attrs",)
"""Parameters that a server may fail to satisfy now, and satisfy after a failover."""
# What libpq asks the server for besides its connection parameters.
_SESSION_VARIABLES = ("PGDATESTYLE", "PGTZ", "PGGEQO")
_QUOTED = re.compile(r"[\"'«»„“”‘’‹›]([^\"'«»„“”‘’‹›]+)[\"'«»„“”‘’‹›]")


def are_in(parameters: Mapping[str, str], conninfo: bytes) -> bool:
    """Whether these parameters can connect to no server at all.

    libpq then fails before it tries: it rejects a value, or finds no such service.
    """
    ports = parameters.get("port") or os.environ.get("PGPORT", "")
    if not all(map(_is_port, _listed(ports))):
        return True
    addresses = parameters.get("hostaddr") or os.environ.get("PGHOSTADDR", "")
    if not all(map(_is_address, _listed(addresses))):
        return True
    numbers = (n for name in _NUMBERS for n in _listed(parameters.get(name, "")))
    if not all(re.fullmatch(r"\s*[+-]?[0-9]+\s*", value) for value in numbers):
        return True
    return pq.PGconn.ping(conninfo) == pq.Ping.NO_ATTEMPT


def unmet_demands(conninfo: bytes, error: Exception) -> list[str]:
    """Return the parameters that ask something of a server, where one answers and a
    connection still fails with this error: the refusal is libpq's, without a SQLSTATE.

    The first try drops them, and has no user's name and no password: the parameters may
    be there to protect the password. A second try has them again, because the server
    may have come up meanwhile.
    """
    demands = _demands(conninfo)
    if not demands:
        return []
    undemanding = make_conninfo(
        conninfo.decode(),
        **{keyword: _DEMANDS[keyword].least for keyword in demands},
        user=_NO_ONE,
        dbname=_NO_ONE,
        password="",
        passfile=_NOWHERE,
    )
    if pq.PGconn.ping(undemanding.encode()) != pq.Ping.OK:
        return []
    again = pq.PGconn.connect(conninfo)
    try:
        said = again.error_message.decode(errors="replace").strip().splitlines()
    finally:
        again.finish()
    return list(demands) if said and said[-1] in str(error) else []


def _demands(conninfo: bytes) -> dict[str, str]:
    asked = session.resolved(conninfo.decode(), host=_NOWHERE, hostaddr="")
    return {
        keyword: asked[keyword]
        for keyword, demand in _DEMANDS.items()
        if asked.get(keyword) and asked[keyword] not in demand.harmless
    }


def askers(url: str, keywords: Iterable[str]) -> list[str]:
    """Name where each of these parameters was set."""
    given = dict(_given_parameters(url))
    return [
        given.get(keyword, f"{keyword} in the service file") for keyword in keywords
    ]


def blamed(url: str, reason: str) -> list[str]:
    """Name the part of the URL, or the variable, whose value an error message quotes or
    ends with.
    """
    quoted = [*_QUOTED.findall(reason), reason.rpartition(": ")[2]]
    return [
        name for name, value in _given(url) if any(piece in value for piece in quoted)
    ]


def _given(url: str) -> Iterator[tuple[str, str]]:
    in_url = _parameters(url)
    for keyword, name in _given_parameters(url):
        if keyword != "password":
            yield name, in_url.get(keyword) or os.environ[name]
    # libpq treats this one unlike the other options.
    for variable in ("PGSERVICEFILE", *_SESSION_VARIABLES):
        if variable in os.environ:
            yield variable, os.environ[variable]


def _given_parameters(url: str) -> Iterator[tuple[str, str]]:
    """Yield each parameter that the URL or a variable sets, and which of the two."""
    in_url = _parameters(url)
    for option in pq.Conninfo.get_defaults():
        keyword = option.keyword.decode()
        variable = option.envvar.decode() if option.envvar else ""
        if keyword in in_url:
            yield keyword, f"{keyword} in the database URL"
        elif variable in os.environ:
            yield keyword, variable
        elif keyword == "sslmode" and "PGREQUIRESSL" in os.environ:
            yield keyword, "PGREQUIRESSL"


def _parameters(url: str) -> dict[str, str]:
    try:
        given = conninfo_to_dict(url)
    except psycopg.Error:
        return {}
    return {keyword: str(value) for keyword, value in given.items() if value}


def _listed(text: str) -> list[str]:
    return [value for value in text.split(",") if value.strip()]


def _is_port(value: str) -> bool:
    return value.strip().isdecimal() and 1 <= int(value) <= _MOST_PORTS


def _is_address(value: str) -> bool:
    try:
        ipaddress.ip_address(value.strip())
    except ValueError:
        return False
    return True
