"""Arrays reach the server as they were given."""

from __future__ import annotations

import math
import uuid

import pytest

from pgflow_cli.repository import Repository, literals


@pytest.mark.parametrize("count", [0, 1, 3, 1000])
def test_a_binary_array_is_read_as_its_elements(
    repository: Repository, count: int
) -> None:
    ids = [str(uuid.UUID(int=n * 2**100 + n)) for n in range(count)]
    numbers = [n - 2**31 if n % 2 else n for n in range(count)]
    lengths = [n / 7 for n in range(count)]
    connection = repository.link.raw()
    found = connection.execute(
        "select %s::uuid[]::text[], %s::integer[], %s::float8[]",
        (literals.uuids(ids), literals.integers(numbers), literals.floats(lengths)),
    ).fetchone()
    assert found == (ids, numbers, lengths)


def test_numbers_without_end_keep_their_value(repository: Repository) -> None:
    given = [math.inf, -math.inf, 0.0, 1e308]
    connection = repository.link.raw()
    [found] = connection.execute(
        "select %s::float8[]", (literals.floats(given),)
    ).fetchone() or [None]
    assert found == given
