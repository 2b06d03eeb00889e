"""The systemd units load, are closed, and run what pgflow takes."""

from __future__ import annotations

import shlex
import subprocess
from pathlib import Path

import pytest

from tests.support.deployment import UNITS, parse, unit
from tests.support.tools import needs_tool

SERVICES = [path for path in UNITS if path.suffix == ".service"]
TIMERS = [path for path in UNITS if path.suffix == ".timer"]


def values(path: Path, key: str) -> list[str]:
    return [value for found, value in unit(path) if found == key]


def arguments(path: Path) -> list[str]:
    [line] = values(path, "ExecStart")
    program, *words = shlex.split(line.replace("%i", "emails"))
    assert program == "/usr/bin/pgflow"
    return words


def analyze(*words: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [needs_tool("systemd-analyze"), *map(str, words)],
        capture_output=True,
        text=True,
        check=False,
    )


def installed(folder: Path, spoilt: str = "") -> list[Path]:
    """Copy the units as on a host that has pgflow; of the template, an instance."""
    program = folder / "pgflow"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    copies = []
    for path in UNITS:
        text = path.read_text(encoding="utf-8").replace("/usr/bin/pgflow", str(program))
        copy = folder / path.name.replace("@.", "@emails.")
        copy.write_text(text.replace("[Service]", f"[Service]\n{spoilt}"))
        copies.append(copy)
    return copies


def test_systemd_loads_every_unit_without_a_word(tmp_path: Path) -> None:
    done = analyze("verify", "--man=no", *installed(tmp_path))
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_systemd_would_complain_of_a_wrong_one(tmp_path: Path) -> None:
    done = analyze("verify", "--man=no", *installed(tmp_path, "KilMode=mixed"))
    assert "KilMode" in done.stderr


@pytest.mark.parametrize("path", TIMERS, ids=lambda path: path.name)
def test_a_timer_has_a_calendar_and_a_service(path: Path) -> None:
    [when] = values(path, "OnCalendar")
    done = analyze("calendar", when)
    assert done.returncode == 0, done.stderr
    assert "Next elapse" in done.stdout
    assert values(path, "Persistent") == ["true"]
    assert path.with_suffix(".service") in SERVICES


@pytest.mark.parametrize("path", SERVICES, ids=lambda path: path.name)
def test_a_service_is_closed(path: Path, tmp_path: Path) -> None:
    """As systemd counts it: 0 is closed, 10 is as open as a shell of root."""
    names = [copy for copy in installed(tmp_path) if copy.suffix == ".service"]
    copy = next(c for c in names if c.name == path.name.replace("@.", "@emails."))
    done = analyze("security", "--offline=yes", "--threshold=20", copy)
    assert done.returncode == 0, done.stdout
    assert values(path, "DynamicUser") == ["yes"]
    assert values(path, "ProtectSystem") == ["strict"]
    assert values(path, "NoNewPrivileges") == ["yes"]


@pytest.mark.parametrize("path", SERVICES, ids=lambda path: path.name)
def test_a_secret_comes_as_a_credential(path: Path) -> None:
    lent = {value.partition(":")[0] for value in values(path, "LoadCredential")}
    read = dict(value.split("=", 1) for value in values(path, "Environment"))
    assert {f"%d/{name}" for name in lent} == set(read.values())
    assert "DATABASE_URL_FILE" in read
    assert all(name.endswith("_FILE") for name in read)


@pytest.mark.parametrize("path", SERVICES, ids=lambda path: path.name)
def test_a_service_runs_a_command_that_pgflow_takes(path: Path) -> None:
    parse(arguments(path))


def test_a_worker_gets_the_time_it_needs_to_start_and_to_end() -> None:
    [path] = [p for p in SERVICES if p.name.startswith("pgflow-worker")]
    taken = parse(arguments(path))
    assert taken.params["queue"] == ("emails",)
    assert values(path, "Type") == ["notify"]
    assert values(path, "NotifyAccess") == ["main"]
    # Alone: worker processes end when their supervisor says so.
    assert values(path, "KillMode") == ["mixed"]
    assert values(path, "TimeoutStartSec") == ["infinity"]
    [grace] = values(path, "TimeoutStopSec")
    assert int(grace) > taken.params["shutdown_timeout"] + 10


def test_a_pass_of_upkeep_ends_itself_first() -> None:
    [path] = [p for p in SERVICES if p.name == "pgflow-maintain.service"]
    assert values(path, "TimeoutStartSec") == ["5min"]
    assert parse(arguments(path)).params["max_runtime"] < 300
    # Another one maintains: nobody needs to be woken.
    assert values(path, "SuccessExitStatus") == ["75"]
