"""The repository loads a noun when it is first used."""

from __future__ import annotations

import re
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

from pgflow_cli import worker
from pgflow_cli.repository import Database, Repository
from pgflow_cli.repository.repository import NOUNS
from pgflow_cli.worker.worker import NOUNS as USED_BY_A_WORKER


@pytest.fixture
def repository() -> Repository:
    """One that connects to nothing, for nothing is asked of it."""
    return Repository.of(Database("postgresql://localhost/none"))


@pytest.mark.parametrize("noun", NOUNS)
def test_a_noun_is_the_module_of_its_name(repository: Repository, noun: str) -> None:
    module = import_module(f"pgflow_cli.repository.{noun}")
    found = getattr(repository, noun)
    assert type(found) is getattr(module, NOUNS[noun])
    assert getattr(repository, noun) is found


def test_what_is_no_noun_is_no_attribute(repository: Repository) -> None:
    with pytest.raises(AttributeError, match="the repository has no 'leasses'"):
        _ = repository.leasses  # type: ignore[attr-defined]


def test_a_worker_process_loads_at_its_start_what_it_will_use() -> None:
    """Later a handler may hold the import lock, or every descriptor."""
    folder = Path(worker.__file__).parent
    used = {
        noun
        for module in (folder / "worker.py", *(folder / "leasing").glob("*.py"))
        for noun in re.findall(
            r"(?:repository|enqueuer)\.(\w+)\.", module.read_text(encoding="utf-8")
        )
    }
    assert used - {"link"} == {*USED_BY_A_WORKER}


def test_a_command_loads_the_nouns_that_it_uses() -> None:
    program = """
import sys
from pgflow_cli.repository import Database, Repository
Repository.of(Database("postgresql://localhost/none")).load("audit")
print(*(name for name in sys.modules if name.startswith("pgflow_cli.")))
"""
    run = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    loaded = {
        name.removeprefix("pgflow_cli.repository.")
        for name in run.stdout.split()
        if name.startswith("pgflow_cli.repository.")
    }
    assert loaded & NOUNS.keys() == {"audit", "enqueue"}
