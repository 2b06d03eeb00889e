"""The settings of an admin server: plain values, to be sent to its process."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

LOOPBACK = ("localhost", "127.0.0.1", "::1")
_LOOPBACK_NUMBER = re.compile(r"127(\.\d{1,3}){1,3}", re.ASCII)


@dataclass(frozen=True, slots=True)
class AdminOptions:
    """The settings of an admin server. Durations are seconds, sizes bytes.

    `api_tokens` and `metrics_tokens` are lines, `TOKEN` or `TOKEN read`. A server that
    is `probe_only` answers health probes and tells of the process it belongs to;
    `worker_id` is the worker with which it runs.
    """

    url: str = field(repr=False)
    host: str = "127.0.0.1"
    port: int = 3003
    api_tokens: tuple[str, ...] = field(default=(), repr=False)
    metrics_tokens: tuple[str, ...] = field(default=(), repr=False)
    insecure: bool = False
    read_only: bool = False
    allowed_hosts: tuple[str, ...] = ()
    threads: int = 16
    max_sse: int = 8
    metrics_cache: float = 5.0
    base_path: str = "/"
    proxy_hops: int = 0
    max_body: int = 1_048_576
    access_log: bool = True
    connect_timeout: float = 5.0
    max_payload_bytes: int = 262_144
    max_enqueue_per_minute: int = 0
    production: bool = False
    probe_only: bool = False
    worker_id: str | None = None
    log_format: str = "auto"
    log_level: str = "info"

    @property
    def on_loopback(self) -> bool:
        """Whether only this host can reach it."""
        return self.host in LOOPBACK or bool(_LOOPBACK_NUMBER.fullmatch(self.host))

    @property
    def is_open(self) -> bool:
        """Whether all who reach it may do everything."""
        return not self.api_tokens

    @property
    def address(self) -> str:
        """Return where it listens, as in a URL."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"
