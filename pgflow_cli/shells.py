"""Completion in a shell: what it must be told, and where it looks for it."""

from __future__ import annotations

import os
import shlex
from pathlib import Path

import click
from click.shell_completion import (
    CompletionItem,
    ShellComplete,
    add_completion_class,
    get_completion_class,
)

from pgflow_cli.errors import OutputFailed

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
    """Return what a shell must run once to complete `pgflow`."""
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
