"""The merge patch of a payload: what RFC 7396 says, by its own examples."""

from __future__ import annotations

import json

import pytest

# Appendix A: target, patch, result.
EXAMPLES = [
    ('{"a":"b"}', '{"a":"c"}', '{"a":"c"}'),
    ('{"a":"b"}', '{"b":"c"}', '{"a":"b","b":"c"}'),
    ('{"a":"b"}', '{"a":null}', "{}"),
    ('{"a":"b","b":"c"}', '{"a":null}', '{"b":"c"}'),
    ('{"a":["b"]}', '{"a":"c"}', '{"a":"c"}'),
    ('{"a":"c"}', '{"a":["b"]}', '{"a":["b"]}'),
    ('{"a":{"b":"c"}}', '{"a":{"b":"d","c":null}}', '{"a":{"b":"d"}}'),
    ('{"a":[{"b":"c"}]}', '{"a":[1]}', '{"a":[1]}'),
    ('["a","b"]', '["c","d"]', '["c","d"]'),
    ('{"a":"b"}', '["c"]', '["c"]'),
    ('{"a":"foo"}', "null", "null"),
    ('{"a":"foo"}', '"bar"', '"bar"'),
    ('{"e":null}', '{"a":1}', '{"e":null,"a":1}'),
    ("[1,2]", '{"a":"b","c":null}', '{"a":"b"}'),
    ("{}", '{"a":{"bb":{"ccc":null}}}', '{"a":{"bb":{}}}'),
]
# Section 3's longer one.
DOCUMENT = """{"title": "Goodbye!",
  "author": {"givenName": "John", "familyName": "Doe"},
  "tags": ["example", "sample"], "content": "This will be unchanged"}"""
PATCH = """{"title": "Hello!", "phoneNumber": "+01-123-456-7890",
  "author": {"familyName": null}, "tags": ["example"]}"""
RESULT = """{"title": "Hello!", "author": {"givenName": "John"}, "tags": ["example"],
  "content": "This will be unchanged", "phoneNumber": "+01-123-456-7890"}"""


@pytest.mark.parametrize(
    ("target", "patch", "result"), [*EXAMPLES, (DOCUMENT, PATCH, RESULT)]
)
def test_the_examples_of_the_standard(connection, target, patch, result):
    row = connection.execute(
        "select pgflow.merge_patch(%s::jsonb, %s::jsonb)", (target, patch)
    ).fetchone()
    assert row == (json.loads(result),)


def test_a_number_keeps_its_digits(connection):
    row = connection.execute(
        "select pgflow.merge_patch(%s::jsonb, %s::jsonb)::text",
        ('{"a": 12345678901234567890.10, "b": 1}', '{"b": 1.50}'),
    ).fetchone()
    assert row == ('{"a": 12345678901234567890.10, "b": 1.50}',)


def test_nobody_else_may_call_it(connection):
    row = connection.execute(
        "select has_function_privilege('public', 'pgflow.merge_patch(jsonb, jsonb)',"
        " 'execute')"
    ).fetchone()
    assert row == (False,)
