"""How a command connects."""

from __future__ import annotations

from typing import Any

import pytest

from pgflow_cli.cli import context
from pgflow_cli.errors import DatabaseUnavailable, TooSlow
from pgflow_cli.repository import Database, Repository


@pytest.mark.parametrize(("error", "tries"), [(TooSlow, 1), (DatabaseUnavailable, 3)])
def test_what_the_server_has_canceled_is_told_as_it_is_and_not_tried_again(
    monkeypatch: pytest.MonkeyPatch, error: type[DatabaseUnavailable], tries: int
) -> None:
    """A server that answers is not unreachable."""
    asked: list[Database] = []

    def refuse(link: Any) -> None:
        asked.append(link.database)
        raise error("canceled by statement_timeout")

    wanted = Database("postgresql://nowhere.invalid/app", connect_timeout=1.5)
    monkeypatch.setattr(type(Repository.of(wanted).link), "raw", refuse)
    with pytest.raises(DatabaseUnavailable) as raised:
        context._connected(wanted, 3)
    assert len(asked) == tries
    assert type(raised.value) is error
