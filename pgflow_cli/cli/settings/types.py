"""The kinds of values an option takes, each with the words for what it expects."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn

import click

from pgflow_cli.formats import times
from pgflow_cli.formats.times import Direction, Instant

_WHOLE = re.compile(r"[+-]?\d{1,18}", re.ASCII)
_BARE = re.compile(r"\d{1,9}(?:\.\d{1,6})?", re.ASCII)
_RATE = re.compile(r"(\d{1,7}(?:\.\d{1,2})?)/s", re.ASCII)
_SIZE = re.compile(r"(\d{1,10})(KiB|MiB|)", re.ASCII)
_BYTES = {"": 1, "KiB": 1024, "MiB": 1024 * 1024}
_ADDRESS = re.compile(
    r"(?:\[([0-9A-Fa-f:.]{2,45})\]|([A-Za-z0-9_.-]{1,253})):(\d{1,5})", re.ASCII
)
_QUEUE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,62}", re.ASCII)
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.:-]{0,127}", re.ASCII)


if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

    ParamType = click.ParamType[Any]
else:
    ParamType = click.ParamType  # in click 8.2 it is not generic


class Kind(ParamType):
    """A kind of value; `expects` completes the sentence "… is not"."""

    name = "value"
    expects = "a value"

    def refuse(
        self, param: click.Parameter | None, ctx: click.Context | None, why: str = ""
    ) -> NoReturn:
        self.fail(why or f"it is not {self.expects}", param, ctx)


class Number(Kind):
    """A whole number between two bounds, both included."""

    name = "integer"

    def __init__(self, least: int, most: int) -> None:
        self.least, self.most = least, most
        self.expects = f"a whole number from {least} to {most}"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> int:
        text = str(value).strip()
        if isinstance(value, bool) or not _WHOLE.fullmatch(text):
            self.refuse(param, ctx)
        if not self.least <= int(text) <= self.most:
            self.refuse(param, ctx)
        return int(text)


class Duration(Kind):
    """A length of time between two bounds, all in seconds."""

    name = "duration"

    def __init__(self, least: float = 0, most: float = 31_536_000) -> None:
        self.least, self.most = least, most
        bounds = f"{times.format_duration(least)} to {times.format_duration(most)}"
        self.expects = f"a duration from {bounds}, such as 500ms, 30s, 5m or 1d12h"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        if isinstance(value, float):
            return value
        try:
            seconds = times.parse_duration(str(value)).total_seconds()
        except ValueError:
            self.refuse(param, ctx)
        if not self.least <= seconds <= self.most:
            self.refuse(param, ctx)
        return seconds


class Seconds(Duration):
    """A length of time that may be a bare number, of seconds."""

    name = "seconds"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        bare = isinstance(value, str) and _BARE.fullmatch(value)
        return super().convert(f"{value}s" if bare else value, param, ctx)


class Rate(Kind):
    """So many a second, such as 20/s; given on as a number."""

    name = "rate"
    expects = "a rate from 0.01/s to 1000000/s, such as 20/s"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        match = _RATE.fullmatch(str(value).strip())
        if match is None or not 0.01 <= float(match[1]) <= 1_000_000:
            self.refuse(param, ctx)
        return float(match[1])


class Size(Kind):
    """So many bytes, such as 1MiB; given on as a number."""

    name = "size"

    def __init__(self, least: int, most: int) -> None:
        self.least, self.most = least, most
        self.expects = f"a size from {least} to {most} bytes, such as 64KiB or 1MiB"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> int:
        match = _SIZE.fullmatch(str(value).strip())
        if match is None:
            self.refuse(param, ctx)
        size = int(match[1]) * _BYTES[match[2] or ""]
        if not self.least <= size <= self.most:
            self.refuse(param, ctx)
        return size


class Endpoint(NamedTuple):
    """Where a server listens."""

    host: str
    port: int

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"


class Address(Kind):
    """Where a server listens, given on as an `Endpoint`; off is None."""

    name = "address"
    expects = "HOST:PORT, such as 127.0.0.1:3003 or [::1]:3003, or off"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> Endpoint | None:
        if value is None or isinstance(value, Endpoint):
            return value
        text = str(value).strip()
        # YAML 1.1 makes a boolean of a bare `off`.
        if text.lower() in ("", "off", "false", "no", "0"):
            return None
        match = _ADDRESS.fullmatch(text)
        if match is None or int(match[3]) > 65_535:
            self.refuse(param, ctx)
        return Endpoint(match[1] or match[2], int(match[3]))


class InstantType(Kind):
    """A moment; `bare` says whether `15m` lies in the past or in the future."""

    name = "time"
    expects = "a time such as 15m, 2h ago, in 10m, today, 09:30 or 2026-11-23T09:30:00Z"

    def __init__(self, bare: Direction) -> None:
        self.bare = bare

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> Instant:
        if isinstance(value, Instant):
            return value
        try:
            return times.parse_instant(str(value), bare=self.bare)
        except ValueError as error:
            self.refuse(param, ctx, str(error))


class Known(Kind):
    """A value of which the database knows some: they complete what is being typed.

    `suggests` is the kind of names: queue, job_type, worker, job_id or plan.
    """

    expects = "a name"

    def __init__(self, name: str, suggests: str) -> None:
        self.name, self.suggests = name, suggests

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> Any:
        return str(value)

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        """Ask the database, silently."""
        if not self.suggests:
            return []
        from pgflow_cli.cli import completion

        return completion.complete(ctx, self.suggests, incomplete)


class Name(Known):
    """A name that is safe in every place it turns up in."""

    def __init__(
        self, what: str, pattern: re.Pattern[str], rule: str, suggests: str = ""
    ) -> None:
        super().__init__(what, suggests)
        self.pattern = pattern
        self.expects = f"a name of {rule}"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> str:
        if not self.pattern.fullmatch(str(value)):
            self.refuse(param, ctx)
        return str(value)


class PlanId(Known):
    """The number of a replay's plan."""

    expects = "the number of a plan; pgflow replay list has them"

    def __init__(self) -> None:
        super().__init__("plan", "plan")

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> Any:
        text = str(value).strip()
        if not _WHOLE.fullmatch(text) or int(text) < 1:
            self.refuse(param, ctx)
        return int(text)


