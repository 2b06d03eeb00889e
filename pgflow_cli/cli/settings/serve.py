"""The settings of HTTP servers, for `serve-admin` and for `work`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import click

from pgflow_cli.cli.settings.option import OptionGroup, flag, setting
from pgflow_cli.cli.settings.types import Address

_ADDRESS = "PGFLOW_ADMIN_ADDR"
admin_address = flag(
    "--addr",
    "address",
    help="Where to listen.",
    variable=_ADDRESS,
    kind=Address(),
    default="127.0.0.1:3003",
    metavar="HOST:PORT",
)
work_admin = flag(
    "--admin",
    help="Where to serve the admin API and page, if anywhere.",
    variable=_ADDRESS,
    kind=Address(),
    default="off",
    metavar="HOST:PORT|off",
)
probe = flag(
    "--probe",
    help="Where to answer health probes, without any data about jobs, if anywhere.",
    variable="PGFLOW_PROBE_ADDR",
    kind=Address(),
    default="off",
    metavar="HOST:PORT|off",
)


# Every start of the program makes the class: what is not needed costs time.
@dataclass(frozen=True, init=False, repr=False, eq=False)
class ServingOptions:
    """What a server of the admin API was told, whichever command starts it."""

    api_token_file: Path | None = setting(
        "--api-token-file",
        help="The tokens that let clients in, one a line: TOKEN, or TOKEN read.",
        variable=True,
        kind=click.Path(path_type=Path),
        metavar="FILE",
    )
    metrics_token_file: Path | None = setting(
        "--metrics-token-file",
        help="Tokens that open /metrics/prom and nothing else.",
        variable=True,
        kind=click.Path(path_type=Path),
        metavar="FILE",
    )
    insecure_no_token: bool = setting(
        "--insecure-no-token",
        help="Listen beyond this host even though no client needs a token.",
        variable="PGFLOW_ADMIN_INSECURE",
        is_flag=True,
    )
    read_only: bool = setting(
        "--read-only",
        help="Refuse every change.",
        variable="PGFLOW_ADMIN_READ_ONLY",
        is_flag=True,
    )
    allow_host: tuple[str, ...] = setting(
        "--allow-host",
        help="A host name by which clients may call this server; repeatable; * for any."
        " Loopback names and the address it listens on are always allowed.",
        variable="PGFLOW_ADMIN_HOSTS",
        multiple=True,
        metavar="NAME",
    )


SERVING = OptionGroup(ServingOptions, "serving")
