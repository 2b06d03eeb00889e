"""Explain a command, or a topic that concerns all of them."""

from __future__ import annotations

import click

from pgflow_cli.cli.context import SettingsFreeCommand, command
from pgflow_cli.cli.output import records
from pgflow_cli.errors import NotFound


@command("help", cls=SettingsFreeCommand)
@click.argument("words", nargs=-1, metavar="[TOPIC|COMMAND…]")
@click.pass_context
def help(ctx: click.Context, words: tuple[str, ...]) -> None:  # noqa: A001 - as typed
    """Explain a command, or a topic that concerns all of them.

    Topics: environment, exit-codes, output, time, handlers, incidents.

    \b
    Examples:
      pgflow help
      pgflow help incidents
      pgflow help dlq list
    """
    from pgflow_cli.cli import topics

    root = ctx.find_root()
    if not words:
        records.write_text(root.command.get_help(root).splitlines())
        records.write_text(["", f"Topics: {', '.join(topics.TOPICS)}"])
    elif len(words) == 1 and words[0] in topics.TOPICS:
        records.write_text(topics.TOPICS[words[0]]())
    else:
        records.write_text(_help_of(root, words).splitlines())


def _help_of(root: click.Context, words: tuple[str, ...]) -> str:
    from pgflow_cli.cli import topics

    context = root
    for word in words:
        inner = None
        if isinstance(context.command, click.Group):
            inner = context.command.get_command(context, word)
        if inner is None:
            raise NotFound(
                f"there is no topic and no command {' '.join(words)!r}",
                f"Topics: {', '.join(topics.TOPICS)}. Commands: pgflow --help",
            )
        context = click.Context(inner, info_name=word, parent=context)
    return context.get_help()
