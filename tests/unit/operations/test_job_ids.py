"""Ids made by producers."""

from __future__ import annotations

import time
import uuid

from pgflow_cli.operations.enqueue import new_job_ids


def test_ids_are_version_7_of_now_and_ascend() -> None:
    before = time.time_ns() // 1_000_000
    ids = new_job_ids(5000)
    after = time.time_ns() // 1_000_000 + 2
    parsed = [uuid.UUID(job_id) for job_id in ids]
    assert {i.version for i in parsed} == {7}
    assert {i.variant for i in parsed} == {uuid.RFC_4122}
    assert all(before <= i.int >> 80 <= after for i in parsed)
    assert ids == sorted(ids)
    assert len(set(ids)) == 5000
