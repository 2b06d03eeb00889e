"""The options that stand before or after every sub-command, those that several
commands share, and variables without a flag.
"""

from __future__ import annotations

from pathlib import Path

import click

from pgflow_cli.cli.output import records
from pgflow_cli.cli.settings.option import DAY, flag, stack
from pgflow_cli.cli.settings.types import QUEUE, Choice, Duration, Number

# The options that stand before or after every sub-command.

GLOBAL = (
    flag(
        "--database-url",
        help="Where the database is.",
        variable="DATABASE_URL",
        metavar="URL",
        is_global=True,
    ),
    flag(
        "--database-url-file",
        help="A file that holds the URL of the database.",
        variable="DATABASE_URL_FILE",
        metavar="FILE",
        is_global=True,
    ),
    flag(
        "--profile",
        help="Use [profile.NAME] of the configuration file.",
        variable=True,
        metavar="NAME",
        is_global=True,
        is_eager=True,
    ),
    flag(
        "--config",
        help="The configuration file; else pgflow/config.toml in XDG_CONFIG_HOME.",
        variable=True,
        metavar="FILE",
        is_global=True,
        is_eager=True,
    ),
    flag(
        "--env-file",
        help="Read variables from this file instead of ./.env.",
        metavar="FILE",
        is_global=True,
        is_eager=True,
    ),
    flag(
        "-o",
        "--output",
        help="How rows are written.",
        kind=Choice(records.FORMATS),
        is_global=True,
        show_default="table on a terminal, plain elsewhere",
    ),
    flag(
        "--color",
        help="Whether to write in colour; auto heeds NO_COLOR, FORCE_COLOR and TERM.",
        kind=Choice(("auto", "always", "never")),
        default="auto",
        is_global=True,
        is_eager=True,
    ),
    flag(
        "--time",
        help="How times are written.",
        kind=Choice(records.TIMES),
        is_global=True,
        show_default="relative on a terminal, iso elsewhere",
    ),
    flag("--no-pager", help="Never start a pager.", is_flag=True, is_global=True),
    flag("--quiet", help="Leave out counts and hints.", is_flag=True, is_global=True),
    flag(
        "-v",
        "--verbose",
        help="Say more; twice: more still.",
        count=True,
        is_global=True,
    ),
    flag(
        "--debug",
        help="Print the traceback of an error.",
        is_flag=True,
        is_global=True,
        is_eager=True,
    ),
    flag(
        "--log-format",
        help="How log lines are written; auto: text on a terminal, json elsewhere.",
        variable=True,
        kind=Choice(("auto", "text", "json")),
        default="auto",
        is_global=True,
    ),
    flag(
        "--log-level",
        help="Which log lines are written.",
        variable=True,
        kind=Choice(("debug", "info", "warning", "error"), case_sensitive=False),
        default="info",
        is_global=True,
    ),
    flag(
        "--timeout",
        help="Longest time a statement may take.",
        kind=Duration(0.001, DAY),
        default="30s",
        is_global=True,
    ),
    flag(
        "--connect-timeout",
        help="Longest time to try to connect.",
        kind=Duration(0.1, 3600),
        default="5s",
        is_global=True,
    ),
    flag("--no-input", help="Never ask; refuse instead.", is_flag=True, is_global=True),
)

# Options that several commands share.

queue_name = flag("-q", "--queue", help="The queue.", kind=QUEUE, metavar="NAME")
columns = flag(
    "--columns",
    help="Only these columns, in this order.",
    metavar="A,B",
    is_global=True,
)
no_headers = flag(
    "--no-headers", help="Leave out the line of headings.", is_flag=True, is_global=True
)
sort = flag(
    "--sort",
    help="Sort the rows of this page by a column; :desc for the other way round.",
    metavar="FIELD[:desc]",
    is_global=True,
)
actor = flag(
    "--as",
    "actor",
    help="Who makes this change, for the audit.",
    variable="PGFLOW_ACTOR",
    metavar="NAME",
    show_default="user@host",
)
app = flag(
    "--app",
    help="Where the handlers are: MODULE, MODULE:ATTR or FILE.py; repeatable.",
    variable=True,
    multiple=True,
    metavar="MODULE[:ATTR]",
)
pg_bin = flag(
    "--pg-bin",
    help="The folder with the programs of PostgreSQL (initdb, postgres).",
    variable=True,
    kind=click.Path(path_type=Path),
    metavar="DIR",
    show_default="the newest one found",
)

list_options = stack(sort, columns, no_headers)

# Variables without a flag.

max_payload_bytes = flag(
    help="The largest payload, where the queue's policy says nothing.",
    variable="PGFLOW_MAX_PAYLOAD_BYTES",
    kind=Number(2, 16_777_216),
    default=262_144,
)
max_enqueue_per_minute = flag(
    help="Most jobs in each minute of the server's clock, where the queue's policy"
    " says nothing; 0: no limit.",
    variable="PGFLOW_MAX_ENQUEUE_PER_MINUTE",
    kind=Number(0, 2_147_483_647),
    default=0,
)
environment = flag(
    help="What this installation is for; anything but dev forbids the URL dev:.",
    variable="PGFLOW_ENV",
)
pager = flag(help="The pager; off for none.", variable="PGFLOW_PAGER", default="less")
production = flag(
    help="Also ask before changes to a single job; meant for a profile.",
    variable="PGFLOW_PRODUCTION",
    is_flag=True,
    default=False,
)

api_token = flag(
    help="A token that clients must have; better kept in a file.",
    variable="PGFLOW_API_TOKEN",
)
metrics_token = flag(
    help="A token that opens /metrics/prom and nothing else; better kept in a file.",
    variable="PGFLOW_METRICS_TOKEN",
)

VARIABLE_ONLY = (
    api_token,
    metrics_token,
    max_payload_bytes,
    max_enqueue_per_minute,
    environment,
    pager,
    production,
)
