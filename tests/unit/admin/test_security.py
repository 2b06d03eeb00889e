"""What a token and a cookie allow, and for how long."""

from __future__ import annotations

import hmac

import pytest

from pgflow_cli.admin.security import COOKIE_SECONDS, Keyring, Role
from pgflow_cli.errors import ConfigurationError

OPERATOR = "operator-token-0123456789"
READER = "reader-token-0123456789"
SCRAPER = "scraper-token-0123456789"
NOW = 1_800_000_000.0


@pytest.fixture
def keyring() -> Keyring:
    return Keyring(["# ours", "", OPERATOR, f"{READER} read"], [SCRAPER])


@pytest.mark.parametrize(
    ("token", "role"),
    [
        (OPERATOR, Role.OPERATE),
        (READER, Role.READ),
        (SCRAPER, Role.METRICS),
        (OPERATOR[:-1], Role.ANONYMOUS),
        (f"{READER} read", Role.ANONYMOUS),
        ("# ours", Role.ANONYMOUS),
        ("", Role.ANONYMOUS),
        ("ü\udce4\x00", Role.ANONYMOUS),
    ],
)
def test_a_token_allows_what_its_line_says(
    keyring: Keyring, token: str, role: Role
) -> None:
    assert keyring.role_of(token) is role


@pytest.mark.parametrize("token", [OPERATOR, READER, SCRAPER, "wrong", ""])
def test_how_long_an_answer_takes_tells_nothing_of_the_token(
    keyring: Keyring, monkeypatch: pytest.MonkeyPatch, token: str
) -> None:
    """Whatever matches, every digest is compared, and in constant time."""
    compared = []

    def compare(known: bytes, given: bytes) -> bool:
        compared.append((len(known), len(given)))
        return known == given

    monkeypatch.setattr(hmac, "compare_digest", compare)
    keyring.role_of(token)
    assert compared == [(32, 32)] * 3
    compared.clear()
    keyring.role_of_cookie(keyring.cookie(token, NOW), NOW)
    assert len(compared) == 2


def test_a_token_of_both_kinds_allows_the_most() -> None:
    assert Keyring([OPERATOR], [OPERATOR]).role_of(OPERATOR) is Role.OPERATE


@pytest.mark.parametrize("line", ["brief", f"{OPERATOR} write", f"{OPERATOR} read x"])
def test_a_bad_line_is_refused_by_its_number_alone(line: str) -> None:
    with pytest.raises(ConfigurationError) as refused:
        Keyring([line])
    assert "token 1" in refused.value.message
    said = refused.value.message + str(refused.value.hints)
    assert line.partition(" ")[0] not in said


def test_a_cookie_stands_for_its_token_for_twelve_hours(keyring: Keyring) -> None:
    cookie = keyring.cookie(READER, NOW)
    assert keyring.role_of_cookie(cookie, NOW + COOKIE_SECONDS - 1) is Role.READ
    assert keyring.role_of_cookie(cookie, NOW + COOKIE_SECONDS) is Role.ANONYMOUS


def test_a_cookie_works_with_every_replica_until_its_token_is_gone(
    keyring: Keyring,
) -> None:
    cookie = keyring.cookie(OPERATOR, NOW)
    assert Keyring([OPERATOR]).role_of_cookie(cookie, NOW) is Role.OPERATE
    assert Keyring([f"{OPERATOR} read"]).role_of_cookie(cookie, NOW) is Role.READ
    assert Keyring([READER]).role_of_cookie(cookie, NOW) is Role.ANONYMOUS


def test_a_cookie_does_not_hold_its_token(keyring: Keyring) -> None:
    assert OPERATOR not in keyring.cookie(OPERATOR, NOW)


def test_a_cookie_cannot_be_prolonged_or_made_into_anothers(keyring: Keyring) -> None:
    name, expires, signature = keyring.cookie(READER, NOW).split(".")
    other, _, _ = keyring.cookie(OPERATOR, NOW).split(".")
    later = f"{int(expires, 16) + 1:x}"
    for forged in (
        f"{name}.{later}.{signature}",
        f"{other}.{expires}.{signature}",
        f"{name}.{expires}.{signature[:-1]}",
        f"{name}.{expires}.",
        f"{name}.zz.{signature}",
        "..",
        "",
        "ü.ä.ö",
    ):
        assert keyring.role_of_cookie(forged, NOW) is Role.ANONYMOUS


def test_a_scrapers_token_makes_no_cookie_that_allows_anything(
    keyring: Keyring,
) -> None:
    cookie = keyring.cookie(SCRAPER, NOW)
    assert keyring.role_of_cookie(cookie, NOW) is Role.ANONYMOUS


@pytest.mark.parametrize("between", [" ", "\t", "  ", " \t "])
def test_any_blank_stands_between_a_token_and_its_role(between: str) -> None:
    token = "reading-reading-reading-0001"
    assert Keyring([f"{token}{between}read"]).role_of(token) is Role.READ
