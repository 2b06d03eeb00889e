"""What is notified while the line is being tested is not lost."""

from __future__ import annotations

import pytest

from pgflow_cli.errors import DatabaseUnavailable
from pgflow_cli.repository import Database as Settings
from pgflow_cli.repository import Listener
from tests.private_servers import pgbouncer, stalling_proxy
from tests.servers import Database


def test_what_arrives_while_the_line_is_tested_is_heard_after_it(
    database: Database,
) -> None:
    listener = Listener(Settings(database.url))
    assert listener.hears_itself(30)
    with database.connect() as speaker:
        speaker.execute("select pg_notify('pgflow', 'emails')")
    assert listener.hears_itself(30)
    assert listener.wait(30) == ["emails"]
    listener.close()


@pytest.mark.timeout(60)
@pytest.mark.direct
def test_a_silent_line_is_not_taken_for_a_pooler(database: Database) -> None:
    with stalling_proxy(database) as (url, proxy):
        listener = Listener(Settings(url, call_timeout=1.0))
        assert listener.hears_itself(30)
        proxy.stall()
        with pytest.raises(DatabaseUnavailable, match="took longer than"):
            listener.hears_itself(0.2)
        listener.close()
        assert listener.hears_itself(30), "over another connection"
        listener.close()


def test_behind_a_pooler_the_line_is_deaf(database: Database) -> None:
    with pgbouncer(database) as url:
        listener = Listener(Settings(url, call_timeout=10.0))
        assert not listener.hears_itself(0.5)
        listener.close()
