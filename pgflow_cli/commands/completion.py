"""Print or install what a shell needs to complete pgflow's commands and names."""

from __future__ import annotations

import click

from pgflow_cli.cli.context import SettingsFreeCommand, command
from pgflow_cli.cli.output import messages
from pgflow_cli.cli.settings.types import Choice


@command("completion", cls=SettingsFreeCommand)
@click.argument("shell", type=Choice(("bash", "zsh", "fish", "powershell")))
@click.option("--install", is_flag=True, help="Write it where the shell looks for it.")
@click.pass_context
def completion(ctx: click.Context, shell: str, install: bool) -> None:
    """Print or install what a shell needs to complete commands, options and names.

    Queues, job types, worker names and ids are asked of the database, if it answers
    within a second.

    \b
    Examples:
      pgflow completion bash --install
      pgflow completion zsh > ~/.zfunc/_pgflow
      pgflow completion powershell | Out-String | Invoke-Expression
    """
    from pgflow_cli.cli.completion import install as install_script
    from pgflow_cli.cli.completion import script

    text = script(shell, ctx.find_root().command)
    if not install:
        click.echo(text, nl=False)
        return
    path, rest = install_script(shell, text)
    messages.say(f"wrote {path}")
    messages.hint(rest)
