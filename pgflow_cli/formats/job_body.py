"""Reads the body of `POST /jobs` and a line of `pgflow enqueue --batch`: both have one
format.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any, NamedTuple

from pgflow_cli.errors import OutOfRange, UsageError
from pgflow_cli.formats import payload_text, times
from pgflow_cli.formats.times import Instant

FIELDS = payload_text.FIELDS | {"note"}
LONGEST_NOTE = 1000  # characters; a note is for people
_LONGEST_TIME = 64  # characters: no time that is valid is longer


class JobBody(NamedTuple):
    """A parsed body: its text, and the fields that were given and are not null.

    Of the fields, `run_at` is an `Instant` and `job_timeout` seconds. A tuple, because
    it is made for every line of a batch.
    """

    text: str
    fields: dict[str, Any]
    is_rewritten: bool

    def values(self) -> dict[str, Any]:
        """Return every field; payload and meta as they were written."""
        written = payload_text.members(self.text)
        texts = {name: written[name] for name in _AS_WRITTEN if name in self.fields}
        return {**dict.fromkeys(FIELDS), **self.fields, **texts}

    def element(self) -> str:
        """Return it as an element of the gate's document, which has one form for a
        time and one for a length of time.
        """
        if not self.is_rewritten:
            return self.text
        written = payload_text.members(self.text)
        for name, rewrite in _REWRITTEN.items():
            if name in self.fields:
                written[name] = rewrite(self.fields[name])
        written.pop("note", None)
        members = (f'"{name}": {value}' for name, value in written.items())
        return f"{{{', '.join(members)}}}"


def read(text: str, *, what: str = "the body", job_type: str | None = None) -> JobBody:
    """Read a body; null counts as absent, and `job_type` is the default for the field.

    Raises UsageError with a sentence that names the field and repeats nothing;
    OutOfRange for a time that cannot be meant.
    """
    # One level more than a payload: the job around it.
    given = payload_text.check(text, what=what, depth=payload_text.MAX_DEPTH + 1)
    if type(given) is not dict:
        raise UsageError(f"{what} must be a JSON object")
    payload_text.check_names(given, FIELDS)
    _check_that_none_is_given_twice(text, given)
    fields = given
    if None in given.values():
        fields = {name: value for name, value in given.items() if value is not None}
    _check_type(fields.get("job_type", job_type))
    if "payload_json" not in fields:
        raise UsageError("payload_json is missing; write {} for an empty one")
    if len(fields) > 2:
        for name in [name for name in fields if name in _READERS]:
            fields[name] = _READERS[name](fields[name])
    return JobBody(text, fields, not _REWRITTEN.keys().isdisjoint(given))


def _check_that_none_is_given_twice(text: str, given: dict[str, Any]) -> None:
    for name in given:
        if text.count(f'"{name}"') > 1:
            break
    else:
        if "\\u" not in text:
            return
    # The duplicate may be inside the payload, where it is allowed: parse it strictly.
    payload_text.members(text)


def _check_type(name: object) -> None:
    payload_text.check_job_type(name)


def _queue(value: Any) -> str:
    payload_text.check_queue(value)
    return str(value)


def _run_at(value: Any) -> Instant:
    """Read RFC 3339, or `in 30s` on the database's clock, as the gate does."""
    if isinstance(value, str) and value.startswith("in "):
        if len(value) > _LONGEST_TIME:
            raise UsageError(payload_text.RUN_AT)
        try:
            seconds = payload_text.seconds_of(value[3:], what="run_at")
        except UsageError:
            raise UsageError(payload_text.RUN_AT) from None
        if seconds > times.LONGEST.total_seconds():
            raise OutOfRange(payload_text.RUN_AT)
        return Instant(offset=timedelta(seconds=seconds))
    payload_text.check_run_at(value)
    try:
        return times.parse_instant(value)
    except times.OutOfRange:
        raise OutOfRange(payload_text.RUN_AT) from None
    except ValueError:
        raise UsageError(payload_text.RUN_AT) from None


def _priority(value: Any) -> int:
    payload_text.check_priority(value)
    return int(value)


def _max_attempts(value: Any) -> int:
    payload_text.check_max_attempts(value)
    return int(value)


def _job_id(value: Any) -> str:
    payload_text.check_job_id(value)
    return str(value).lower()


def _meta(value: Any) -> Any:
    payload_text.check_meta(value)
    return value


def _note(value: Any) -> str:
    if not isinstance(value, str) or len(value) > LONGEST_NOTE:
        raise UsageError(f"note must be text of up to {LONGEST_NOTE} characters")
    return value


_READERS: dict[str, Callable[[Any], Any]] = {
    "queue": _queue,
    "run_at": _run_at,
    "priority": _priority,
    "max_attempts": _max_attempts,
    "job_id": _job_id,
    "job_timeout": payload_text.timeout_of,
    "meta": _meta,
    "note": _note,
}


def written_time(when: Instant) -> str:
    """Return a time as the gate reads it: on its own clock, if it is an offset."""
    if when.offset is not None:
        return f'"in {times.exact_duration(when.offset)}"'
    return f'"{when.at.isoformat()}"' if when.at is not None else "null"


_AS_WRITTEN = ("payload_json", "meta")
_REWRITTEN: dict[str, Callable[[Any], str]] = {
    "run_at": written_time,
    "job_timeout": lambda s: f'"{times.exact_duration(timedelta(seconds=s))}"',
    "note": lambda _: "null",
}
