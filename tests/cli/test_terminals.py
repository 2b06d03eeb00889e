"""On a terminal things look otherwise than in a pipe; and pipes break in silence."""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest

from tests.cli.terminals import on_a_terminal, program

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="needs a pty")

ROW = '{"job_id": "01a2081d-307c-7b77-8a50-0f6c9c41e07b", "message": "x" * 200}'
COLUMNS = '[Column("job_id", "ID", kind="id"), Column("message")]'
TABLE = program(f"records.write([{ROW}], {COLUMNS})")
MANY = program(f"records.write([{ROW}] * 100, {COLUMNS})")
WORDS = program('messages.warn("odd … thing")')


@pytest.mark.parametrize("width", [80, 40, 20])
def test_a_table_fits_the_width(width: int) -> None:
    seen = on_a_terminal(TABLE, size=(24, width))
    assert seen.code == 0
    assert len(seen.lines) == 2
    assert all(len(line.rstrip()) <= width for line in seen.lines)
    assert seen.lines[1].startswith("9c41e07b  xx")
    assert "…" in seen.lines[1]


@pytest.mark.parametrize("width", [1, 2, 7])
def test_a_terminal_too_narrow_for_anything_ends_nothing(width: int) -> None:
    seen = on_a_terminal(TABLE, size=(1, width), variables={"PGFLOW_PAGER": "off"})
    assert seen.code == 0
    assert "Traceback" not in seen.text


@pytest.mark.parametrize(
    ("arguments", "variables", "colored"),
    [
        ([], {}, True),
        ([], {"NO_COLOR": "1"}, False),
        ([], {"NO_COLOR": ""}, True),
        ([], {"TERM": "dumb"}, False),
        ([], {"TERM": "dumb", "FORCE_COLOR": "1"}, True),
        ([], {"NO_COLOR": "1", "FORCE_COLOR": "1"}, False),
        (["--color", "never"], {"FORCE_COLOR": "1"}, False),
        (["--color", "always"], {"NO_COLOR": "1"}, True),
    ],
)
def test_colour_on_a_terminal(
    arguments: list[str], variables: dict[str, str], colored: bool
) -> None:
    seen = on_a_terminal([*WORDS, *arguments], variables=variables)
    assert ("\x1b[" in seen.text) is colored
    assert "Warning" in seen.text


@pytest.mark.parametrize(
    ("arguments", "variables", "colored"),
    [
        ([], {}, False),
        ([], {"FORCE_COLOR": "1"}, True),
        (["--color", "always"], {}, True),
    ],
)
def test_colour_in_a_pipe(
    arguments: list[str], variables: dict[str, str], colored: bool
) -> None:
    result = subprocess.run(
        [*WORDS, *arguments],
        env={**os.environ, **variables},
        capture_output=True,
        text=True,
        check=True,
    )
    assert ("\x1b[" in result.stderr) is colored


def test_an_error_has_no_colour_in_a_pipe_and_some_on_a_terminal() -> None:
    words = program('from pgflow_cli.errors import NotFound\nraise NotFound("gone")')
    assert "\x1b[" in on_a_terminal(words).text
    assert "\x1b[" not in on_a_terminal([*words, "--color", "never"]).text
    result = subprocess.run(words, capture_output=True, text=True, check=False)
    assert (result.returncode, result.stderr) == (3, "Error: gone\n")


def test_a_screen_that_overflows_goes_through_the_pager(tmp_path: Path) -> None:
    pager = f"tee {tmp_path}/paged"
    seen = on_a_terminal(MANY, variables={"PGFLOW_PAGER": pager})
    assert seen.code == 0
    assert len((tmp_path / "paged").read_text().splitlines()) == 101


