"""Throw-away environments of the peers, one folder each."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.benchmarks.peers.catalog import Peer
from tests.benchmarks.peers.protocol import PROGRAMS, PeerFailed, last_words

PLACE = Path.home() / ".cache" / "pgflow-bench"
LONGEST_INSTALLATION = 600.0  # seconds


@contextmanager
def environments(*, keep: bool) -> Iterator[Path]:
    """Yield a folder for environments; it goes with the block, unless it is kept."""
    PLACE.mkdir(parents=True, exist_ok=True)
    if keep:
        kept = PLACE / "kept"
        kept.mkdir(exist_ok=True)
        yield kept
        return
    with tempfile.TemporaryDirectory(prefix="run-", dir=PLACE) as folder:
        yield Path(folder)
    if not any(PLACE.iterdir()):
        PLACE.rmdir()


def install(peer: Peer, place: Path) -> Path:
    """Install a peer, if that has not been done, and return its environment.

    Raises PeerFailed with the installer's last words.
    """
    if peer.missing:
        raise PeerFailed(peer.missing)
    folder = place / f"{peer.name}-{peer.version.replace(' ', '-')}"
    stamp = folder / "installed.json"
    wanted = json.dumps(peer.requirements)
    if not stamp.exists() or stamp.read_text() != wanted:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        for command in _commands(peer, folder):
            _run(command, folder)
        stamp.write_text(wanted)
    if peer.is_node:
        # Node looks for modules beside the program.
        for name in (peer.program, "node_side.mjs"):
            shutil.copy(PROGRAMS / name, folder / name)
    return folder


def _commands(peer: Peer, folder: Path) -> list[list[str]]:
    if not peer.requirements:
        return []
    if peer.is_node:
        (folder / "package.json").write_text('{"private": true}')
        return [["npm", "install", "--no-audit", "--no-fund", *peer.requirements]]
    pip = [str(folder / "venv/bin/python"), "-m", "pip", "install", "-q"]
    return [[sys.executable, "-m", "venv", str(folder / "venv")],
            [*pip, *peer.requirements]]  # fmt: skip


def _run(command: list[str], folder: Path) -> None:
    try:
        done = subprocess.run(
            command,
            cwd=folder,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            encoding="utf-8",
            timeout=LONGEST_INSTALLATION,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise PeerFailed(f"not installed: {error}") from None
    if done.returncode:
        raise PeerFailed(f"not installed: {last_words(done.stderr)}")
