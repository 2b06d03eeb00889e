"""What is installed is what the tree holds."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tarfile
import tomllib
import venv
import zipfile
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
from build import ProjectBuilder
from packaging.requirements import Requirement
from pyproject_hooks import quiet_subprocess_runner

TREE = Path(__file__).resolve().parents[2]


def build(source: Path, target: Path, kind: str = "wheel") -> Path:
    """Build with what `pyproject.toml` asks for, which is installed here."""
    builder = ProjectBuilder(source, runner=quiet_subprocess_runner)
    assert builder.check_dependencies(kind) == set()
    return Path(builder.build(kind, target))


# The filter of members came with Python 3.11.4.
SAFELY: dict[str, Any] = {"filter": "data"} if hasattr(tarfile, "data_filter") else {}


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the wheel of the tree, and the wheel of the sdist."""
    target = tmp_path_factory.mktemp("dist")
    build(TREE, target / "tree")
    sdist = build(TREE, target, "sdist")
    with tarfile.open(sdist) as packed:
        packed.extractall(target, **SAFELY)  # noqa: S202 - we have just built it
    build(target / sdist.name.removesuffix(".tar.gz"), target / "again")
    return target


def files(wheel_folder: Path) -> dict[str, bytes]:
    """Return the wheel's files by name, without its record of them."""
    (path,) = wheel_folder.glob("*.whl")
    with zipfile.ZipFile(path) as wheel:
        names = [n for n in wheel.namelist() if not n.endswith("/RECORD")]
        return {name: wheel.read(name) for name in names}


def tree_files(folder: str, suffix: str) -> dict[str, bytes]:
    paths = (TREE / folder).rglob(f"*{suffix}")
    return {
        str(path.relative_to(TREE)): path.read_bytes()
        for path in paths
        if path.is_file()
    }


def test_a_wheel_has_the_same_sql_files_as_the_tree(built: Path) -> None:
    packaged = {n: c for n, c in files(built / "tree").items() if n.endswith(".sql")}
    wanted = {f"pgflow_cli/{n}": c for n, c in tree_files("sql", ".sql").items()}
    assert packaged == wanted


@pytest.mark.parametrize("folder", ["templates", "static"])
def test_a_wheel_has_what_the_page_is_made_of(built: Path, folder: str) -> None:
    place = f"pgflow_cli/admin/{folder}"
    packaged = {n: c for n, c in files(built / "tree").items() if n.startswith(place)}
    assert packaged == tree_files(place, "")
    assert packaged


def test_a_wheel_has_every_module_and_nothing_else(built: Path) -> None:
    packaged = {n for n in files(built / "tree") if n.endswith(".py")}
    assert packaged == set(tree_files("pgflow_cli", ".py"))
    others = {n.split("/")[0] for n in files(built / "tree")}
    assert others == {"pgflow_cli", *(n for n in others if n.endswith(".dist-info"))}


def test_the_sdist_builds_the_same_wheel(built: Path) -> None:
    assert files(built / "again") == files(built / "tree")


def test_a_wheel_has_every_other_file_of_the_package(built: Path) -> None:
    """Templates, scripts, styles: hatchling leaves out what git ignores."""
    packaged = files(built / "tree")
    wanted = {
        name: content
        for name, content in tree_files("pgflow_cli", "").items()
        if "__pycache__" not in name
    }
    assert wanted.items() <= packaged.items()


@pytest.fixture(scope="module")
def installed(built: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The programs of a fresh environment that has the wheel and what it requires, and
    no tree.
    """
    folder = tmp_path_factory.mktemp("fresh") / "venv"
    venv.create(folder)
    (wheel,) = (built / "tree").glob("*.whl")
    scripts = folder / "bin"
    subprocess.run(
        [
            *(sys.executable, "-m", "pip", "--python", str(scripts / "python")),
            *("install", "-q", "--no-index", "--no-deps", str(wheel)),
        ],
        check=True,
        capture_output=True,
    )
    (site,) = folder.glob("lib/python*/site-packages")
    (ours,) = metadata.distributions(name="pgflow", path=[str(site)])
    for distribution in required(ours):
        for top in {file.parts[0] for file in distribution.files or ()}:
            if top != ".." and not (site / top).exists():
                (site / top).symlink_to(Path(str(distribution.locate_file(top))))
    return scripts


def required(distribution: metadata.Distribution) -> Iterator[metadata.Distribution]:
    """Yield what it requires, and what those require, as they are installed here."""
    waiting = [(text, "") for text in distribution.requires or ()]
    known = set(waiting)
    while waiting:
        text, extra = waiting.pop()
        requirement = Requirement(text)
        if requirement.marker and not requirement.marker.evaluate({"extra": extra}):
            continue
        found = metadata.distribution(requirement.name)
        assert requirement.specifier.contains(found.version)
        yield found
        more = {
            (each, wanted)
            for each in found.requires or ()
            for wanted in ("", *requirement.extras)
        }
        waiting += more - known
        known |= more


def fresh(
    scripts: Path, *words: str, **variables: str
) -> subprocess.CompletedProcess[str]:
    """Run a program of the environment as in the image: nothing else is known."""
    clean = {n: v for n, v in os.environ.items() if n not in ("PYTHONPATH", "PATH")}
    return subprocess.run(
        [scripts / words[0], *words[1:]],
        capture_output=True,
        text=True,
        check=False,
        env={**clean, **variables},
    )


def test_an_installed_wheel_has_every_file_of_the_wheel(
    built: Path, installed: Path
) -> None:
    said = "import pgflow_cli; print(*pgflow_cli.__path__)"
    (folder,) = fresh(installed, "python", "-c", said).stdout.split()
    packaged = {n: c for n, c in files(built / "tree").items() if "dist-info" not in n}
    root = Path(folder).parent
    assert {name: (root / name).read_bytes() for name in packaged} == packaged


def test_the_executable_of_a_wheel_answers_in_a_fresh_environment(
    installed: Path,
) -> None:
    done = fresh(installed, "pgflow", "--help")
    assert (done.returncode, "Usage: pgflow" in done.stdout) == (0, True)
    root = "from pgflow_cli.repository import sqlfiles; print(sqlfiles.root())"
    told = fresh(installed, "python", "-c", root)
    assert Path(told.stdout.strip()).parts[-2:] == ("pgflow_cli", "sql")


def test_it_says_which_version_it_is_without_a_database(installed: Path) -> None:
    done = fresh(installed, "pgflow", "version", "-o", "json")
    assert done.returncode == 0, done.stderr
    project = tomllib.loads((TREE / "pyproject.toml").read_text())["project"]
    assert json.loads(done.stdout)["pgflow"] == project["version"]


@pytest.mark.parametrize(
    ("words", "url", "code"),
    [
        ((), "", 5),  # no worker has written a status here
        (("--worker",), "", 5),
        (("--ready",), "", 78),  # no database is named
        (("--ready",), "postgres://postgres@127.0.0.1:1/nowhere", 69),
        (("--url", "http://127.0.0.1:1/health"), "", 69),
    ],
)
def test_what_probes_run_ends_with_the_documented_code(
    words: tuple[str, ...], url: str, code: int, installed: Path, tmp_path: Path
) -> None:
    done = fresh(
        installed, "pgflow", "health", *words, DATABASE_URL=url, TMPDIR=str(tmp_path)
    )
    assert done.returncode == code, done.stderr
