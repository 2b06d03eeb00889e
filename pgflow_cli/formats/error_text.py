"""Turns the exception or output of a handler into text that PostgreSQL can store."""

from __future__ import annotations

import re

LIMIT = 8192  # bytes of an error message

# PostgreSQL has no NUL in text, and UTF-8 no lone surrogates.
_UNSTORABLE = re.compile("[\x00\ud800-\udfff]")


def clean(text: str) -> str:
    """Return the text with � for each character that cannot be stored."""
    return _UNSTORABLE.sub("\ufffd", text)


def excerpt(value: object, *, limit: int = LIMIT) -> str:
    """Return a value as storable text of at most `limit` bytes; a cut is marked.

    Never raises.
    """
    text, whole = _text(value, limit)
    text = clean(text)
    data = text.encode()
    if len(data) <= limit and len(text) == whole:
        return text
    mark = f" … [cut: {whole:,} characters in all]"
    return data[: limit - len(mark.encode())].decode(errors="ignore") + mark


def describe(error: BaseException) -> str:
    """Return "Class: message" of an exception.

    Never raises, whatever its methods do.
    """
    name, message = class_name(error), excerpt(_said(error))
    return excerpt(f"{name}: {message}") if message else name


def _said(error: BaseException) -> object:
    """Return the message of an exception; of a database driver's only the server's
    message.

    Its text goes on with DETAIL, which prints whole rows, and with the statement.
    """
    try:
        primary = error.diag.message_primary  # type: ignore[attr-defined]
    except BaseException:
        return error
    return primary if isinstance(primary, str) and primary else error


def class_name(error: BaseException) -> str:
    """Return the name of an exception's class as storable text."""
    return clean(type.__getattribute__(type(error), "__qualname__"))


def _text(value: object, limit: int) -> tuple[str, int]:
    """Return the beginning of a value's text, and the length of the whole."""
    try:
        if isinstance(value, bytes | bytearray):
            text = bytes(value[: limit + 1]).decode(errors="replace")
            return text, len(text) + max(len(value) - limit - 1, 0)
        text = str(value)
        # str's own method: a subclass may override it.
        return str.__getitem__(text, slice(limit + 1)), str.__len__(text)
    except BaseException as failure:
        text = f"(a message that cannot be read: {class_name(failure)})"
        return text, len(text)
