"""Typed payloads: what a second parameter receives, and what is BAD_PAYLOAD."""

from __future__ import annotations

import enum
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Literal, NewType, Optional, Union
from uuid import UUID

import msgspec
import pydantic
import pytest

from pgflow_cli.errors import ConfigurationError
from pgflow_cli.handlers import App, Job, PayloadError, payload_types

if TYPE_CHECKING:
    from nowhere import Missing  # the annotation of a job need not exist

Isbn = NewType("Isbn", str)


class Size(enum.Enum):
    SMALL = "s"
    LARGE = "l"


@dataclass
class Line:
    isbn: Isbn
    count: int = 1


@dataclass(frozen=True, kw_only=True)
class Order:
    number: int
    lines: list[Line]
    price: float = 0.0
    gift: bool = False
    note: str | None = None
    placed: datetime | None = None
    customer: Optional[UUID] = None  # noqa: UP045 - both spellings are in use
    labels: dict[str, str] = field(default_factory=dict)
    checked: bool = field(default=False, init=False)


@dataclass
class Tree:
    name: str
    children: list[Tree] = field(default_factory=list)


@dataclass
class Range:
    low: int
    high: int

    def __post_init__(self) -> None:
        if self.low > self.high:
            raise ValueError("low is above high")


class Struct(msgspec.Struct, forbid_unknown_fields=True):
    number: int
    placed: datetime | None = None


class Model(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="forbid")
    number: int
    lines: list[Line] = []


def decoded(annotation: Any, value: Any) -> Any:
    return payload_types.decoder(annotation)(value, "payload")


@pytest.mark.parametrize(
    ("annotation", "value", "expected"),
    [
        (int, 3, 3),
        (float, 3, 3.0),
        (float, 0.5, 0.5),
        (str, "x", "x"),
        (bool, True, True),
        (None, None, None),
        (Any, [1, {}], [1, {}]),
        (object, "x", "x"),
        (dict, {"a": 1}, {"a": 1}),
        (list, [1], [1]),
        (list[int], [1, 2], [1, 2]),
        (tuple[int, str], [1, "a"], (1, "a")),
        (tuple[int, ...], [1, 2, 3], (1, 2, 3)),
        (set[int], [1, 1], {1}),
        (Sequence[int], [1], [1]),
        (Mapping[str, int], {"a": 1}, {"a": 1}),
        (dict[str, list[int]], {"a": [1]}, {"a": [1]}),
        (int | None, None, None),
        (Union[int, str], "x", "x"),  # noqa: UP007 - both spellings are in use
        (Literal["a", 1], 1, 1),
        (Literal[1, True], True, True),
        (Literal[True, 1], 1, 1),
        (Isbn, "978", "978"),
        (Size, "l", Size.LARGE),
        (Decimal, "1.10", Decimal("1.10")),
        (Decimal, 3, Decimal(3)),
        (date, "2026-11-23", date(2026, 11, 23)),
        (time, "15:20", time(15, 20)),
        (
            datetime,
            "2026-11-23T15:20:41Z",
            datetime(2026, 11, 23, 15, 20, 41, tzinfo=UTC),
        ),
        (UUID, "019ab3c2-7d0e-7c11-8a2b-9f0e9c41e07b", UUID(int=0)),
        (Line, {"isbn": "978"}, Line(Isbn("978"))),
        (Order, {"number": 1, "lines": []}, Order(number=1, lines=[])),
        (Tree, {"name": "a", "children": [{"name": "b"}]}, Tree("a", [Tree("b")])),
        (Struct, {"number": 1}, Struct(1)),
        (Model, {"number": 1}, Model(number=1)),
        (list[Struct], [{"number": 1}], [Struct(1)]),
    ],
)
def test_a_payload_becomes_its_type(annotation: Any, value: Any, expected: Any) -> None:
    found = decoded(annotation, value)
    if annotation is UUID:
        assert found == UUID(value)
        return
    assert found == expected
    assert type(found) is type(expected)


LINE = {"isbn": "978"}


