"""Fingerprints: one bug with many ids is one, two bugs are two."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from types import ModuleType

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pgflow_cli.handlers import fingerprints
from pgflow_cli.handlers.fingerprints import Frame, blanked, fingerprint, frames_of


@given(st.text(max_size=3000), st.text(max_size=20))
def test_it_is_a_version_and_eight_hex_digits_of_any_message(
    message: str, name: str
) -> None:
    found = fingerprint("t", "UNKNOWN", error_class=name, message=message)
    assert re.fullmatch(r"f1-[0-9a-f]{8}", found)


def test_it_is_the_same_in_every_process_and_release() -> None:
    found = fingerprint(
        "email_send",
        "DEPENDENCY_DOWN",
        error_class="ConnectionRefusedError",
        frames=[Frame("shop.mail", "send", "raise ConnectionRefusedError")],
        message="mail.internal:25 refused",
    )
    # Stored in dead_letters: a change to the rule needs a new version, not a new value.
    assert found == "f1-9c7557c9"


@pytest.mark.parametrize(
    "pair",
    [
        ("order 17 has no lines", "order 90210 has no lines"),
        ("key 'a b' is taken", "key 'O'Brien' is taken"),
        ('no user "ann"', 'no user "bob"'),
        ("can't open 'x'", "can't open 'y z'"),
        ("cannot read /srv/app/r12/a.csv", "cannot read /srv/app/r13/b/c.csv"),
        ("cannot read data/in/1.csv", "cannot read data/out/x.csv"),
        ("cannot read C:\\in\\a.csv", "cannot read D:\\b.csv"),
        ("GET https://a.example/x?y=1 failed", "GET http://b.example:80/ failed"),
        (
            "job 019ab3c2-7d0e-7c11-8a2b-9f0e9c41e07b",
            "job 019ab3c2-0000-7c11-8a2b-9f0e9c41ffff",
        ),
        ("object at 0x7f3b1c", "object at 0x10"),
        ("digest deadbeef", "digest 9f0e9c41e07b"),
        ("charge ch_3Nx81kLkdIwHu7ix declined", "charge ch_1AbCdEfGh2345678 declined"),
        ("took 1.5 s", "took 12,000.75 s"),
        ("at -3", "at 4"),
        ("to ann@example.org", "to bob.b@mail.example.com"),
        ("order7 is late", "order81 is late"),
        ("two\n  lines", "two lines"),
    ],
)
def test_what_differs_from_job_to_job_is_blanked(pair: tuple[str, str]) -> None:
    assert blanked(pair[0]) == blanked(pair[1])


@pytest.mark.parametrize(
    "pair",
    [
        ("read and/or write", "read or write"),
        ("no lines", "no customer"),
        ("can't read it, won't try", "can't write it, won't try"),
        ("utf8 expected", "ascii expected"),
        ("sha256 is wrong", "md5 is wrong"),
    ],
)
def test_words_are_kept(pair: tuple[str, str]) -> None:
    assert blanked(pair[0]) != blanked(pair[1])


@settings(deadline=2_000)
@given(
    st.sampled_from(["'", '"', "/", "a1", "x@", "f", "0x", "://", "1.", "-"]),
    st.integers(1, 4000),
)
def test_no_message_is_expensive(piece: str, times: int) -> None:
    # Exponential or cubic rules would not end; the test's own deadline is the
    # assertion.
    assert isinstance(blanked(piece * times), str)


APPLICATION = """
def total(order):
    count = order["lines"]
    return order["price"] * count

def run(order):
    return total(order)

def recurse():
    recurse()
"""


def module(tmp_path: Path, source: str, release: str = "r1") -> ModuleType:
    """Import an application as it lies in one release's directory."""
    file = tmp_path / release / "shop.py"
    file.parent.mkdir(exist_ok=True)
    file.write_text(source)
    made = ModuleType("shop")
    exec(compile(source, str(file), "exec"), made.__dict__)  # noqa: S102 - a test's own
    return made


def frames(function: object, *arguments: object) -> list[Frame]:
    try:
        function(*arguments)  # type: ignore[operator]
    except Exception as error:
        return frames_of(error.__traceback__, home="shop")
    raise AssertionError("nothing was raised")


def test_frames_name_module_function_and_the_raising_line(tmp_path: Path) -> None:
    shop = module(tmp_path, APPLICATION)
    found = frames(shop.run, {"price": 1})
    assert found[:2] == [
        Frame("shop", "total", 'count = order["lines"]'),
        Frame("shop", "run"),
    ]


def test_a_deploy_does_not_split_a_bug(tmp_path: Path) -> None:
    old = module(tmp_path, APPLICATION, "r1")
    new = module(tmp_path, "import json\n\n\n" + APPLICATION, "r2")
    assert frames(old.run, {"price": 1}) == frames(new.run, {"price": 1})


def test_two_bugs_in_one_function_are_two(tmp_path: Path) -> None:
    shop = module(tmp_path, APPLICATION)
    assert frames(shop.run, {"price": 1}) != frames(shop.run, {"lines": 1})


def test_libraries_are_passed_over(tmp_path: Path) -> None:
    shop = module(tmp_path, "import json\ndef run(text):\n    json.loads(text)\n")
    found = frames(shop.run, "{")
    assert found[0] == Frame("shop", "run", "json.loads(text)")


def test_an_installed_application_is_no_library(tmp_path: Path) -> None:
    file = Path(json.__file__).parent / "shop.py"
    shop = ModuleType("shop.jobs")
    source = "def run():\n    raise ValueError\n"
    exec(compile(source, str(file), "exec"), shop.__dict__)  # noqa: S102 - a test's own
    assert frames(shop.run)[0][:2] == ("shop.jobs", "run")


def test_if_there_are_only_libraries_they_count() -> None:
    try:
        json.loads("{")
    except ValueError as error:
        traceback = error.__traceback__
        assert traceback is not None
        found = frames_of(traceback.tb_next)
    assert [f.module for f in found] == ["json.decoder", "json.decoder", "json"]


def test_a_recursion_of_any_depth_has_three_frames(tmp_path: Path) -> None:
    shop = module(tmp_path, APPLICATION)
    limit = sys.getrecursionlimit()
    assert [f.function for f in frames(shop.recurse)] == ["recurse"] * 3
    assert sys.getrecursionlimit() == limit


@pytest.mark.parametrize(
    "change",
    [
        {"job_type": "other"},
        {"error_code": "TIMEOUT"},
        {"error_class": "KeyError"},
        {"frames": [Frame("shop", "other")]},
        {"message": "something else"},
    ],
)
def test_each_part_splits(change: dict[str, object]) -> None:
    first: dict[str, object] = {
        "job_type": "email_send",
        "error_code": "UNKNOWN",
        "error_class": "ValueError",
        "frames": [Frame("shop", "run")],
        "message": "order 17 has no lines",
    }

    def of(parts: dict[str, object]) -> str:
        rest = dict(parts)
        job_type, code = str(rest.pop("job_type")), str(rest.pop("error_code"))
        return fingerprint(job_type, code, **rest)  # type: ignore[arg-type]

    assert of(first) != of({**first, **change})
    assert fingerprints.VERSION == "f1"
