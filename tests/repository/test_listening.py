"""What is notified while the line is being tested is not lost."""

from __future__ import annotations

from pgflow_cli.repository import Database as Settings
from pgflow_cli.repository import Listener
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
