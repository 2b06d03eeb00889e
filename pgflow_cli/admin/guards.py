"""Decides whether a request may be answered, by its host, its origin and its token.

Loopback is no trust boundary: a page of any site can make a browser call it. So the
Host must be one of ours (DNS rebinding), and what changes something must not come from
a page of another origin (CSRF).
"""

from __future__ import annotations

import re
import threading
import time
from collections import OrderedDict, deque
from dataclasses import dataclass
from http import HTTPStatus

from werkzeug.wrappers import Request

from pgflow_cli.admin.plan import LOOPBACK, AdminPlan
from pgflow_cli.admin.problems import Problem, bad_request
from pgflow_cli.admin.tokens import COOKIE, Keyring, Role

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

    def __init__(self, plan: AdminPlan) -> None:
        self._plan = plan
        self.keyring = Keyring(plan.api_tokens, plan.metrics_tokens)
        self.failures = Failures()
        names = {*LOOPBACK, plan.host.lower()}
        self._hosts = names | {name.lower() for name in plan.allowed_hosts}

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
        return Visitor(Role.NOBODY, address_of(request))

    def visitor(self, request: Request) -> Visitor:
        """Return who sends a request. A wrong token is refused; no token is NOBODY.

        After ten wrong tokens in a minute an address has to wait, even with a right
        one: otherwise guessing could go on, and the answer would tell. Cookies cannot
        be guessed, so they still work.
        """
        actor = self._actor(request)
        if self.keyring.is_empty:
            shown = _token_of(request)
            role = self.keyring.role_of(shown) if shown else Role.NOBODY
            return Visitor(max(role, self._limited(Role.OPERATE)), actor)
        token = _token_of(request)
        if token is not None:
            self.failures.require_few(address_of(request))
            role = self.keyring.role_of(token)
            if role is Role.NOBODY:
                self.failures.note(address_of(request))
                raise unauthorized()
            return Visitor(self._limited(role), actor)
        cookie = request.cookies.get(COOKIE)
        if cookie:
            role = self.keyring.role_of_cookie(cookie, time.time())
            return Visitor(self._limited(role), actor, role is not Role.NOBODY)
        return Visitor(Role.NOBODY, actor)

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
        return min(role, Role.READ) if self._plan.read_only else role

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
