"""The files beside a backup: its manifest FILE.json, and its checksums FILE.sha256."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

from pgflow_cli.errors import NotFound, Refused
from pgflow_cli.models.backups import Manifest

_CHUNK = 1 << 20


def manifest_path(path: Path) -> Path:
    """Return the path of a backup's manifest."""
    return path.with_name(f"{path.name}.json")


def sums_path(path: Path) -> Path:
    """Return the path of a backup's checksums."""
    return path.with_name(f"{path.name}.sha256")


def read(path: Path) -> Manifest | None:
    """Return the manifest of a backup, None if there is none.

    Raises `Refused` if it is not one.
    """
    try:
        document = json.loads(manifest_path(path).read_text(encoding="utf-8"))
        return Manifest(
            **{field.name: document[field.name] for field in fields(Manifest)}
        )
    except FileNotFoundError:
        return None
    except (ValueError, TypeError, KeyError):
        raise Refused(
            f"{manifest_path(path)} is not the manifest of a backup",
            "Without it nothing is compared: move it away.",
            reason_code="BAD_MANIFEST",
        ) from None


def list_manifests(folder: Path) -> Iterator[tuple[Path, Manifest]]:
    """Yield the backups of a folder that have a manifest."""
    for found in sorted(folder.glob("*.json")):
        path = found.with_name(found.name.removesuffix(".json"))
        try:
            manifest = read(path)
        except Refused:
            continue  # a file of another program
        if manifest is not None and path.exists():
            yield path, manifest


def sums(path: Path, advance: Callable[[int], None] = lambda _: None) -> str:
    """Return the checksums of a backup, a line for each of its files."""
    files = sorted(path.iterdir()) if path.is_dir() else [path]
    return "".join(
        f"{sha256(file, advance)}  {file.relative_to(path.parent)}\n" for file in files
    )


def sum_of(text: str, *, directory: bool) -> str:
    """Return the checksum for a manifest: that of the file, or of the whole list."""
    if directory:
        return hashlib.sha256(text.encode()).hexdigest()
    return text.split(maxsplit=1)[0]


def sha256(path: Path, advance: Callable[[int], None] = lambda _: None) -> str:
    """Return the SHA-256 of a file; `advance` is called with the number of bytes
    read.
    """
    hashed = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            hashed.update(chunk)
            advance(len(chunk))
    return hashed.hexdigest()


def size(path: Path) -> int:
    """Return how many bytes a backup has."""
    files = path.iterdir() if path.is_dir() else [path]
    return sum(file.stat().st_size for file in files)


def check(
    path: Path, advance: Callable[[int], None] = lambda _: None
) -> Manifest | None:
    """Compare a backup with its checksums and manifest; return the manifest, if there
    is one.

    Raises `Refused` where they differ, `NotFound` where there is no backup.
    """
    if not path.exists():
        raise NotFound(f"there is no {path}")
    manifest = read(path)
    listed = sums_path(path)
    if manifest is None and not listed.exists():
        return None
    found = sums(path, advance)
    if listed.exists() and _hashes(listed.read_text(encoding="utf-8")) != _hashes(
        found
    ):
        raise _mismatch(path, listed)
    if manifest and manifest.sha256 != sum_of(found, directory=path.is_dir()):
        raise _mismatch(path, manifest_path(path))
    return manifest


def _hashes(text: str) -> dict[str, str]:
    """Return the hash of each file by its last name: a backup may have moved."""
    lines: Any = (line.split(maxsplit=1) for line in text.splitlines() if line.strip())
    return {Path(words[-1].lstrip("*")).name: words[0] for words in lines}


def _mismatch(path: Path, beside: Path) -> Refused:
    return Refused(
        f"{path} is not what {beside.name} says; nothing was changed",
        "It was changed or damaged since it was written: take another backup.",
        reason_code="CHECKSUM_MISMATCH",
    )
