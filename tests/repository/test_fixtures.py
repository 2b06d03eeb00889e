def test_a_test_has_a_migrated_database_of_its_own(database, connection, wait_until):
    assert connection.execute("select count(*) from pgflow.jobs").fetchone() == (0,)
    connection.execute("insert into pgflow.queue_ranks values ('emails', 0)")
    assert wait_until(
        lambda: connection.execute("select queue from pgflow.queue_ranks").fetchone(),
        "the row is seen",
    )


def test_another_test_sees_nothing_of_it(connection, repository):
    found = connection.execute("select count(*) from pgflow.queue_ranks").fetchone()
    assert found == (0,)
    assert repository.link.raw().info.dbname.startswith("pgflow_test_")