class QueueList(Known):
    """Queues with commas between them, or `*` for all."""

    expects = "a list of queue names with commas between them, or *"

    def __init__(self) -> None:
        super().__init__("queues", "queue")

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> Any:
        if isinstance(value, tuple):
            return value
        names = tuple(part.strip() for part in str(value).split(","))
        if not all(name == "*" or _QUEUE.fullmatch(name) for name in names):
            self.refuse(param, ctx)
        return tuple(dict.fromkeys(names))

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        """Complete the last of the names."""
        before, comma, last = incomplete.rpartition(",")
        found = super().shell_complete(ctx, param, last)
        for item in found:
            item.value = f"{before}{comma}{item.value}"
        return found


class Json(Kind):
    """JSON, given on as the text it was."""

    name = "json"
    expects = "JSON"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> str:
        try:
            json.loads(str(value), parse_constant=self._no_constant)
        except (ValueError, RecursionError):
            self.refuse(param, ctx)
        return str(value)

    @staticmethod
    def _no_constant(name: str) -> NoReturn:
        raise ValueError(f"{name} is not JSON")


class Choice(click.Choice[str]):
    """One of a few names."""

    @property
    def expects(self) -> str:
        return f"one of {', '.join(self.choices)}"


QUEUE = Name(
    "queue",
    _QUEUE,
    "1 to 63 letters, digits, _ . - that starts with a letter or a digit",
    "queue",
)
TYPE = Name(
    "type",
    _NAME,
    "1 to 128 letters, digits, _ . : - that starts with a letter or a digit",
    "job_type",
)
JOB_ID = Known("id", "job_id")
ANY_TYPE = Known("type", "job_type")  # judged where it is used
PLAN = PlanId()
WORKER = Known("worker", "worker")
NAME = Name(
    "name",
    _NAME,
    "1 to 128 letters, digits, _ . : - that starts with a letter or a digit",
)


class OrNone(Kind):
    """A number or a duration within bounds, or `none`: no limit, given on as -1."""

    def __init__(self, kind: Kind) -> None:
        self.kind = kind
        self.name = f"{kind.name}|none"
        self.expects = f"{kind.expects}, or none"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> Any:
        if str(value).lower() == "none" or value == -1:
            return -1
        return self.kind.convert(value, param, ctx)
