"""Standard streams: characters that they cannot encode, and streams that are closed."""

from __future__ import annotations

import os

# Not imported from typing: this module is loaded before signals can be held back.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def make_robust(stream: object) -> None:
    """Have the stream escape characters that it cannot encode."""
    reconfigure = getattr(stream, "reconfigure", None)
    if reconfigure is not None:
        reconfigure(errors="backslashreplace")


def let_go(stream: Any) -> None:
    """Point a stream that cannot be written to /dev/null: otherwise Python fails to
    flush it at exit, prints that, and changes the exit code.
    """
    try:
        number = stream.fileno()
        nothing = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nothing, number)
        os.close(nothing)
        stream.flush()
    except (OSError, ValueError):
        return
