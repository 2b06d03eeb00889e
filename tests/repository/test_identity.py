"""Which database this is: what fences it, and what does not."""

from __future__ import annotations

import pytest

from pgflow_cli.repository import Database as DatabaseSettings
from pgflow_cli.repository import Repository


def test_a_migrated_database_is_not_fenced(repository):
    identity = repository.fence.read_identity()
    assert identity.reason is None
    assert not identity.fenced
    assert identity.recorded_system_identifier == identity.present_system_identifier
    assert identity.recorded_system_identifier is not None


def test_a_clone_is_fenced_until_its_identity_is_recorded(server, template):
    clone = server.create("pgflow_clone", template=template.name)
    repository = Repository.of(DatabaseSettings(clone.url))
    try:
        found = repository.fence.read_identity()
        assert found.fenced
        assert found.reason == "it is a copy of the database it was recorded in"
        epoch = repository.fence.record_identity()
        accepted = repository.fence.read_identity()
        assert not accepted.fenced
        assert accepted.epoch == epoch != found.epoch
    finally:
        repository.close()
        server.drop(clone)


@pytest.mark.parametrize(
    ("change", "fenced"),
    [
        ("system_identifier = system_identifier + 1", True),
        ("system_identifier = null", False),
        ("database_oid = 1", True),
        ("table_oid = 1", True),
        ("epoch = gen_random_uuid()", False),
    ],
)
def test_each_part_of_the_identity_fences(repository, connection, change, fenced):
    connection.execute(f"update pgflow.database_identity set {change}")
    assert repository.fence.read_identity().fenced is fenced


def test_a_database_without_a_recorded_identity_is_fenced(repository, connection):
    connection.execute("delete from pgflow.database_identity")
    assert repository.fence.read_identity().reason == "its identity is not recorded"
    assert repository.fence.raise_fence("because", fenced_by="me")
    assert repository.fence.read_identity().fence_reason == "because"


def test_the_fence_is_raised_by_the_first_who_sees(repository):
    seen = repository.fence.read_identity().epoch
    assert repository.fence.raise_fence("moved", fenced_by="a", seen_epoch=seen)
    assert not repository.fence.raise_fence("moved", fenced_by="b", seen_epoch=seen)
    found = repository.fence.read_identity()
    assert (found.reason, found.fenced_by) == ("moved", "a")


def test_an_acceptance_outruns_who_looked_before_it(repository):
    seen = repository.fence.read_identity().epoch
    repository.fence.record_identity()
    assert not repository.fence.raise_fence("moved", fenced_by="late", seen_epoch=seen)
    assert not repository.fence.read_identity().fenced


def test_the_fence_is_raised_anew_by_hand(repository):
    repository.fence.raise_fence("first", fenced_by="a")
    epoch = repository.fence.read_identity().epoch
    assert repository.fence.raise_fence("second", fenced_by="b")
    found = repository.fence.read_identity()
    assert found.reason == "second"
    assert found.epoch != epoch