@pytest.mark.parametrize(
    ("annotation", "value", "message"),
    [
        (int, "3", "payload: expected an integer, found a string"),
        (int, True, "payload: expected an integer, found a boolean"),
        (int, 1.0, "payload: expected an integer, found a number"),
        (float, "x", "payload: expected a number, found a string"),
        (float, 10**400, "payload: the number is too large"),
        (bool, 1, "payload: expected a boolean, found an integer"),
        (str, None, "payload: expected a string, found null"),
        (list[int], [1, "x"], "payload[1]: expected an integer, found a string"),
        (list[int], {}, "payload: expected an array, found an object"),
        (tuple[int, int], [1], "payload: expected 2 items, found 1"),
        (set[Any], [[]], "payload: arrays and objects cannot be in a set"),
        (dict[str, int], {"a": {}}, "payload.a: expected an integer, found an object"),
        (int | str, [], "payload: none of the allowed types fits an array"),
        (Literal[1], True, "payload: not one of the values of Literal"),
        (Size, "xl", "payload: not one of the values of Size"),
        (Decimal, "1,1", "payload: expected a number in the string"),
        (datetime, "soon", "payload: the string is not a date and time"),
        (
            datetime,
            5,
            "payload: expected a date and time as a string, found an integer",
        ),
        (UUID, "x", "payload: the string is not a UUID"),
        (Line, [], "payload: expected an object, found an array"),
        (Line, {}, "payload.isbn: missing"),
        (Line, {**LINE, "colour": 1}, "payload: unknown field 'colour'"),
        (
            Order,
            {"number": 1, "lines": [LINE, {**LINE, "count": "2"}]},
            "payload.lines[1].count: expected an integer, found a string",
        ),
        (
            Order,
            {"number": 1, "lines": [], "checked": True},
            "payload: unknown field 'checked'",
        ),
        (
            Order,
            {"number": 1, "lines": [], "placed": "x"},
            "payload.placed: the string",
        ),
        (
            Tree,
            {"name": "a", "children": [{"name": "b", "children": [{}]}]},
            "payload.children[0].children[0].name: missing",
        ),
        (Range, {"low": 2, "high": 1}, "payload: low is above high"),
        (Struct, {"number": "x"}, "payload: Expected `int`, got `str` - at `$.number`"),
        (Struct, {"number": 1, "x": 1}, "payload: Object contains unknown field `x`"),
        (Model, {"number": "x"}, "payload.number: Input should be a valid integer"),
        (Model, {"number": 1, "lines": [{}]}, "payload.lines.0.isbn: Field required"),
    ],
)
def test_a_payload_of_another_shape_names_the_field(
    annotation: Any, value: Any, message: str
) -> None:
    with pytest.raises(PayloadError, match=re.escape(message)):
        decoded(annotation, value)


def test_a_message_never_holds_a_value() -> None:
    secret = "hunter2"
    for annotation in (
        int,
        Size,
        UUID,
        datetime,
        Decimal,
        Literal["a"],
        Line,
        int | None,
    ):
        with pytest.raises(PayloadError) as raised:
            decoded(annotation, secret)
        assert secret not in str(raised.value)
    with pytest.raises(PayloadError) as raised:
        decoded(Model, {"number": secret})
    assert secret not in str(raised.value)


@pytest.mark.parametrize(
    "annotation", [complex, bytes, dict[int, str], type, list[complex], "x"]
)
def test_an_annotation_without_a_rule_is_refused(annotation: Any) -> None:
    with pytest.raises(payload_types.UnsupportedType):
        payload_types.decoder(annotation)


# In a handler.


def handled(function: Any, payload: Any) -> Any:
    app = App()
    app.handler("try")(function)
    return app.run("try", payload)


def test_the_second_parameter_receives_the_typed_payload() -> None:
    found = []

    def handler(job: Job, payload: Order) -> None:
        found.append((payload, job.payload))

    payload = {"number": 7, "lines": [{"isbn": "978", "count": 2}]}
    assert handled(handler, payload).status == "succeeded"
    assert found == [(Order(number=7, lines=[Line(Isbn("978"), 2)]), payload)]


def test_a_payload_that_does_not_fit_is_a_dead_letter() -> None:
    def handler(job: Job, payload: Order) -> None:
        raise AssertionError("must not run")

    outcome = handled(handler, {"number": 7})
    assert (outcome.error_code, outcome.dlq_reason_code) == (
        "BAD_PAYLOAD",
        "NON_RETRYABLE",
    )
    assert outcome.error_message == "payload.lines: missing"


def test_only_the_payload_s_annotation_is_looked_at() -> None:
    def handler(job: Missing, payload: Line) -> None:
        assert payload.isbn == "978"

    assert handled(handler, LINE).status == "succeeded"


def test_a_type_local_to_a_function_is_found() -> None:
    @dataclass
    class Local:
        line: Line

    app = App()

    @app.handler("try")
    def handler(job: Job, payload: Local) -> None:
        assert payload == Local(Line(Isbn("978")))

    assert app.run("try", {"line": LINE}).status == "succeeded"


def test_without_an_annotation_the_payload_comes_as_it_is() -> None:
    found = []

    def handler(job, payload):  # type: ignore[no-untyped-def]
        found.append(payload)

    assert handled(handler, [1, 2]).status == "succeeded"
    assert found == [[1, 2]]


def test_a_method_and_an_object_can_be_handlers() -> None:
    class Mailer:
        sent: list[Line]

        def __init__(self) -> None:
            self.sent = []

        def send(self, job: Job, payload: Line) -> None:
            self.sent.append(payload)

        def __call__(self, job: Job, payload: Line) -> None:
            self.sent.append(payload)

    mailer = Mailer()
    assert handled(mailer.send, LINE).status == "succeeded"
    assert handled(mailer, LINE).status == "succeeded"
    assert mailer.sent == [Line(Isbn("978"))] * 2


def test_a_type_without_a_rule_is_refused_when_it_is_used() -> None:
    def handler(job: Job, payload: complex) -> None: ...

    with pytest.raises(ConfigurationError, match="not supported: complex"):
        handled(handler, {})


def test_a_type_nobody_defines_is_refused() -> None:
    def handler(job: Job, payload: Missing) -> None: ...

    with pytest.raises(ConfigurationError, match="'Missing' is not defined"):
        handled(handler, {})
