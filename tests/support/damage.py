"""Damages pages of a server's files, as a disk does."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from pathlib import Path

import psycopg

from tests.support.private_servers import PrivateServer

PAGE = 8192


def damage(server: PrivateServer, *pages: tuple[str, int], zero: bool = False) -> None:
    """Write nonsense, or nothing but zeros, over pages: a relation and a block each."""
    with psycopg.connect(server.url, autocommit=True) as connection:
        connection.execute("checkpoint")
        files = [_file(connection, relation) for relation, _ in pages]
    server.stop("fast")
    data = server.folder / "data"
    for file, (_, block) in zip(files, pages, strict=True):
        with (data / file).open("r+b") as opened:
            assert opened.seek(0, 2) > PAGE * block, "there is such a page"
            opened.seek(PAGE * block)
            opened.write(b"\0" * PAGE if zero else b"\xee" * 24)
    # Fails if there are none: they are the default from PostgreSQL 18 on.
    subprocess.run(
        [server.binaries / "pg_checksums", "--disable", "-D", data],
        check=False,
        capture_output=True,
        cwd="/",
    )
    server.start()


def last_blocks(
    connection: psycopg.Connection, kind: str, schema: str = "pgflow"
) -> Sequence[tuple[str, int]]:
    """Return the last block of each table ('r') or index ('i') where there are rows."""
    return connection.execute(
        "select class.oid::regclass::text,"
        "  pg_relation_size(class.oid)::integer / 8192 - 1"
        " from pg_class as class"
        " left join pg_index as entry on entry.indexrelid = class.oid"
        " where class.relnamespace = %s::regnamespace and class.relkind = %s"
        "  and pg_relation_size(coalesce(entry.indrelid, class.oid)) > 0"
        " order by 1",
        (schema, kind),
    ).fetchall()


def _file(connection: psycopg.Connection, relation: str) -> Path:
    row = connection.execute(
        "select pg_relation_filepath(%s::regclass)", (relation,)
    ).fetchone()
    assert row is not None
    return Path(row[0])
