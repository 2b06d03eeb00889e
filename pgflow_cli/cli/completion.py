"""Names and ids that complete what is being typed; asked of the database.

A shell waits for this at every press of Tab: one second to connect, half a second for
the statement, half a minute in a file, and silence about whatever goes wrong.
"""

from __future__ import annotations

import hashlib
import json
import os
import shlex
import threading
import time
from contextlib import closing, suppress
from pathlib import Path

import click
from click.shell_completion import (
    CompletionItem,
    ShellComplete,
    add_completion_class,
    get_completion_class,
)

from pgflow_cli.cli.settings.option import Session
from pgflow_cli.errors import OutputFailed, PgflowError

CONNECT, STATEMENT, FRESH = 1.0, 0.5, 30.0
_MOST = 500


def complete(ctx: click.Context, kind: str, incomplete: str) -> list[CompletionItem]:
    """Return the candidates of a kind: queue, job_type, worker, job_id or plan."""
    with suppress(PgflowError, OSError, ValueError):
        url = _url(ctx)
        if url is not None:
            return [
                CompletionItem(value, help=about or None)
                for value, about in _known(url, kind)
                if value.startswith(incomplete)
            ]
    return []


def _url(ctx: click.Context) -> str | None:
    """Return the URL that the command would use; a `dev:` one starts servers: none."""
    at: click.Context | None = ctx
    while at is not None:
        if typed := at.params.get("database_url"):
            return str(typed)
        at = at.parent
    session = ctx.find_object(Session)
    if session is None:
        return None
    found = session.sources.find("DATABASE_URL")
    if found is None:
        path = session.sources.find("DATABASE_URL_FILE")
        if path is None:
            return None
        return Path(str(path.value)).read_text(encoding="utf-8").strip()
    return None if str(found.value).startswith("dev:") else str(found.value)


def _known(url: str, kind: str) -> list[tuple[str, str]]:
    path = _cache(url, kind)
    with suppress(OSError, ValueError):
        if time.time() - path.stat().st_mtime < FRESH:
            return [(value, about) for value, about in json.loads(path.read_text())]
    found = _soon(url, kind)
    # Nothing, too: a database that is away must not be waited for at each press of Tab.
    with suppress(OSError):
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        partial = path.with_suffix(f".{os.getpid()}")
        partial.write_text(json.dumps(found))
        partial.replace(path)
    return found


def _soon(url: str, kind: str) -> list[tuple[str, str]]:
    """Ask, and wait no longer than was promised: libpq itself waits for two seconds."""
    # Before the time runs: the database is not to blame for what importing takes.
    from pgflow_cli.repository import Database, Repository

    found: list[tuple[str, str]] = []

    def ask() -> None:
        repository = Repository.of(
            Database(url, connect_timeout=CONNECT, call_timeout=STATEMENT)
        )
        with suppress(PgflowError, OSError, ValueError), closing(repository):
            found.extend(repository.queues.suggest_names(kind, limit=_MOST))

    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(CONNECT + STATEMENT)
    return list(found)


def _cache(url: str, kind: str) -> Path:
    base = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser()
    # Of the URL nothing but a hash: it may hold a password.
    mark = hashlib.sha256(url.encode()).hexdigest()[:16]
    return base / "pgflow" / f"{mark}-{kind}.json"


VARIABLE = "_PGFLOW_COMPLETE"

_POWERSHELL = """\
Register-ArgumentCompleter -Native -CommandName %(prog_name)s -ScriptBlock {
    param($wordToComplete, $commandAst, $cursorPosition)
    $env:%(complete_var)s = "powershell_complete"
    $env:COMP_WORDS = $commandAst.ToString()
    $env:COMP_WORD = $wordToComplete
    try {
        %(prog_name)s | ForEach-Object {
            $value, $help = $_ -split "`t", 2
            if (-not $help) { $help = $value }
            [System.Management.Automation.CompletionResult]::new(
                $value, $value, "ParameterValue", $help)
        }
    } finally {
        Remove-Item Env:%(complete_var)s, Env:COMP_WORDS, Env:COMP_WORD
    }
}
"""


class PowerShellComplete(ShellComplete):
    """Speaks with PowerShell: the line and the word arrive in variables, one
    candidate leaves a line, its help after a tab.
    """

    name = "powershell"
    source_template = _POWERSHELL

    def get_completion_args(self) -> tuple[list[str], str]:
        """Return the words before the one that is being typed, and that one."""
        try:
            words = shlex.split(os.environ.get("COMP_WORDS", ""))[1:]
        except ValueError:  # a quote that is open
            words = os.environ.get("COMP_WORDS", "").split()[1:]
        word = os.environ.get("COMP_WORD", "")
        return (words[:-1] if word and words else words), word

    def format_completion(self, item: CompletionItem) -> str:
        """Return a candidate as its line."""
        return f"{item.value}\t{item.help}" if item.help else str(item.value)


def register() -> None:
    """Let click know of PowerShell, if a shell asks for candidates or a script."""
    if VARIABLE in os.environ:
        add_completion_class(PowerShellComplete)


def script(shell: str, program: click.Command) -> str:
    """Return the script that a shell runs once to complete `pgflow`."""
    add_completion_class(PowerShellComplete)
    found = get_completion_class(shell)
    assert found is not None
    return found(program, {}, "pgflow", VARIABLE).source()


def install(shell: str, text: str) -> tuple[Path, str]:
    """Write the script where the shell looks for it; return where, and what is left
    to do.
    """
    home = Path.home()
    data = Path(os.environ.get("XDG_DATA_HOME") or home / ".local/share")
    config = Path(os.environ.get("XDG_CONFIG_HOME") or home / ".config")
    path, rest = {
        "bash": (data / "bash-completion/completions/pgflow", "Open a new shell."),
        "zsh": (
            home / ".zfunc/_pgflow",
            "In ~/.zshrc, before compinit:  fpath+=~/.zfunc",
        ),
        "fish": (config / "fish/completions/pgflow.fish", "Open a new shell."),
        "powershell": (
            config / "powershell/pgflow-completion.ps1",
            "In $PROFILE:  . <that file>",
        ),
    }[shell]
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise OutputFailed(f"cannot write {path}: {error.strerror}") from None
    return path, rest
