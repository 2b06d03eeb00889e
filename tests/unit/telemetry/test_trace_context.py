"""Trace contexts are kept as the W3C standard writes them, or not at all."""

from __future__ import annotations

import json

import pytest

from pgflow_cli.handlers import App, Handler, Job, fields, prepare
from pgflow_cli.telemetry import trace_context
from pgflow_cli.telemetry.trace_context import TraceContext, accepted
from tests.support.leased_jobs import leased

PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
TRACE_ID = "0af7651916cd43dd8448eb211c80319c"


def test_a_context_is_kept_as_it_came() -> None:
    found = accepted(PARENT, "rojo=00f067aa0ba902b7,congo=t61rcWkgMzE")
    assert found is not None
    assert found.trace_id == TRACE_ID
    assert found.fields() == {
        "traceparent": PARENT,
        "tracestate": "rojo=00f067aa0ba902b7,congo=t61rcWkgMzE",
    }


@pytest.mark.parametrize(
    "parent",
    [
        None,
        7,
        "",
        PARENT.upper(),
        PARENT + "\n",
        PARENT + "-more",
        " " + PARENT,
        PARENT.replace("0af7651916cd43dd8448eb211c80319c", "0" * 32),
        PARENT.replace("b7ad6b7169203331", "0" * 16),
        "ff" + PARENT[2:],
        "cc" + PARENT[2:] + "more",
        "cc" + PARENT[2:] + "-" + "x" * 3_000_000,
        PARENT[:-1],
        PARENT.replace("-", "_"),
        PARENT[:-2] + "0\x00",
    ],
)
def test_what_is_no_traceparent_is_none(parent: object) -> None:
    assert accepted(parent, "a=b") is None


def test_of_a_later_version_the_known_part_is_kept() -> None:
    assert accepted("cc" + PARENT[2:] + "-what-comes") == TraceContext(PARENT)


@pytest.mark.parametrize(
    ("state", "kept"),
    [
        ("a=b", "a=b"),
        (" a=b ,\tc=d,, ", "a=b,c=d"),
        ("tenant-1@system=value with spaces", "tenant-1@system=value with spaces"),
        ("", ""),
        (None, ""),
        (7, ""),
        ("a=b,a=c", ""),
        ("A=b", ""),
        ("a=b\nc=d", ""),
        ("a=é", ""),
        ("a", ""),
        ("a=b=c", ""),
        (",".join(f"k{n}=v" for n in range(33)), ""),
        ("a=" + "v" * 600, ""),
    ],
)
def test_a_bad_tracestate_goes_and_its_traceparent_stays(
    state: object, kept: str
) -> None:
    assert accepted(PARENT, state) == TraceContext(PARENT, kept)


def test_meta_keeps_a_context_it_brings_itself() -> None:
    context = TraceContext(PARENT, "a=b")
    own = {"traceparent": "mine"}
    assert trace_context.kept(own, context) is own
    assert trace_context.kept(None, None) is None
    assert trace_context.kept({"tenant": 7}, context) == {
        "tenant": 7,
        "traceparent": PARENT,
        "tracestate": "a=b",
    }
    assert trace_context.kept(None, TraceContext(PARENT)) == {"traceparent": PARENT}


@pytest.mark.parametrize(
    "meta",
    [None, "{}", '{"traceparent": 7}', "traceparent", '"traceparent"', "[" * 100_000],
)
def test_meta_without_a_context_has_none(meta: str | None) -> None:
    assert trace_context.of_text(meta) is None


def test_a_job_is_of_the_trace_of_whoever_enqueued_it() -> None:
    row = leased(meta=json.dumps({"traceparent": PARENT}))
    job = prepare(Handler("try", lambda job: None), row)
    assert fields(job)["trace_id"] == fields(row)["trace_id"] == TRACE_ID
    plain = leased()
    assert "trace_id" not in fields(plain)
    assert "trace_id" not in fields(prepare(Handler("try", lambda job: None), plain))


def test_what_a_job_enqueues_carries_its_context_on() -> None:
    app = App()
    seen = []

    @app.handler("try")
    def handler(job: Job) -> None:
        seen.append(trace_context.carried.get())
        job.enqueue("next")
        job.enqueue("next", meta={"a": 1})
        job.enqueue("next", meta={"traceparent": "own"})

    outcome = app.run("try", meta={"traceparent": PARENT, "tracestate": "a=b"})
    context = {"traceparent": PARENT, "tracestate": "a=b"}
    assert [body["meta"] for body in outcome.followers] == [
        context,
        {"a": 1, **context},
        {"traceparent": "own"},
    ]
    assert seen == [TraceContext(PARENT, "a=b")]
    assert trace_context.carried.get() is None


def test_a_job_without_a_context_gives_none_on() -> None:
    app = App()
    app.handler("try")(lambda job: job.enqueue("next"))
    assert "meta" not in app.run("try").followers[0]


def test_an_async_handler_carries_its_context_on() -> None:
    app = App()

    @app.handler("try")
    async def handler(job: Job) -> None:
        job.enqueue("next")

    outcome = app.run("try", meta={"traceparent": PARENT})
    assert outcome.followers[0]["meta"] == {"traceparent": PARENT}
