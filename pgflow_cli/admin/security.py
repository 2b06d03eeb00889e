"""Decides whether a request may be answered, by its host, its origin and its token.

Loopback is no trust boundary: a page of any site can make a browser call it. So the
Host must be one of ours (DNS rebinding), and what changes something must not come from
a page of another origin (CSRF).
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import IntEnum
from http import HTTPStatus

from werkzeug.wrappers import Request

from pgflow_cli.admin.options import LOOPBACK, AdminOptions
from pgflow_cli.admin.problems import Problem, bad_request
from pgflow_cli.errors import ConfigurationError

SAFE_METHODS = ("GET", "HEAD")
_FAILURES = 10  # of an address in a minute
_MINUTE = 60.0
_REMEMBERED = 10_000  # addresses
_ACTOR = re.compile(r"[ -~]{1,128}")
_PORT = re.compile(r":\d{1,5}$")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


@dataclass(frozen=True, slots=True)
class Visitor:
    """Who sends a request. `by_cookie`: a browser that has logged in."""

    role: Role
    actor: str
    by_cookie: bool = False


class Failures:
    """How often each address has sent a wrong token in the last minute."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._times: OrderedDict[str, deque[float]] = OrderedDict()

    def require_few(self, address: str) -> None:
        """Refuse an address that has failed ten times in a minute (429)."""
        with self._lock:
            times = self._times.get(address)
            while times and times[0] < time.monotonic() - _MINUTE:
                times.popleft()
            if times and len(times) >= _FAILURES:
                left = max(1, round(times[0] + _MINUTE - time.monotonic()))
                raise Problem(
                    HTTPStatus.TOO_MANY_REQUESTS,
                    "too many wrong tokens from this address",
                    headers={"Retry-After": str(left)},
                )

    def note(self, address: str) -> None:
        """Count a failure. Of more than 10,000 addresses the stalest is forgotten."""
        with self._lock:
            times = self._times.setdefault(address, deque(maxlen=_FAILURES))
            times.append(time.monotonic())
            self._times.move_to_end(address)
            while len(self._times) > _REMEMBERED:
                self._times.popitem(last=False)


class Guard:
    """Lets requests in, or raises the `Problem` that says why not."""

    def __init__(self, options: AdminOptions) -> None:
        self._options = options
        self.keyring = Keyring(options.api_tokens, options.metrics_tokens)
        self.failures = Failures()
        names = {*LOOPBACK, options.host.lower()}
        self._hosts = names | {name.lower() for name in options.allowed_hosts}

    def require_host(self, request: Request, *, exempt: bool) -> None:
        """Refuse a request that names another host (421), or none (400)."""
        host = request.headers.get("Host", "")
        if not host:
            raise bad_request("the request has no Host")
        if _CONTROL.search(request.path) or _CONTROL.search(host):
            raise bad_request("the path or the host has control characters")
        if exempt or "*" in self._hosts or _name_of(request.host) in self._hosts:
            return
        raise Problem(
            HTTPStatus.MISDIRECTED_REQUEST,
            "this server does not answer to the name in Host; start it with"
            " --allow-host NAME [PGFLOW_ADMIN_HOSTS] to allow one",
        )

    def prober(self, request: Request) -> Visitor:
        """Return who sends a health probe: nobody, whatever token it carries."""
        return Visitor(Role.ANONYMOUS, address_of(request))

    def visitor(self, request: Request) -> Visitor:
        """Return who sends a request. A wrong token is refused; no token is NOBODY.

        After ten wrong tokens in a minute an address has to wait, even with a right
        one: otherwise guessing could go on, and the answer would tell. Cookies cannot
        be guessed, so they still work.
        """
        actor = self._actor(request)
        if self.keyring.is_empty:
            shown = _token_of(request)
            role = self.keyring.role_of(shown) if shown else Role.ANONYMOUS
            return Visitor(max(role, self._limited(Role.OPERATE)), actor)
        token = _token_of(request)
        if token is not None:
            self.failures.require_few(address_of(request))
            role = self.keyring.role_of(token)
            if role is Role.ANONYMOUS:
                self.failures.note(address_of(request))
                raise unauthorized()
            return Visitor(self._limited(role), actor)
        cookie = request.cookies.get(COOKIE)
        if cookie:
            role = self.keyring.role_of_cookie(cookie, time.time())
            return Visitor(self._limited(role), actor, role is not Role.ANONYMOUS)
        return Visitor(Role.ANONYMOUS, actor)

    def require_own_page(self, request: Request, *, strict: bool) -> None:
        """Refuse an unsafe request that a page of another origin may have sent.

        Browsers say where a request comes from. `strict` insists on that, for requests
        that a cookie lets in or a form has sent.
        """
        origin = request.headers.get("Origin")
        site = request.headers.get("Sec-Fetch-Site")
        own = f"{request.scheme}://{request.host}"
        foreign = origin is not None and origin.lower() != own.lower()
        if foreign or site not in (None, "same-origin", "none"):
            raise _foreign()
        if strict and (origin is None or site not in (None, "same-origin")):
            raise _foreign()

    def _limited(self, role: Role) -> Role:
        return min(role, Role.READ) if self._options.read_only else role

    def _actor(self, request: Request) -> str:
        given = request.headers.get("X-Pgflow-Actor")
        if given is None:
            return address_of(request)
        if not _ACTOR.fullmatch(given):
            raise bad_request(
                "x-pgflow-actor must be 1 to 128 printable ASCII characters"
            )
        return given


