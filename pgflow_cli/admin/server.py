"""Listens: waitress in front of the application, with deadlines for slow clients."""

from __future__ import annotations

import errno
import logging
import socket
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from pgflow_cli.admin import security
from pgflow_cli.admin.options import AdminOptions
from pgflow_cli.errors import ConfigurationError
from pgflow_cli.telemetry import logs

if TYPE_CHECKING:
    from wsgiref.types import WSGIApplication

from typing import Protocol

_BACKLOG = 1024
_TURN = 0.25  # seconds the loop waits for something to happen
_LAST_SECONDS = 3.0
_LIVENESS = ("/health", "/health/started")
_SETTINGS: dict[str, Any] = {
    "connection_limit": 800,
    "asyncore_use_poll": True,
    "channel_timeout": 30,
    "cleanup_interval": 1,
    "max_request_header_size": 16_384,
    "channel_request_lookahead": 1,
    "ident": None,
    "expose_tracebacks": False,
}


def require_safe(options: AdminOptions) -> None:
    """Refuse tokens that cannot be meant, and an address that others can reach while
    no token is needed (78).
    """
    security.require_some(options.api_tokens, variable="PGFLOW_API_TOKEN")
    security.require_some(options.metrics_tokens, variable="PGFLOW_METRICS_TOKEN")
    if (
        options.on_loopback
        or not options.is_open
        or options.insecure
        or options.probe_only
    ):
        return
    raise ConfigurationError(
        f"{options.address} can be reached from other hosts, and no token is set",
        "Set PGFLOW_API_TOKEN_FILE (or PGFLOW_API_TOKEN), or listen on 127.0.0.1,",
        "or say that a gateway guards it: --insecure-no-token"
        " [PGFLOW_ADMIN_INSECURE=1].",
    )


def listening(options: AdminOptions) -> socket.socket:
    """Return a socket that listens where the options say; exit 78 if it cannot."""
    family = socket.AF_INET6 if ":" in options.host else socket.AF_INET
    bound = socket.socket(family, socket.SOCK_STREAM)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind((options.host, options.port))
        bound.listen(_BACKLOG)
    except (OSError, UnicodeError) as error:
        bound.close()
        said = getattr(error, "strerror", None) or "this is no name of a host"
        taken = getattr(error, "errno", None) == errno.EADDRINUSE
        raise ConfigurationError(
            f"cannot listen on {options.address}: {said}",
            *(["Another program uses the port: choose another."] if taken else []),
        ) from None
    return bound


def address_of(bound: socket.socket) -> str:
    """Return where a socket listens, as in a URL."""
    host, port = bound.getsockname()[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def run(
    options: AdminOptions,
    bound: socket.socket,
    *,
    beat: Callable[[], float] | None = None,
    ended: Callable[[], bool],
) -> None:
    """Answer requests until `ended`; then finish those that have begun, within three
    seconds.

    `beat` says when the loop of the supervisor it belongs to last turned.
    """
    from waitress import wasyncore  # noqa: PLC0415 - start-up stays quick

    from pgflow_cli.admin import application, service  # noqa: PLC0415 - the API needs us

    means = service.Service(options, beat=beat)
    server = serve(options, bound, application.application(means))

    def turn() -> None:
        wasyncore.loop(timeout=_TURN, map=server._map, use_poll=True, count=1)

    try:
        while not ended():
            turn()
        means.end()
        server.accepting = False
        deadline = time.monotonic() + _LAST_SECONDS
        while _is_busy(server) and time.monotonic() < deadline:
            turn()
    finally:
        means.end()
        server.task_dispatcher.shutdown(timeout=1)
        server.close()
        means.close()


def _is_busy(server: Any) -> bool:
    channels = list(server.active_channels.values())
    return any(each.requests or each.total_outbufs_len for each in channels)


def serve(
    options: AdminOptions, bound: socket.socket, application: WSGIApplication
) -> Any:
    """Return a server for the socket, whose loop has to be turned."""
    from waitress.server import create_server  # noqa: PLC0415 - start-up stays quick

    from pgflow_cli.admin import hardening  # noqa: PLC0415 - it needs waitress

    server: Any = create_server(
        _behind(options, application),
        sockets=[bound],
        threads=options.threads,
        # waitress refuses a body of this size, too.
        max_request_body_size=options.max_body + 1,
        clear_untrusted_proxy_headers=options.proxy_hops == 0,
        url_prefix="" if options.base_path == "/" else options.base_path,
        **_SETTINGS,
    )
    server.channel_class = hardening.Channel
    prefix = "" if options.base_path == "/" else options.base_path
    probes = [f"{start}{path}" for start in ("", prefix) for path in _LIVENESS]
    server.task_dispatcher = hardening.Lanes(server.task_dispatcher, probes)
    hardening.close_slow_channels(server)
    # It would log a line for each page that is closed, and for each request that waits
    # for a thread: in an incident they would hide everything else.
    logging.getLogger("waitress").setLevel(logging.WARNING)
    logs.limit("waitress.queue")
    return server


def _behind(options: AdminOptions, application: WSGIApplication) -> WSGIApplication:
    """Believe what so many proxies say of the client, and no one else.

    Not of the path they put before ours: many let a client's own X-Forwarded-Prefix
    through, which would decide where we send a browser. `--base-path` says it.
    """
    if options.proxy_hops == 0:
        return application
    from werkzeug.middleware.proxy_fix import ProxyFix  # noqa: PLC0415

    hops = options.proxy_hops
    return ProxyFix(application, x_for=hops, x_proto=hops, x_host=hops)


class Tie(Protocol):
    """What is known of the supervisor."""

    def turned_at(self) -> float:
        """Return when its loop last turned."""
        ...

    def is_cut(self) -> bool:
        """Whether it wants us to end."""
        ...


def main(options: AdminOptions, bound: socket.socket, tie: Tie) -> None:
    """Serve until the tie is cut."""
    logs.set_up(options.log_format, options.log_level, worker_id=options.worker_id)
    run(options, bound, beat=tie.turned_at, ended=tie.is_cut)
