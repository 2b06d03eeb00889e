"""The report of a change on stdout: when nothing can be written there, the error tells
of the change, else it would be made once more.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from pgflow_cli.cli import startup
from pgflow_cli.cli.output import messages
from pgflow_cli.errors import OutputFailed, StdoutFailed


def require_stdout() -> None:
    """Raise `StdoutFailed` if stdout is closed, before anything is changed.

    That is all that can be known of it: a full disk shows when it is written to.
    """
    if startup.is_stdout_closed():
        raise StdoutFailed("it is closed; nothing was changed")


@contextmanager
def after(done: str, lost: str = "this") -> Iterator[None]:
    """Write the report of a change in this block.

    `done` says what was changed, `lost` what the block writes. Where stdout takes
    nothing, both are in the `OutputFailed` that is raised; of a pipe whose reader has
    gone, a warning tells them.
    """
    try:
        yield
    except BrokenPipeError:
        messages.warn(f"{done}; {lost} could not be written to stdout: broken pipe")
        raise
    except StdoutFailed as failed:
        raise OutputFailed(
            f"{done}; {lost} could not be written to stdout: {failed.why}"
        ) from None
