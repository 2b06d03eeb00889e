"""A file of 20,000 jobs through the real executable."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import psutil
import psycopg

from tests.support.jobs import audit
from tests.support.servers import Database

Connection = psycopg.Connection[Any]
LINES = 20_000


def test_twenty_thousand_lines_are_enqueued_with_flat_memory(
    database: Database, connection: Connection, tmp_path: Path
) -> None:
    file = tmp_path / "jobs.jsonl"
    with file.open("w") as lines:
        for n in range(LINES):
            body = {
                "job_type": f"type{n % 7}",
                "payload_json": {"n": n, "x": "y" * 500},
            }
            lines.write(json.dumps(body) + "\n")
    ended = subprocess.Popen(
        [
            str(Path(sys.executable).with_name("pgflow")),
            "enqueue",
            "--batch",
            str(file),
        ],
        env={**os.environ, "DATABASE_URL": database.url},
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    process = psutil.Process(ended.pid)
    peak = 0
    while ended.poll() is None:
        try:
            peak = max(peak, process.memory_info().rss)
        except psutil.NoSuchProcess:
            break
    _, words = ended.communicate(timeout=60)
    assert ended.returncode == 0, words
    assert "enqueued 20,000 jobs" in words
    row = connection.execute(
        "select count(*), count(distinct payload->'n'), count(distinct jobs.job_type)"
        " from pgflow.jobs join pgflow.pending on job_id = id"
    ).fetchone()
    assert row == (LINES, LINES, 7)
    assert audit(connection) == (0, 0)
    # 12 MB of lines pass through; the interpreter and the driver take the rest.
    assert peak < 120 * 1024 * 1024
