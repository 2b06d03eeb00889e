"""Makes text from data harmless for terminals and spreadsheets, and masks passwords."""

from __future__ import annotations

import re

# C0, DEL and C1; the marks that turn the direction of writing; two characters that end
# a line for many readers; and halves of surrogate pairs, which no stream can encode.
_DANGEROUS = re.compile(
    "[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]"
)
_DANGEROUS_EXCEPT_NEWLINE = re.compile(
    _DANGEROUS.pattern.replace("\x00-\x1f", "\x00-\x09\x0b-\x1f")
)
MASK = "***"
_FORMULA = ("=", "+", "-", "@", "\t", "\r")

# The user name may hold anything but a slash or an at sign. The password may hold an at
# sign that was not encoded, so everything up to the last at sign of the word is masked.
_PASSWORD_IN_URL = re.compile(r"(?<=://)([^\s:/@]*):[^\s/]*@")
_PASSWORD_IN_PAIR = re.compile(
    r"(?i)\b((?:\w*password|\w*passwd|\w*secret|\w*token)\s*=\s*)('(?:[^'\\]|\\.)*'|[^\s&'\"]+)"
)


def neutral(text: str) -> str:
    """Return one line, safe for a terminal: control characters become `\\xNN`."""
    return _DANGEROUS.sub(_shown, text)


def neutral_lines(text: str) -> str:
    """Return the text without control characters other than line breaks."""
    return _DANGEROUS_EXCEPT_NEWLINE.sub(_shown, text.replace("\r\n", "\n"))


def ascii_only(text: str) -> str:
    """Return the text for a terminal that knows ASCII only."""
    plain = text.replace("…", "...").replace("×", "x")
    return plain.encode("ascii", "backslashreplace").decode("ascii")


def csv_cell(text: str) -> str:
    """Return the text so that no spreadsheet takes it for a formula."""
    cell = neutral_lines(text)
    return f"'{cell}" if text.startswith(_FORMULA) else cell


def redact(text: str) -> str:
    """Return the text with the passwords of URLs and of `password=…` masked."""
    return _PASSWORD_IN_PAIR.sub(r"\1***", _PASSWORD_IN_URL.sub(r"\1:***@", text))


def redact_url(url: str) -> str:
    """Return a connection string without its password, however badly it is written."""
    scheme, separator, rest = url.partition("://")
    if not separator:
        # A password in quotes, or with a backslash before its space, goes on.
        return re.sub(r"(?i)(password\s*=).*", rf"\1{MASK}", url, flags=re.S)
    user, at, place = rest.rpartition("@")
    name = f"{user.partition(':')[0]}:{MASK}" if ":" in user else user
    return redact(f"{scheme}{separator}{name}{at}{place}")


def _shown(match: re.Match[str]) -> str:
    character = match[0]
    if character == "\n":
        return "\\n"
    code = ord(character)
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"