@pytest.mark.parametrize("arguments", [["--no-pager"], ["-o", "jsonl"]])
def test_a_pager_is_not_started_where_it_is_not_wanted(
    tmp_path: Path, arguments: list[str]
) -> None:
    pager = {"PGFLOW_PAGER": f"tee {tmp_path}/paged"}
    seen = on_a_terminal([*MANY, *arguments], variables=pager)
    assert len(seen.lines) >= 100
    assert not (tmp_path / "paged").exists()


def test_a_small_screen_is_not_paged(tmp_path: Path) -> None:
    on_a_terminal(TABLE, variables={"PGFLOW_PAGER": f"tee {tmp_path}/paged"})
    assert not (tmp_path / "paged").exists()


def test_a_pager_that_is_not_there_is_done_without() -> None:
    seen = on_a_terminal(MANY, variables={"PGFLOW_PAGER": "no-such-pager"})
    assert seen.code == 0
    assert len(seen.lines) == 101


def test_a_pager_that_quits_early_is_no_error() -> None:
    lots = program(f"records.write([{ROW}] * 5000, {COLUMNS})")
    seen = on_a_terminal(lots, variables={"PGFLOW_PAGER": "head -1"})
    assert seen.code == 0
    assert "Error" not in seen.text


def test_a_pipe_that_closes_early_is_silent() -> None:
    for form in ("plain", "json", "jsonl", "csv", "ids"):
        lots = program(f"records.write([{ROW}] * 5000, {COLUMNS})")
        with subprocess.Popen(
            [*lots, "-o", form], stdout=subprocess.PIPE, stderr=subprocess.PIPE
        ) as process:
            assert process.stdout is not None
            assert process.stderr is not None
            process.stdout.readline()
            process.stdout.close()
            assert process.stderr.read() == b""
            assert process.wait(60) == 141


