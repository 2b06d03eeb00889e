"""objects.txt lists what each version of the schema consists of."""

from __future__ import annotations

from pgflow_cli.maintenance import migrations
from pgflow_cli.repository import Database as DatabaseSettings
from pgflow_cli.repository import Repository, sqlfiles
from tests.support.servers import Database


def test_the_list_is_what_the_migrations_make(empty_database: Database) -> None:
    """To renew it: put what this says into sql/objects.txt."""
    repository = Repository.of(DatabaseSettings(empty_database.url))
    since: dict[str, int] = {}
    until: dict[str, int] = {}
    for version in range(1, sqlfiles.latest_version() + 1):
        migrations.migrate(repository, target=version)
        rows = repository.link.tuples("list_schema_objects")
        found = {f"{kind} {name}" for kind, name, _ in rows}
        until |= dict.fromkeys(since.keys() - until - found, version - 1)
        assert not found & until.keys(), "the list has one line for an object"
        since |= dict.fromkeys(found - since.keys(), version)
        assert set(sqlfiles.objects(version)) == found, version
    repository.close()
    lines = [f"{v} {until.get(each, '-')} {each}" for each, v in since.items()]
    path = sqlfiles.root() / "objects.txt"
    listed = path.read_text(encoding="utf-8").splitlines()
    assert [line for line in listed if not line.startswith("--")] == sorted(
        lines, key=lambda line: (int(line.split()[0]), line)
    )
