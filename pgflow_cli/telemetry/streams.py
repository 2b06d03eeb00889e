"""Standard streams: what they do with a character they lack, and after their end."""

from __future__ import annotations

import os

# Not typing's: the program loads this before it can hold a signal.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def make_robust(stream: object) -> None:
    """Show a character that the stream cannot carry as an escape, and go on."""
    reconfigure = getattr(stream, "reconfigure", None)
    if reconfigure is not None:
        reconfigure(errors="backslashreplace")


def let_go(stream: Any) -> None:
    """Have a stream that cannot be written lead to nothing: else Python complains of it
    once more at its end, and the exit code is its own.
    """
    try:
        number = stream.fileno()
        nothing = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nothing, number)
        os.close(nothing)
        stream.flush()
    except (OSError, ValueError):
        return
