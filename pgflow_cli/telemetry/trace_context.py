"""W3C trace contexts: read, check and keep them in a job's meta; pure.

`traceparent` and `tracestate` are keys of meta. They come from the producer: the
job's log lines, its spans and the jobs it enqueues itself belong to that trace.
"""

from __future__ import annotations

import contextvars
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass

TRACEPARENT = "traceparent"
TRACESTATE = "tracestate"

_PARENT = re.compile(
    r"(?!ff)[0-9a-f]{2}-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}"
)
_VERSION_00 = len("00-") + 32 + len("-") + 16 + len("-01")
# Characters; a header of a later version may be longer than that of version 00.
_LONGEST_PARENT = 512
_LONGEST_STATE = 512  # characters that the W3C standard asks everyone to keep
_MOST_MEMBERS = 32  # list members that the W3C standard allows
_KEY = r"[a-z][a-z0-9_\-*/]{0,255}"
_KEY_OF_TENANT = r"[a-z0-9][a-z0-9_\-*/]{0,240}@[a-z][a-z0-9_\-*/]{0,13}"
_MEMBER = re.compile(
    rf"({_KEY}|{_KEY_OF_TENANT})=[\x20-\x2b\x2d-\x3c\x3e-\x7e]{{0,255}}[\x21-\x2b\x2d-\x3c\x3e-\x7e]"
)


@dataclass(frozen=True, slots=True)
class TraceContext:
    """A place in a trace, as its two headers; both have been checked."""

    traceparent: str
    tracestate: str = ""

    @property
    def trace_id(self) -> str:
        return self.traceparent[3:35]

    def fields(self) -> dict[str, str]:
        """Return the headers by name, without an empty one."""
        found = {TRACEPARENT: self.traceparent}
        return {**found, TRACESTATE: self.tracestate} if self.tracestate else found


carried: contextvars.ContextVar[TraceContext | None] = contextvars.ContextVar(
    "pgflow_trace", default=None
)
"""The context of the job that runs here; jobs that it enqueues inherit it."""


def accepted(traceparent: object, tracestate: object = None) -> TraceContext | None:
    """Return the context in two headers or variables, or None if there is none.

    An invalid tracestate is left out, as the standard demands; it never invalidates its
    traceparent. Of a later version, only the fields of version 00 are kept.
    """
    if not isinstance(traceparent, str) or len(traceparent) > _LONGEST_PARENT:
        return None
    known, rest = traceparent[:_VERSION_00], traceparent[_VERSION_00:]
    if not _PARENT.fullmatch(known):
        return None
    if rest and (known.startswith("00") or not rest.startswith("-")):
        return None
    version_00 = f"00{known[2:]}"
    return TraceContext(version_00, _state(tracestate))


def of_meta(meta: object) -> TraceContext | None:
    """Return the context that a job's meta holds."""
    if not isinstance(meta, Mapping):
        return None
    return accepted(meta.get(TRACEPARENT), meta.get(TRACESTATE))


def of_text(meta: str | None) -> TraceContext | None:
    """Return the context in a job's meta, given as JSON."""
    if meta is None or TRACEPARENT not in meta:
        return None
    try:
        return of_meta(json.loads(meta))
    except (ValueError, RecursionError):
        return None


def kept(
    meta: Mapping[str, object] | None, context: TraceContext | None
) -> Mapping[str, object] | None:
    """Return meta with the context in it, unless meta has one already."""
    if context is None or (meta is not None and TRACEPARENT in meta):
        return meta
    return {**(meta or {}), **context.fields()}


def _state(text: object) -> str:
    if not isinstance(text, str) or len(text) > _LONGEST_STATE:
        return ""
    members = [member.strip(" \t") for member in text.split(",")]
    found = [_MEMBER.fullmatch(member) for member in members if member]
    keys = [match[1] for match in found if match]
    if len(keys) < len(found) or len(set(keys)) < len(keys):
        return ""
    if len(keys) > _MOST_MEMBERS:
        return ""
    return ",".join(match[0] for match in found if match)
