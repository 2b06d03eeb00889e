"""A server that falls silent holds up nobody for longer than a call may take."""

from __future__ import annotations

import pytest

from pgflow_cli.errors import OutcomeUnknown
from pgflow_cli.repository import Database as Settings
from pgflow_cli.repository import Repository
from tests.private_servers import stalling_proxy
from tests.servers import Database


@pytest.mark.timeout(60)
@pytest.mark.parametrize("moment", ["begin", "statement", "commit", "rollback"])
def test_a_transaction_ends_though_the_server_has_fallen_silent(
    database: Database, moment: str
) -> None:
    with stalling_proxy(database) as (url, proxy):
        repository = Repository.of(Settings(url, call_timeout=1.0))
        repository.read_clock()
        expected = KeyError if moment == "rollback" else OutcomeUnknown

        def stall_at(now: str) -> None:
            if moment == now:
                proxy.stall()

        def run() -> None:
            stall_at("begin")
            with repository.transaction():
                stall_at("statement")
                repository.read_clock()
                stall_at("commit")
                stall_at("rollback")
                if moment == "rollback":
                    raise KeyError

        with pytest.raises(expected):
            run()
        assert repository.read_clock() > 0  # over a new connection
        repository.close()
