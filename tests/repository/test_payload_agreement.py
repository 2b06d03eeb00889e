"""What the check in Python lets through, the database takes."""

from __future__ import annotations

import json
from typing import Any

import psycopg
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pgflow_cli.errors import UsageError
from pgflow_cli.formats import payload_text

Connection = psycopg.Connection[Any]

digits = st.text("0123456789", min_size=1, max_size=330)
numbers = st.builds(
    "{}{}{}{}".format,
    st.sampled_from(["", "-"]),
    st.integers(0, 10**20).map(str) | digits.map(lambda text: text.lstrip("0") or "0"),
    st.just("") | digits.map(".{}".format),
    st.just("") | st.integers(-400, 400).map("e{}".format),
)
pieces = st.text('\\u0dD8cC1/"bn é😀{[:,', max_size=12).map('"{}"'.format)
texts = st.recursive(
    numbers | pieces | st.sampled_from(["null", "true", "NaN", "Infinity"]),
    lambda inner: (
        st.lists(inner, max_size=4).map(lambda parts: f"[{','.join(parts)}]")
        | st.lists(st.tuples(pieces, inner), max_size=3).map(
            lambda pairs: f"{{{','.join(f'{k}:{v}' for k, v in pairs)}}}"
        )
    ),
    max_leaves=8,
)


@settings(
    max_examples=300,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(texts)
def test_what_passes_the_check_is_stored(connection: Connection, text: str) -> None:
    try:
        payload_text.check_payload(text)
    except UsageError:
        return
    job = f'{{"job_type": "a", "payload_json": {text}}}'
    row = connection.execute(
        "select %s::jsonb::text, pgflow.enqueue('a', %s), pgflow.enqueue_many(%s)",
        (text, text, f"[{job}]"),
    ).fetchone()
    assert row is not None
    # A worker reads the stored text; what it finds is what the producer meant.
    assert json.loads(row[0], parse_int=float) == json.loads(text, parse_int=float)
