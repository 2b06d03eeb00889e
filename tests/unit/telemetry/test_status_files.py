"""Status files: what a worker writes of itself, and what a probe makes of it."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass, replace

import pytest

from pgflow_cli.errors import CheckFailed
from pgflow_cli.inspection.health import check_worker
from pgflow_cli.telemetry.status_files import Status, StatusFile, folders, read_all

WELL = Status("worker-1", 7, 1, turned_ago=0.1, heard_ago=3.0)


def test_a_worker_that_leases_nothing_though_jobs_wait_is_not_ready(tmp_path):
    StatusFile("w", [tmp_path]).write([Liveness()], stalled_for=35.0)
    [status] = read_all([tmp_path])
    told = status.problem(max_age=60, ready=True)
    assert told == "w has leased nothing for 35 s, though due jobs wait that it may run"
    assert status.problem(max_age=60, ready=False) is None, "its loop turns"


def test_a_quiet_worker_is_well_and_said_to_be_quiet(tmp_path):
    StatusFile("w", [tmp_path]).write([Liveness(), Liveness()], quiet=1)
    said = check_worker([tmp_path], "w", max_age=60, ready=True)
    assert said == "w (1 of 2 processes quiet: pgflow workers resume w): ok"


@dataclass
class Liveness:
    turned: float = 0.0
    renewed: float = 0.0

    def turned_at(self):
        return time.monotonic() - self.turned

    def renewed_at(self):
        return time.monotonic() - self.renewed


def test_the_slowest_process_speaks_for_the_worker(tmp_path):
    file = StatusFile("worker-1", [tmp_path / "a"])
    file.write([Liveness(turned=1, renewed=2), Liveness(turned=50, renewed=1)])
    [status] = read_all([tmp_path / "a"])
    assert (status.name, status.pid, status.processes) == ("worker-1", os.getpid(), 2)
    assert status.turned_ago == pytest.approx(50, abs=1)
    assert status.heard_ago == pytest.approx(2, abs=1)
    file.remove()
    assert read_all([tmp_path / "a"]) == []


def test_it_is_written_once_a_second_at_most(tmp_path):
    file = StatusFile("w", [tmp_path])
    file.write([])
    file.write([Liveness()])
    assert read_all([tmp_path])[0].processes == 0


def test_the_next_folder_is_taken_where_the_first_cannot_be_made(tmp_path):
    blocked = tmp_path / "file"
    blocked.touch()
    StatusFile("w", [blocked / "under", tmp_path / "b"]).write([])
    assert [status.name for status in read_all([tmp_path / "b"])] == ["w"]
    StatusFile("w", [blocked / "under"]).write([])


def test_a_name_cannot_leave_its_folder(tmp_path):
    StatusFile("../../evil:1", [tmp_path / "a"]).write([])
    assert [path.parent for path in tmp_path.rglob("*.json")] == [tmp_path / "a"]


def test_what_is_no_status_is_passed_over(tmp_path):
    (tmp_path / "a.json").write_text("{")
    (tmp_path / "b.json").write_text("[1]")
    (tmp_path / "c.json").write_text('{"name": "x"}')
    assert read_all([tmp_path, tmp_path / "missing"]) == []


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({}, None),
        ({"age": 61.0}, "has not written"),
        ({"turned_ago": 60.5}, "stands still"),
        ({"turned_ago": 30.0, "age": 31.0}, "stands still"),
        ({"heard_ago": 90.0}, "has not answered"),
        ({"heard_ago": None, "turned_ago": None}, "no process"),
        ({"turned_ago": None, "restarting": 2}, ": 2 ended and start again"),
        ({"heard_ago": None}, "has answered no heartbeat"),
    ],
)
def test_each_trouble_is_named(change, word):
    problem = replace(WELL, **change).problem(max_age=60, ready=True)
    assert problem is None if word is None else word in problem


def test_without_ready_the_database_does_not_matter():
    assert replace(WELL, heard_ago=900.0).problem(max_age=60, ready=False) is None


def test_the_folders_are_the_state_folder_and_the_temporary_one(tmp_path):
    first, second = folders(str(tmp_path))
    assert first == tmp_path / "pgflow" / "workers"
    assert str(os.getuid()) in second.name


def test_one_that_is_not_well_is_told_of_beside_one_that_is_for_ten_minutes(tmp_path):
    StatusFile("old", [tmp_path]).write([])
    StatusFile("new", [tmp_path]).write([Liveness()])
    stopped = time.time() - 500
    os.utime(tmp_path / "old.json", (stopped, stopped))
    said = check_worker([tmp_path], None, max_age=60, ready=True)
    assert said.startswith("new: ok; old has not written its status for 50")
    stopped -= 101
    os.utime(tmp_path / "old.json", (stopped, stopped))
    assert check_worker([tmp_path], None, max_age=60, ready=True) == "new: ok"


def test_one_worker_that_is_well_covers_for_those_that_were_killed(tmp_path):
    StatusFile("old", [tmp_path]).write([])
    os.utime(tmp_path / "old.json", (1, 1))
    with pytest.raises(CheckFailed, match="old has not written"):
        check_worker([tmp_path], None, max_age=60, ready=False)
    StatusFile("new", [tmp_path]).write([Liveness()])
    assert check_worker([tmp_path], None, max_age=60, ready=True) == "new: ok"
    with pytest.raises(CheckFailed, match="old"):
        check_worker([tmp_path], "old", max_age=60, ready=False)
    with pytest.raises(CheckFailed, match="no worker other"):
        check_worker([tmp_path], "other", max_age=60, ready=False)
