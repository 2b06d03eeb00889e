"""Log lines: one line per event, as text for people or as JSON for machines,
on stderr.
"""

from __future__ import annotations

import json
import logging
import sys
from datetime import UTC, datetime

from pgflow_cli import escaping
from pgflow_cli.handlers import JobFields

# What every record has of itself; anything else was given as `extra` and is a field.
_OWN = {*vars(logging.makeLogRecord({})), "message", "asctime", "taskName"}


def set_up(form: str, level: str, **fields: str) -> None:
    """Send the log to stderr; `form` is text, json, or auto: text on a terminal, else
    JSON lines.
    """
    handler = logging.StreamHandler(sys.stderr)
    as_text = form == "text" or (form == "auto" and sys.stderr.isatty())
    handler.setFormatter(TextLines() if as_text else JsonLines(**fields))
    handler.addFilter(JobFields())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())


class JsonLines(logging.Formatter):
    """One JSON object per event; ASCII, so that nothing in a message can forge a line
    or reach a terminal.
    """

    def __init__(self, **fields: str) -> None:
        super().__init__()
        self._fields = fields

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, object] = {
            "ts": datetime.fromtimestamp(record.created, UTC).isoformat(),
            "level": record.levelname.lower(),
            "logger": record.name,
            "event": getattr(record, "event", "log"),
            "message": record.getMessage(),
            **self._fields,
        }
        line.update(_extra(record))
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str)


class TextLines(logging.Formatter):
    """Time, level and message; control characters are shown, never sent."""

    def format(self, record: logging.LogRecord) -> str:
        at = datetime.fromtimestamp(record.created).astimezone()
        milliseconds = at.microsecond // 1000
        level = record.levelname.lower()
        text = f"{at:%H:%M:%S}.{milliseconds:03d} {level:7} {record.getMessage()}"
        job = getattr(record, "job_id", None)
        if job and str(job) not in text:
            text += f"  job={job}"
        lines = [text]
        if record.exc_info:
            lines += self.formatException(record.exc_info).splitlines()
        return "\n".join(escaping.neutral(line) for line in lines)


def _extra(record: logging.LogRecord) -> dict[str, object]:
    return {
        key: value
        for key, value in vars(record).items()
        if key not in _OWN and not key.startswith("_")
    }
