"""No text from data commands a terminal, starts a formula, or shows a password."""

from __future__ import annotations

import csv
import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pgflow_cli.formats import safe_text

CONTROLS = {
    *map(chr, range(0x20)),
    *map(chr, range(0x7F, 0xA0)),
    *"\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069",
}
anything = st.text(st.characters(exclude_categories=())) | st.text(
    st.sampled_from([*sorted(CONTROLS), *'a=-",\ud800'])
)


@given(anything)
def test_a_neutral_line_holds_nothing_that_commands_a_terminal(text: str) -> None:
    line = safe_text.neutral(text)
    assert not CONTROLS & set(line)
    assert line.splitlines() in ([line], [])
    line.encode("utf-8")


@given(anything)
def test_neutral_lines_hold_line_breaks_and_no_other_control(text: str) -> None:
    assert not (CONTROLS - {"\n"}) & set(safe_text.neutral_lines(text))


@given(st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E)))
def test_harmless_text_stays_as_it_is(text: str) -> None:
    assert safe_text.neutral(text) == text
    assert safe_text.neutral_lines(text) == text


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b]0;owned\x07", "\\x1b]0;owned\\x07"),
        ("\x9b31m", "\\x9b31m"),
        ("a\nb", "a\\nb"),
        ("\u202egnp.exe", "\\u202egnp.exe"),
    ],
)
def test_what_is_taken_out_is_shown(text: str, shown: str) -> None:
    assert safe_text.neutral(text) == shown


@given(anything)
def test_no_csv_cell_is_a_formula(text: str) -> None:
    buffer = io.StringIO()
    csv.writer(buffer).writerow([safe_text.csv_cell(text), "end"])
    buffer.seek(0)
    [[cell, end]] = csv.reader(buffer)
    assert not cell.startswith(("=", "+", "-", "@", "\t", "\r"))
    assert end == "end"


@given(st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E)))
def test_a_cell_is_its_text_but_for_the_sign_before_a_formula(text: str) -> None:
    assert safe_text.csv_cell(text).removeprefix("'") == text.removeprefix("'")


@pytest.mark.parametrize(
    "text",
    [
        "postgres://app:Zx9canary@db:5432/app",
        "cannot read postgresql://app:Zx9canary@db/app?x=1, sorry",
        "postgres://app:Zx9c@nary:Zx9canary@db/app",
        "host=db password=Zx9canary dbname=app",
        "host=db password = 'Zx9canary with\\' blanks' dbname=app",
        "postgres://db/app?user=u&password=Zx9canary",
        "PGPASSWORD=Zx9canary pgflow",
        "api_token=Zx9canary",
    ],
)
def test_passwords_are_masked(text: str) -> None:
    masked = safe_text.redact(text)
    assert "Zx9" not in masked
    assert "***" in masked


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("postgres://app:Zx9/canary@db:5432/app", "postgres://app:***@db:5432/app"),
        ("postgres://app:Zx9 canary@db/app", "postgres://app:***@db/app"),
        ("postgres://app:Zx9@canary@db/app", "postgres://app:***@db/app"),
        ("postgres://app:Zx9#?canary@db", "postgres://app:***@db"),
        ("postgres://db/app?password=Zx9canary", "postgres://db/app?password=***"),
        ("host=db password=Zx9\\ canary user=app", "host=db password=***"),
        ("host=db password = 'Zx9 canary", "host=db password =***"),
        ("postgres://app@db:5432/app", "postgres://app@db:5432/app"),
        ("postgres://db/app", "postgres://db/app"),
        ("dev:", "dev:"),
    ],
)
def test_a_connection_string_shows_no_password_however_it_is_written(
    url: str, shown: str
) -> None:
    assert safe_text.redact_url(url) == shown


def test_an_address_without_a_password_stays_as_it_is() -> None:
    text = "cannot connect to postgres://app@db:5432/app: connection refused"
    assert safe_text.redact(text) == text


def test_ascii_keeps_the_meaning_of_what_it_cannot_show() -> None:
    assert safe_text.ascii_only("naïve… 3 × 4") == "na\\xefve... 3 x 4"
