"""What is installed is what the tree holds."""

from __future__ import annotations

import os
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest

TREE = Path(__file__).resolve().parents[2]


def build(source: Path, target: Path, *kinds: str) -> None:
    subprocess.run(
        [sys.executable, "-m", "build", *kinds, "--outdir", str(target), str(source)],
        check=True,
        capture_output=True,
    )


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the wheel of the tree, and the wheel of the sdist."""
    target = tmp_path_factory.mktemp("dist")
    build(TREE, target / "tree", "--wheel")
    build(TREE, target / "again")  # a wheel of the sdist, which `build` makes first
    return target


def files(wheel_folder: Path) -> dict[str, bytes]:
    """Return the wheel's files by name, without its record of them."""
    (path,) = wheel_folder.glob("*.whl")
    with zipfile.ZipFile(path) as wheel:
        names = [n for n in wheel.namelist() if not n.endswith("/RECORD")]
        return {name: wheel.read(name) for name in names}


def tree_files(folder: str, suffix: str) -> dict[str, bytes]:
    paths = (TREE / folder).rglob(f"*{suffix}")
    return {str(path.relative_to(TREE)): path.read_bytes() for path in paths}


def test_a_wheel_has_the_same_sql_files_as_the_tree(built: Path) -> None:
    packaged = {n: c for n, c in files(built / "tree").items() if n.endswith(".sql")}
    wanted = {f"pgflow_cli/{n}": c for n, c in tree_files("sql", ".sql").items()}
    assert packaged == wanted


def test_a_wheel_has_every_module_and_nothing_else(built: Path) -> None:
    packaged = {n for n in files(built / "tree") if n.endswith(".py")}
    assert packaged == set(tree_files("pgflow_cli", ".py"))
    others = {n.split("/")[0] for n in files(built / "tree")}
    assert others == {"pgflow_cli", *(n for n in others if n.endswith(".dist-info"))}


def test_the_sdist_builds_the_same_wheel(built: Path) -> None:
    assert files(built / "again") == files(built / "tree")


def test_the_executable_of_a_wheel_answers_in_a_fresh_environment(
    built: Path, tmp_path: Path
) -> None:
    venv.create(tmp_path / "venv", with_pip=True)
    (wheel,) = (built / "tree").glob("*.whl")
    scripts = tmp_path / "venv" / "bin"
    subprocess.run(
        [scripts / "pip", "install", "-q", wheel], check=True, capture_output=True
    )
    clean = {n: v for n, v in os.environ.items() if n not in ("PYTHONPATH", "PATH")}
    done = subprocess.run(
        [scripts / "pgflow", "--help"],
        capture_output=True,
        text=True,
        check=True,
        env=clean,
        cwd=tmp_path,
    )
    assert "Usage: pgflow" in done.stdout
    root = "from pgflow_cli import sqlfiles; print(sqlfiles.root())"
    told = subprocess.run(
        [scripts / "python", "-c", root], capture_output=True, text=True, check=True
    )
    assert Path(told.stdout.strip()).parts[-2:] == ("pgflow_cli", "sql")
