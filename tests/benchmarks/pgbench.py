"""Lets pgbench send the settle-and-lease statement, so that a worker can be held
against it.

The statement is the worker's own text. Only its last part is folded into one row,
because pgbench's `\\gset` takes one row: the jobs' payloads are still read, and the
next turn settles what this one leased.
"""

from __future__ import annotations

import re
import subprocess
import tempfile
import uuid
from pathlib import Path

from pgflow_cli.repository import sqlfiles

_LAST_PART = re.compile(r"\nselect\n\s+null::uuid::text as lease_id.*", re.DOTALL)
_FOLDED = """
select
  coalesce('{' || max(leased.lease_id::text) || '}', '{}') as fence_ids,
  coalesce('{' || max(leased.lease_id::text) || '}', '{}') as closed_ids,
  '{' || coalesce(string_agg(leased.lease_id::text, ','), '') || '}' as lease_ids,
  '{' || coalesce(
    string_agg(taken.job_id::text, ',' order by rank, run_at, job_id), ''
  ) || '}' as job_ids,
  '{' || coalesce(string_agg((taken.attempt_no + 1)::text, ','), '') || '}'
    as attempt_nos,
  '{' || coalesce(string_agg('0.002', ','), '') || '}' as started_ago,
  '{' || coalesce(string_agg('0.001', ','), '') || '}' as ended_ago,
  case when count(*) > 0 then '{default}' else '{}' end as cursor_queues,
  case when count(*) > 0 then '{0}' else '{}' end as cursor_ranks,
  coalesce('{"' || max(taken.run_at)::text || '"}', '{}') as cursor_run_ats,
  coalesce(
    '{' || (array_agg(taken.job_id order by rank, run_at, job_id))[count(*)] || '}',
    '{}'
  ) as cursor_job_ids,
  sum(length(job.payload)) as bytes, (select count(*) from refused) as refused,
  -- Else the leases would stay.
  (select count(*) from finished) as finished
from taken
join leased using (queue)
cross join lateral (
  select payload::text from pgflow.jobs where id = taken.job_id offset 0
) as job
"""


def script(batch: int, job_types: str) -> str:
    """Return a pgbench script of one turn."""
    statement = sqlfiles.statement("settle_and_lease")
    text = _LAST_PART.sub(_FOLDED, statement.text.decode())
    constant = {
        "worker_id": f"'{uuid.uuid4()}'",
        "worker_name": "'pgbench'",
        "code_version": "null",
        "others": "'[]'",
        "queues": "'{default}'",
        "last_queue": "''",
        "job_types": f"'{job_types}'",
        "room": str(batch),
        "batch_id": f"'{uuid.uuid4()}'",
        "lease_seconds": "60.0",
    }
    names = statement.parameters

    def name(match: re.Match[str]) -> str:
        given = names[int(match[1]) - 1]
        return constant.get(given, f":{given}")

    return re.sub(r"\$(\d+)", name, text) + "\\gset\n"


def drain(binaries: str, url: str, *, jobs: int, batch: int, clients: int) -> float:
    """Return jobs per second of pgbench clients that lease and settle; the jobs must be
    there.
    """
    turns = jobs // (batch * clients)
    kept = (
        "fence_ids closed_ids lease_ids job_ids attempt_nos started_ago ended_ago"
        " cursor_queues cursor_ranks cursor_run_ats cursor_job_ids"
    )
    variables = [f"-D{name}={{}}" for name in kept.split()]
    with tempfile.NamedTemporaryFile("w", suffix=".sql") as file:
        file.write(script(batch, "{noop}"))
        file.flush()
        command = [
            str(Path(binaries) / "pgbench"),
            "-n",
            "-M",
            "prepared",
            "-f",
            file.name,
        ]
        command += ["-c", str(clients), "-j", str(min(clients, 2)), "-t", str(turns)]
        command += [*variables, url]
        options = "-c plan_cache_mode=force_generic_plan -c enable_seqscan=off"
        done = subprocess.run(
            command, env={"PGOPTIONS": options, "PATH": "/usr/bin:/bin"},
            capture_output=True, encoding="utf-8", check=False,
        )  # fmt: skip
    assert done.returncode == 0, done.stderr
    rate = re.search(r"^tps = ([\d.]+)", done.stdout, re.MULTILINE)
    assert rate is not None, done.stdout + done.stderr
    return float(rate[1]) * batch
