"""The image: what goes in, what it is told, and that its parts fit each other."""

from __future__ import annotations

import re
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest

from tests.support.deployment import TREE, compose, parse
from tests.support.tools import needs_tool
from tests.unit.test_packaging import build, files

DOCKERFILE = TREE / "docker" / "Dockerfile"
# A line that ends in a backslash goes on in the next.
INSTRUCTIONS = [
    tuple(line.split(maxsplit=1))
    for line in re.sub(r"\s*\\\n\s*", " ", DOCKERFILE.read_text()).splitlines()
    if line and not line.startswith("#")
]


def told(instruction: str) -> list[str]:
    return [words for name, words in INSTRUCTIONS if name == instruction]


def quoted(words: str) -> list[str]:
    """Return the words of an instruction's JSON form."""
    return re.findall(r'"([^"]*)"', words)


def context(target: Path) -> Path:
    """Copy what .dockerignore lets through and the Dockerfile takes."""
    lines = (TREE / ".dockerignore").read_text(encoding="utf-8").splitlines()
    assert [line for line in lines if line and line[0] not in "#!"] == [
        "*",
        "**/__pycache__",
    ]
    let_through = {line[1:] for line in lines if line.startswith("!")}
    target.mkdir()
    for words in told("COPY"):
        *sources, to = words.split()
        if sources[0].startswith("--from"):
            continue
        assert set(sources) <= let_through, "the build would not find it"
        for source in sources:
            if (TREE / source).is_dir():
                ignored = shutil.ignore_patterns("__pycache__")
                shutil.copytree(TREE / source, target / to, ignore=ignored)
            else:
                shutil.copy(TREE / source, target / to)
    return target


def test_hadolint_has_nothing_to_say() -> None:
    done = subprocess.run(
        [needs_tool("hadolint"), "--failure-threshold", "style", str(DOCKERFILE)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, "")


def test_the_wheel_of_the_build_context_is_the_wheel_of_the_tree(
    tmp_path: Path,
) -> None:
    build(context(tmp_path / "context"), tmp_path / "image")
    build(TREE, tmp_path / "tree")
    assert files(tmp_path / "image") == files(tmp_path / "tree")


def test_no_secret_and_no_backup_can_get_into_the_image(tmp_path: Path) -> None:
    sent = {path.name for path in context(tmp_path / "context").iterdir()}
    assert sent == {"pyproject.toml", "README.md", "pgflow_cli", "sql"}


def test_pg_dump_is_of_the_version_of_the_database() -> None:
    """An older one refuses, and a newer one writes what the older cannot restore."""
    [installed] = re.findall(r"postgresql-client-(\d+)", DOCKERFILE.read_text())
    assert compose()["services"]["db"]["image"] == f"postgres:{installed}"


def test_it_says_which_version_it_is() -> None:
    project = tomllib.loads((TREE / "pyproject.toml").read_text())["project"]
    assert f"VERSION={project['version']}" in told("ARG")
    [labels] = told("LABEL")
    assert f'description="{project["description"]}"' in labels
    assert f'licenses="{project["license"]}"' in labels


def test_it_runs_as_nobody_in_particular() -> None:
    [user] = told("USER")
    # A number: Kubernetes cannot tell from a name that it is not root.
    assert re.fullmatch(r"[1-9]\d{3,}:[1-9]\d{3,}", user)
    names = [name for name, _ in INSTRUCTIONS]
    assert "RUN" not in names[names.index("USER") :]


@pytest.mark.parametrize("instruction", ["CMD", "HEALTHCHECK"])
def test_what_it_starts_is_a_command_of_pgflow(instruction: str) -> None:
    [entry] = told("ENTRYPOINT")
    assert quoted(entry) == ["tini", "--", "pgflow"]
    [words] = told(instruction)
    arguments = quoted(words)
    if instruction == "HEALTHCHECK":
        assert arguments.pop(0) == "pgflow"
    parse(arguments)
