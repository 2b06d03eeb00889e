"""Mistakes in the parameters of a connection, whether a URL or the environment has
them: found without reading what libpq says of them, and named for an operator.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping

import psycopg
from psycopg import pq
from psycopg.conninfo import conninfo_to_dict

# What libpq reads when it connects, and reports as a failed connection.
_NUMBERS = (
    "keepalives",
    "keepalives_idle",
    "keepalives_interval",
    "keepalives_count",
    "tcp_user_timeout",
)
_MOST_PORTS = 65535
# What libpq asks the server for besides its connection parameters.
_SESSION_VARIABLES = ("PGDATESTYLE", "PGTZ", "PGGEQO")
_QUOTED = re.compile(r"[\"'«»„“”‘’‹›]([^\"'«»„“”‘’‹›]+)[\"'«»„“”‘’‹›]")


def are_in(parameters: Mapping[str, str], conninfo: bytes) -> bool:
    """Whether no connection can come of these parameters, whatever the server is like.

    libpq tells by not trying: it does not know a value, or finds no such service.
    """
    ports = parameters.get("port") or os.environ.get("PGPORT", "")
    if not all(map(_is_port, _listed(ports))):
        return True
    numbers = (n for name in _NUMBERS for n in _listed(parameters.get(name, "")))
    if not all(re.fullmatch(r"\s*[+-]?[0-9]+\s*", value) for value in numbers):
        return True
    return pq.PGconn.ping(conninfo) == pq.Ping.NO_ATTEMPT


def blamed(url: str, reason: str) -> list[str]:
    """Name what asks for something that a reason quotes, or ends with: a part of the
    URL, or a variable.
    """
    quoted = [*_QUOTED.findall(reason), reason.rpartition(": ")[2]]
    return [
        name for name, value in _given(url) if any(piece in value for piece in quoted)
    ]


def _given(url: str) -> Iterator[tuple[str, str]]:
    try:
        in_url = {k: str(v) for k, v in conninfo_to_dict(url).items() if v is not None}
    except psycopg.Error:
        in_url = {}
    for option in pq.Conninfo.get_defaults():
        keyword = option.keyword.decode()
        variable = option.envvar.decode() if option.envvar else ""
        if keyword == "password":
            continue
        if keyword in in_url:
            yield f"{keyword} in the database URL", in_url[keyword]
        elif variable in os.environ:
            yield variable, os.environ[variable]
    # Not an option like the others to libpq.
    for variable in ("PGSERVICEFILE", *_SESSION_VARIABLES):
        if variable in os.environ:
            yield variable, os.environ[variable]


def _listed(text: str) -> list[str]:
    return [value for value in text.split(",") if value.strip()]


def _is_port(value: str) -> bool:
    return value.strip().isdecimal() and 1 <= int(value) <= _MOST_PORTS
