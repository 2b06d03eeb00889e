"""Fixtures of tests that go on over connections of their own."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import psycopg
import pytest

from tests.support.jobs import audit
from tests.support.servers import Database

Connection = psycopg.Connection[Any]


@pytest.fixture
def own(database: Database) -> Iterator[Connection]:
    """Hand out a connection as an application has one: not in autocommit mode."""
    with psycopg.connect(database.url) as made:
        yield made


@pytest.fixture
def every_job_in_one_place(connection: Connection) -> Iterator[None]:
    """Look at the end whether a job is in no table, or in two."""
    yield
    assert audit(connection) == (0, 0)
