"""What holds for everything around pgflow: names of variables, scripts of shells."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from pgflow_cli.cli import settings
from tests.support.deployment import OF_OTHERS, TREE, named_in_environments
from tests.support.tools import needs_tool

NAMED = sorted(set(named_in_environments()))


def scripts() -> list[Path]:
    """Return every file of the tree that a shell would run."""
    ignored = {".git", ".venv", ".hypothesis", "build", "dist", "__pycache__"}
    found = []
    for path in sorted(TREE.rglob("*")):
        if ignored & set(path.relative_to(TREE).parts) or not path.is_file():
            continue
        with path.open("rb") as file:
            first = file.readline(80)
        if first.startswith(b"#!") and first.rstrip().endswith(b"sh"):
            found.append(path)
    return found


@pytest.mark.parametrize(("place", "name"), NAMED)
def test_every_variable_is_one_that_somebody_reads(place: str, name: str) -> None:
    assert name in settings.VARIABLES | OF_OTHERS, place


def test_every_kind_of_deployment_names_variables() -> None:
    assert {"DATABASE_URL", "DATABASE_URL_FILE"} <= {name for _, name in NAMED}
    assert len(NAMED) > 50


def test_shellcheck_has_nothing_to_say() -> None:
    found = scripts()
    assert TREE / ".ci" / "run" in found
    done = subprocess.run(
        [needs_tool("shellcheck"), "--norc", *map(str, found)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, "")
