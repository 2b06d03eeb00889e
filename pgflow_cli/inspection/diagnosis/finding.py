"""One line of a diagnosis, and how its fix is written."""

from __future__ import annotations

from dataclasses import dataclass

OK, WARN, FAIL = "OK", "WARN", "FAIL"


@dataclass(frozen=True, slots=True)
class Finding:
    """What one check found: `check` is `area.name`, `result` OK, WARN or FAIL.

    The fix is SQL, a command, or both; an operator may copy either as it stands.
    """

    check: str
    result: str
    detail: str
    sql: str = ""
    command: str = ""

    @property
    def fix(self) -> str:
        """Return the fix: the SQL before the command."""
        return "  ".join(filter(None, (self.sql, self.command)))


def ok(check: str, detail: str) -> Finding:
    """Return that all is well."""
    return Finding(check, OK, detail)


def warn(check: str, detail: str, *, sql: str = "", command: str = "") -> Finding:
    """Return a finding that becomes a problem later."""
    return Finding(check, WARN, detail, sql, command)


def fail(check: str, detail: str, *, sql: str = "", command: str = "") -> Finding:
    """Return a finding that is a problem now."""
    return Finding(check, FAIL, detail, sql, command)


def literal(text: str) -> str:
    """Return a name as a literal of SQL."""
    escape = "\\" in text
    body = text.replace("\\", "\\\\").replace("'", "''")
    return f"{'e' if escape else ''}'{body}'"


def size(count: float) -> str:
    """Return a number of bytes as text, with a unit."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1024:
            return f"{count:.0f} {unit}"
        count /= 1024
    return f"{count:.1f} TB"
