"""What the admin server takes from waitress without a promise of it: the pin, names."""

from __future__ import annotations

import ast
import inspect
import socket
import tomllib
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from waitress import wasyncore
from waitress.channel import HTTPChannel
from waitress.parser import HTTPRequestParser
from waitress.server import BaseWSGIServer, create_server
from waitress.task import ErrorTask

from pgflow_cli.admin import hardening

PROJECT = Path(__file__).parents[3] / "pyproject.toml"
REQUEST = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
# What `hardening` and `server` read, write or override, by what has it in waitress.
NAMES = {
    "channel": {
        "adj", "connected", "creation_time", "error_task_class", "handle_write",
        "outbuf_lock", "parser_class", "received", "request", "requests", "server",
        "socket", "total_outbufs_len", "will_close",
    },
    "parser": {
        "error", "expect_continue", "headers", "parse_header", "path", "proxy_netloc",
        "received", "version",
    },
    "task": {
        "channel", "content_length", "execute", "request", "response_headers",
        "set_close_on_finish", "status", "write",
    },
    "server": {
        "_map", "accepting", "active_channels", "add_task", "channel_class", "close",
        "maintenance", "task_dispatcher",
    },
    "adjustments": {"channel_timeout", "max_request_body_size"},
    "dispatcher": {"add_task", "set_thread_count", "shutdown"},
    "loop": {"loop"},
}  # fmt: skip
# An override that waitress no longer calls would be no error, and no protection.
CALLERS = [
    (HTTPChannel.received, "parser_class"),
    (HTTPChannel.received, "add_task"),
    (HTTPChannel.service, "error_task_class"),
    (HTTPRequestParser.received, "parse_header"),
    (BaseWSGIServer.handle_accept, "channel_class"),
    (BaseWSGIServer.readable, "maintenance"),
    (wasyncore.write, "handle_write_event"),
]


@pytest.fixture(scope="module")
def stock() -> Iterator[dict[str, Any]]:
    """One of each of waitress's own things, as it makes them."""
    bound = socket.create_server(("127.0.0.1", 0))
    server: Any = create_server(lambda *_: [], sockets=[bound], threads=1)
    ours, theirs = socket.socketpair()
    channel: Any = HTTPChannel(server, ours, ("127.0.0.1", 1), server.adj, map={})
    parser: Any = HTTPRequestParser(server.adj)
    parser.received(REQUEST)
    parser.error = None
    yield {
        "channel": channel,
        "parser": parser,
        "task": ErrorTask(channel, SimpleNamespace(version="1.1")),
        "server": server,
        "adjustments": server.adj,
        "dispatcher": server.task_dispatcher,
        "loop": wasyncore,
    }
    channel.close()
    theirs.close()
    server.close()
    server.task_dispatcher.shutdown()


def test_the_installed_waitress_is_the_one_that_is_pinned() -> None:
    project = tomllib.loads(PROJECT.read_text(encoding="utf-8"))["project"]
    pins = [each for each in project["dependencies"] if each.startswith("waitress")]
    assert pins == [f"waitress=={version('waitress')}"]


@pytest.mark.parametrize("owner", NAMES)
def test_waitress_has_the_names_that_are_used(
    owner: str, stock: dict[str, Any]
) -> None:
    assert {name for name in NAMES[owner] if not hasattr(stock[owner], name)} == set()


@pytest.mark.parametrize(
    ("caller", "name"), CALLERS, ids=[f"{c.__qualname__}-{n}" for c, n in CALLERS]
)
def test_waitress_calls_what_is_overridden(caller: Any, name: str) -> None:
    assert name in caller.__code__.co_names


@pytest.mark.parametrize(
    ("ours", "owner"),
    [
        (hardening.Channel, "channel"),
        (hardening.Request, "parser"),
        (hardening.Refusal, "task"),
    ],
    ids=["channel", "parser", "task"],
)
def test_every_name_that_is_used_is_in_the_list(ours: type, owner: str) -> None:
    tree = ast.parse(inspect.getsource(ours))
    used = {
        node.attr
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute)
        and isinstance(node.value, ast.Name)
        and node.value.id == "self"
    }
    ours_alone = {*vars(ours), "began"}
    assert used - ours_alone <= NAMES[owner]
