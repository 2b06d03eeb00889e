"""What the admin server is told, before it listens."""

from __future__ import annotations

import pytest

from pgflow_cli.cli import servers
from pgflow_cli.errors import UsageError


@pytest.mark.parametrize(
    ("given", "kept"),
    [("/", "/"), ("", "/"), ("/pgflow/", "/pgflow"), ("/ops/pg.flow", "/ops/pg.flow")],
)
def test_a_base_path_has_no_slash_at_its_end(given: str, kept: str) -> None:
    assert servers._base_path(given) == kept


@pytest.mark.parametrize(
    "given",
    [
        "pgflow",
        "//evil",
        "/a//b",
        "/a b",
        "/a?b",
        "/%2e",
        "/ä",
        "/..",
        "/../x",
        "/a/./b",
    ],
)
def test_what_a_browser_would_read_as_another_path_is_no_base_path(given: str) -> None:
    with pytest.raises(UsageError):
        servers._base_path(given)