def test_a_closed_stdout_is_silent() -> None:
    words = " ".join(f"'{word}'" for word in (sys.executable, "-m", "pgflow_cli", "-V"))
    result = subprocess.run(
        ["sh", "-c", f"{words} >&-"], capture_output=True, text=True, check=False
    )
    assert "Traceback" not in result.stderr


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no full device")
@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize("arguments", [["--help"], ["version", "-o", "json"]])
def test_a_full_disk_behind_stdout_is_exit_74_in_one_sentence(
    unbuffered: str, arguments: list[str]
) -> None:
    with open("/dev/full", "wb") as full:
        result = subprocess.run(
            [sys.executable, "-m", "pgflow_cli", *arguments],
            env={**os.environ, "PYTHONUNBUFFERED": unbuffered},
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    said = "Error: cannot write to stdout: No space left on device\n"
    assert (result.returncode, result.stderr) == (74, said)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no full device")
def test_a_full_disk_behind_stderr_leaves_the_exit_code() -> None:
    with open("/dev/full", "wb") as full:
        words = [sys.executable, "-m", "pgflow_cli", "no-such-command"]
        result = subprocess.run(words, stderr=full, check=False)
    assert result.returncode == 2


def test_a_stdout_that_does_not_block_is_waited_for() -> None:
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    with suppress(BlockingIOError):  # until it is full
        while os.write(writer, b"x" * 4096):
            pass
    process = subprocess.Popen(
        [sys.executable, "-m", "pgflow_cli", "--help"], stdout=writer
    )
    os.close(writer)
    with open(reader, encoding="utf-8") as printed:
        assert "Operate pgflow" in printed.read()
    assert process.wait(60) == 0


WHOLE = program(
    """
from pgflow_cli.cli import startup
startup.open_standard_streams()
sys.stdout.buffer.write(b'x' * 1_000_000)
"""
)
UNBUFFERED = {**os.environ, "PYTHONUNBUFFERED": "1"}


def test_what_a_full_disk_takes_in_part_is_exit_74_without_a_buffer(
    tmp_path: Path,
) -> None:
    import resource  # noqa: PLC0415 - Windows has none

    limit = 64 * 1024
    with open(tmp_path / "x", "wb") as file:
        result = subprocess.run(
            WHOLE,
            env=UNBUFFERED,
            stdout=file,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
            preexec_fn=lambda: resource.setrlimit(
                resource.RLIMIT_FSIZE, (limit, limit)
            ),
        )
    assert (result.returncode, result.stderr) == (
        74,
        "Error: cannot write to stdout: File too large\n",
    )


def test_a_reader_that_leaves_early_is_exit_141_without_a_buffer() -> None:
    with subprocess.Popen(WHOLE, env=UNBUFFERED, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.read(100)
        process.stdout.close()
        assert process.wait(60) == 141


def test_a_stdout_that_does_not_block_gets_all_without_a_buffer() -> None:
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    with subprocess.Popen(WHOLE, env=UNBUFFERED, stdout=writer) as process:
        os.close(writer)
        with open(reader, "rb") as printed:
            assert len(printed.read()) == 1_000_000
        assert process.wait(60) == 0


@pytest.mark.parametrize("locale", ["C", "POSIX"])
def test_a_terminal_without_unicode_gets_ascii(locale: str) -> None:
    for words in (TABLE, WORDS):
        seen = on_a_terminal(words, variables={"LC_ALL": locale})
        assert seen.code == 0
        assert seen.text.isascii()


def test_a_stream_that_cannot_carry_a_character_shows_its_code() -> None:
    words = program('records.write([{"a": "naïve ∞"}], [Column("a")])')
    result = subprocess.run(
        words,
        env={**os.environ, "PYTHONIOENCODING": "latin-1", "PYTHONUTF8": "0"},
        capture_output=True,
        check=True,
    )
    assert b"\\u221e" in result.stdout


CONFIRM = program('messages.confirm("replay 14 jobs", yes=False)\nprint("went on")')
SEVERE = program(
    'messages.confirm_name("purge emails", "emails", given=None)\nprint("went on")'
)


@pytest.mark.parametrize(
    ("words", "typed", "code"),
    [
        (CONFIRM, "y\n", 0),
        (CONFIRM, "YES\n", 0),
        (CONFIRM, "n\n", 1),
        (CONFIRM, "\n", 1),
        (CONFIRM, "\x04", 1),
        (SEVERE, "emails\n", 0),
        (SEVERE, "email\n", 1),
        (SEVERE, "y\n", 1),
    ],
)
def test_a_person_is_asked(words: list[str], typed: str, code: int) -> None:
    seen = on_a_terminal(words, typed=typed)
    assert seen.code == code
    assert "[y/N]" in seen.text or "Type emails" in seen.text
    assert ("went on" in seen.text) is (code == 0)


def test_a_person_who_wants_no_questions_is_refused() -> None:
    seen = on_a_terminal([*CONFIRM, "--no-input"])
    assert seen.code == 4
    assert "--yes" in seen.text


def test_a_bar_appears_on_a_terminal_once_it_is_worth_it() -> None:
    patient = program(
        "import itertools\n"
        "from pgflow_cli.cli.output import terminal\n"
        "terminal.time.monotonic = itertools.count(0, {step}).__next__\n"
        'with terminal.progress("enqueue", total=30) as advance:\n'
        "    for _ in range(3): advance(10)"
    )
    slow = [word.replace("{step}", "0.4") for word in patient]
    quick = [word.replace("{step}", "0.01") for word in patient]
    assert "30/30" in on_a_terminal(slow).text
    assert on_a_terminal([*slow, "--quiet"]).text == ""
    assert on_a_terminal(quick).text == ""


def test_a_live_table_is_redrawn_in_place() -> None:
    words = program(
        'with live.live([Column("n", kind="number")]) as show:\n'
        '    show([{"n": 1}])\n'
        '    show([{"n": 2}])'
    )
    seen = on_a_terminal(words)
    assert seen.code == 0
    assert "\x1b[" in seen.text
    assert "2" in seen.lines[-1] or "2" in seen.text
