"""Who may do what: tokens, their roles, and the cookie that stands for one."""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Iterable, Sequence
from enum import IntEnum

from pgflow_cli.errors import ConfigurationError

SHORTEST = 16  # characters; 32 random bytes are 43 in base64
COOKIE = "pgflow_session"
COOKIE_SECONDS = 12 * 3600


class Role(IntEnum):
    """What a client may do. Each role includes those below it."""

    NOBODY = 0
    METRICS = 1
    READ = 2
    OPERATE = 3


class Keyring:
    """The tokens that open a server. Only their digests are kept, and every comparison
    takes the same time.

    A cookie names the token it was made from, and is signed with a key derived from
    that token: it works with every replica, for no longer than its token does.
    """

    def __init__(self, lines: Iterable[str], metrics_lines: Iterable[str] = ()) -> None:
        self._roles = dict(_parsed(lines))
        self._metrics = dict(_parsed(metrics_lines))

    @property
    def is_empty(self) -> bool:
        """Whether no token is set, so that nobody needs one."""
        return not self._roles

    def role_of(self, token: str) -> Role:
        """Return what a token allows."""
        digest = _digest(token)
        role = Role.NOBODY
        for known, allows in self._roles.items():
            if hmac.compare_digest(known, digest):
                role = allows
        for known in self._metrics:
            if hmac.compare_digest(known, digest):
                role = max(role, Role.METRICS)
        return role

    def cookie(self, token: str, now: float) -> str:
        """Return a cookie that stands for a token for twelve hours from now."""
        digest = _digest(token)
        expires = f"{int(now) + COOKIE_SECONDS:x}"
        return f"{_name(digest)}.{expires}.{_signature(digest, expires)}"

    def role_of_cookie(self, cookie: str, now: float) -> Role:
        """Return what a cookie allows; an expired or forged one allows nothing."""
        name, _, rest = cookie.partition(".")
        expires, _, signature = rest.partition(".")
        role = Role.NOBODY
        for digest, allows in self._roles.items():
            wanted = f"{_name(digest)}.{_signature(digest, expires)}".encode()
            given = f"{name}.{signature}".encode()
            if hmac.compare_digest(wanted, given) and _is_ahead(expires, now):
                role = allows
        return role


def require_some(lines: Sequence[str], *, variable: str) -> None:
    """Refuse lines of which none is a token: they would open a server to everybody that
    was meant to be closed (78). No lines at all are somebody's decision.
    """
    where = f"{variable}_FILE or {variable}"
    try:
        found = dict(_parsed(lines))
    except ConfigurationError as error:
        raise ConfigurationError(f"{where}: {error.message}", *error.hints) from None
    if lines and not found:
        raise ConfigurationError(
            f"{where}: there are blanks and comments only, and no token",
            "Make one:  openssl rand -base64 32",
        )


def _parsed(lines: Iterable[str]) -> Iterable[tuple[bytes, Role]]:
    for number, line in enumerate(lines, 1):
        token, role = [*line.split(maxsplit=1), "", ""][:2]
        if not token or token.startswith("#"):
            continue
        if len(token) < SHORTEST:
            raise ConfigurationError(
                f"token {number} is shorter than {SHORTEST} characters",
                "Make one:  openssl rand -base64 32",
            )
        if role.strip() not in ("", "read"):
            raise ConfigurationError(
                f"token {number} has an unknown role; a line is TOKEN or TOKEN read"
            )
        yield _digest(token), Role.READ if role.strip() else Role.OPERATE


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode("utf-8", "surrogateescape")).digest()


def _name(digest: bytes) -> str:
    return hashlib.sha256(b"pgflow cookie name" + digest).hexdigest()[:12]


def _signature(digest: bytes, expires: str) -> str:
    made = hmac.digest(b"pgflow cookie key" + digest, expires.encode(), "sha256")
    return base64.urlsafe_b64encode(made).decode().rstrip("=")


def _is_ahead(expires: str, now: float) -> bool:
    try:
        return int(expires, 16) > now
    except ValueError:
        return False
