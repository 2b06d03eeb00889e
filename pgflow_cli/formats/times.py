"""Durations and instants as operators write and read them; pure."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from fractions import Fraction
from typing import Literal

Direction = Literal["past", "future"]

LONGEST = timedelta(days=36500)

_NUMBER = r"(\d{1,12}(?:\.\d{1,6})?)"
_DURATION = re.compile(
    rf"(?:{_NUMBER}d)?(?:{_NUMBER}h)?(?:{_NUMBER}m)?(?:{_NUMBER}s)?(?:{_NUMBER}ms)?",
    re.ASCII,
)
_MICROSECONDS = (86_400_000_000, 3_600_000_000, 60_000_000, 1_000_000, 1_000)
_SECOND = r"(?P<second>\d\d)(?:\.(?P<part>\d{1,9}))?"
_CLOCK = rf"(?P<hour>\d\d):(?P<minute>\d\d)(?::{_SECOND})?"
_ZONE = r"(?P<zone>[zZ]|[+-]\d\d:\d\d)"
_TIME_OF_DAY = re.compile(_CLOCK, re.ASCII)
_DATE = re.compile(
    rf"(?P<year>\d{{4,6}})-(?P<month>\d\d)-(?P<day>\d\d)(?:[tT ]{_CLOCK} ?{_ZONE}?)?",
    re.ASCII,
)
_EPOCH = re.compile(r"@(-?\d{1,15})(?:\.(\d{1,9}))?", re.ASCII)
_EPOCH_BEGINS = datetime(1970, 1, 1, tzinfo=UTC)
_YEARS = "a time lies between the years 2000 and 9998"
_ENDLESS = ("infinity", "+infinity", "-infinity")
_FORMS = "15m, 2h ago, in 10m, today, 09:30, 2026-11-23 09:30 or 2026-11-23T09:30:00Z"


# One day inside Python's range, because they are shown in other time zones, too.
FIRST_DAY = datetime(1, 1, 2, tzinfo=UTC)
LAST_DAY = datetime(9999, 12, 30, tzinfo=UTC)


class OutOfRange(ValueError):
    """A time or a duration that is out of range."""


@dataclass(frozen=True, slots=True)
class Instant:
    """An instant: an `offset` from the database's now, or `at`, an aware datetime.

    One of them is set. An offset reaches SQL as an interval, so that only the
    database's clock decides.
    """

    offset: timedelta | None = None
    at: datetime | None = None


def parse_duration(text: str) -> timedelta:
    """Read `500ms`, `30s`, `5m`, `2h`, `7d` or `1d12h`, largest unit first.

    Raises ValueError with a sentence that does not repeat the text.
    """
    match = _DURATION.fullmatch(text.strip())
    if match is None or not any(match.groups()):
        raise ValueError("a duration looks like 500ms, 30s, 5m, 2h, 7d or 1d12h")
    parts = zip(match.groups(), _MICROSECONDS, strict=True)
    sizes = (Fraction(number) * unit for number, unit in parts if number)
    total = sum(sizes, Fraction(0))
    if total > Fraction(LONGEST // timedelta(microseconds=1)):
        raise OutOfRange("a duration is at most 36500d")
    return timedelta(microseconds=round(total))


def parse_instant(
    text: str, *, bare: Direction = "past", now: datetime | None = None
) -> Instant:
    """Read an instant; times without a zone are UTC, as on every screen.

    `bare` says where `15m` lies, and whether `09:30` is the last one or the next one.
    Only `today`, `yesterday` and a time of day look at the client's clock, for their
    date. Raises ValueError with a sentence that does not repeat the text; `OutOfRange`
    if it is a time, but none of ours.
    """
    words = text.strip()
    relative = _relative(words.lower(), bare)
    if relative is not None:
        return Instant(offset=relative)
    if words.lower() in _ENDLESS:
        raise OutOfRange(_YEARS)
    present = (now or datetime.now(UTC)).astimezone(UTC)
    try:
        moment = _absolute(words, bare, present)
    except OverflowError:
        raise OutOfRange(_YEARS) from None
    except ValueError:
        raise ValueError("there is no such date or time of day") from None
    if moment is None:
        raise ValueError(f"a time looks like {_FORMS}")
    # The last year is refused, so that no time zone moves a time beyond datetime's
    # range.
    if not 2000 <= moment.year <= 9998:
        raise OutOfRange(_YEARS)
    return Instant(at=moment)


def _relative(words: str, bare: Direction) -> timedelta | None:
    if words == "now":
        return timedelta()
    sign = -1 if bare == "past" else 1
    rest = words
    if words.startswith("in "):
        sign, rest = 1, words.removeprefix("in ")
    elif words.endswith(" ago"):
        sign, rest = -1, words.removesuffix(" ago")
    match = _DURATION.fullmatch(rest.strip())
    if rest == words and (match is None or not any(match.groups())):
        return None
    return sign * parse_duration(rest)


def _absolute(words: str, bare: Direction, present: datetime) -> datetime | None:
    midnight = present.replace(hour=0, minute=0, second=0, microsecond=0)
    named = {"today": midnight, "yesterday": midnight - timedelta(days=1)}
    if words.lower() in named:
        return named[words.lower()]
    if match := _TIME_OF_DAY.fullmatch(words):
        return _nearest(datetime.combine(midnight, _clock(match), UTC), bare, present)
    if match := _EPOCH.fullmatch(words):
        microseconds = int((match[2] or "0").ljust(6, "0")[:6])
        return _EPOCH_BEGINS + timedelta(
            seconds=int(match[1]), microseconds=microseconds
        )
    if match := _DATE.fullmatch(words):
        return _dated(match)
    return None


def _nearest(moment: datetime, bare: Direction, present: datetime) -> datetime:
    if bare == "past" and moment > present:
        return moment - timedelta(days=1)
    if bare == "future" and moment < present:
        return moment + timedelta(days=1)
    return moment


def _clock(match: re.Match[str]) -> time:
    if match["hour"] is None:
        return time()
    part = int((match["part"] or "0").ljust(6, "0")[:6])
    second = int(match["second"] or 0)
    return time(int(match["hour"]), int(match["minute"]), second, part)


def _dated(match: re.Match[str]) -> datetime:
    year, month, day = int(match["year"]), int(match["month"]), int(match["day"])
    if year > 9999:
        # No datetime can hold it; the caller's sentence names the range.
        year = 1
    clock = _clock(match)
    moment = datetime.combine(date(year, month, day), clock, UTC)
    zone = match["zone"]
    if zone and zone not in "zZ":
        hours, minutes = int(zone[1:3]), int(zone[4:6])
        if hours > 23 or minutes > 59:
            raise ValueError("no such zone")
        shift = timedelta(hours=hours, minutes=minutes)
        moment = moment - shift if zone[0] == "+" else moment + shift
    return moment


def read_iso(text: str) -> datetime:
    """Return an instant that the database has written; of one beyond what a datetime
    holds, the first or the last day of that.
    """
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        return FIRST_DAY if text.startswith("-") else LAST_DAY


def format_duration(seconds: float) -> str:
    """Return a length of time as on screens: `12ms`, `5.1s`, `42m`, `3h46m`, `2d4h`."""
    if seconds < 0:
        return "-" + format_duration(-seconds)
    if seconds > LONGEST.total_seconds() * 1000:  # of a damaged row; it may be infinite
        return "forever"
    if seconds < 0.9995:
        return "0s" if seconds < 0.0005 else f"{seconds * 1000:.0f}ms"
    if seconds < 9.95:
        return f"{seconds:.1f}".removesuffix(".0") + "s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole}s"
    for size, big, small_size, small in (
        (86400, "d", 3600, "h"),
        (3600, "h", 60, "m"),
        (60, "m", 1, "s"),
    ):
        if whole >= size:
            rest = whole % size // small_size
            # Beside many minutes, seconds do not matter.
            worth_showing = rest and (big != "m" or whole < 600)
            return f"{whole // size}{big}" + (f"{rest}{small}" if worth_showing else "")
    raise AssertionError("every length of a minute or more has a unit")


def exact_duration(length: timedelta) -> str:
    """Return a length of time to the millisecond, as the gate of producers reads it."""
    milliseconds = round(length / timedelta(milliseconds=1))
    if milliseconds < 1_000_000_000:  # of each part, nine digits are read
        return f"{milliseconds}ms"
    seconds, milliseconds = divmod(milliseconds, 1000)
    days, seconds = divmod(seconds, 86400)
    return f"{days}d{seconds}s{milliseconds}ms"


def format_relative(moment: datetime, now: datetime) -> str:
    """Return `4m ago`, `in 10m` or `now`."""
    seconds = (now - moment).total_seconds()
    if abs(seconds) < 0.5:
        return "now"
    # Only the largest unit: it is for a quick look.
    length = format_duration(max(1, round(abs(seconds))))
    leading = re.match(r"\d+(?:\.\d+)?[a-z]+", length)
    text = leading[0] if leading and abs(seconds) < 86400 * 10000 else length
    return f"{text} ago" if seconds > 0 else f"in {text}"


def format_iso(moment: datetime) -> str:
    """Return ISO 8601 in UTC: `2026-11-23T15:20:41.123456Z`."""
    return moment.astimezone(UTC).isoformat().removesuffix("+00:00") + "Z"


def format_local(moment: datetime) -> str:
    """Return the time in the operator's own zone, which is named."""
    return moment.astimezone().isoformat(sep=" ", timespec="seconds")


def format_unix(moment: datetime) -> str:
    """Return seconds since 1970, with the part of a second there is."""
    microseconds = (moment - _EPOCH_BEGINS) // timedelta(microseconds=1)
    whole, part = divmod(microseconds, 1_000_000)
    return f"{whole}.{part:06d}" if part else str(whole)