def unauthorized() -> Problem:
    """Return the one answer to a missing and to a wrong token."""
    return Problem(
        HTTPStatus.UNAUTHORIZED,
        "a token is needed: x-api-key: TOKEN or Authorization: Bearer TOKEN",
        headers={"WWW-Authenticate": 'Bearer realm="pgflow"'},
    )


def _foreign() -> Problem:
    return Problem(
        HTTPStatus.FORBIDDEN,
        "the request comes from a page of another origin, or does not say from which;"
        " behind a proxy the server needs --proxy-hops",
        code="FOREIGN_ORIGIN",
    )


def _token_of(request: Request) -> str | None:
    key = request.headers.get("X-Api-Key")
    if key is None:
        kind, _, key = request.headers.get("Authorization", "").partition(" ")
        if kind.lower() != "bearer":
            return None
    # Headers arrive as Latin-1, whatever they are; a token file is UTF-8.
    return key.strip().encode("latin-1").decode("utf-8", "surrogateescape")


def address_of(request: Request) -> str:
    """Return where a request comes from."""
    return request.remote_addr or "unknown"


def _name_of(host: str) -> str:
    return _PORT.sub("", host).strip("[]").lower()


SHORTEST = 16  # characters; 32 random bytes are 43 in base64
COOKIE = "pgflow_session"
COOKIE_SECONDS = 12 * 3600


class Role(IntEnum):
    """What a client may do. Each role includes those below it."""

    ANONYMOUS = 0
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
        """Whether no token is set: then no request needs one."""
        return not self._roles

    def role_of(self, token: str) -> Role:
        """Return the role that a token has."""
        digest = _digest(token)
        role = Role.ANONYMOUS
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
        """Return the role of a cookie; an expired or forged one has none."""
        name, _, rest = cookie.partition(".")
        expires, _, signature = rest.partition(".")
        role = Role.ANONYMOUS
        for digest, allows in self._roles.items():
            wanted = f"{_name(digest)}.{_signature(digest, expires)}".encode()
            given = f"{name}.{signature}".encode()
            if hmac.compare_digest(wanted, given) and _is_ahead(expires, now):
                role = allows
        return role


def require_some(lines: Sequence[str], *, variable: str) -> None:
    """Refuse lines of which none is a token: they would open a server to all that
    was meant to be closed (78). No lines at all are a decision.
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
