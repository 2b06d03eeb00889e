"""Silences what psycopg logs when a rollback finds its connection gone: the server has
undone the transaction by then, and the caller is told of the loss itself.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager

_here = threading.local()


@contextmanager
def unheard() -> Iterator[None]:
    """Keep to ourselves what psycopg logs in the block, in this thread."""
    _here.depth = getattr(_here, "depth", 0) + 1
    try:
        yield
    finally:
        _here.depth -= 1


def _is_heard(_record: logging.LogRecord) -> bool:
    return not getattr(_here, "depth", 0)


# An application's own use of psycopg is not touched: no thread of it is in a block.
logging.getLogger("psycopg.transaction").addFilter(_is_heard)
