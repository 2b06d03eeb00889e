"""What stands where a file is to be written: replaced, followed, or written to."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import pytest

from pgflow_cli.cli import bundle
from pgflow_cli.errors import OutputFailed
from pgflow_cli.local import output_files

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="needs named pipes")


def test_a_link_stays_and_what_it_leads_to_is_replaced_when_whole(
    tmp_path: Path,
) -> None:
    real, link = tmp_path / "real" / "a.json", tmp_path / "a.json"
    real.parent.mkdir()
    real.write_text("old")
    link.symlink_to("real/a.json")
    with output_files.opened(str(link)) as file:
        file.write(b"new")
        assert real.read_text() == "old"
    assert (link.is_symlink(), real.read_text()) == (True, "new")
    real.unlink()
    with output_files.opened(str(link)) as file:
        file.write(b"made")
    assert (link.is_symlink(), real.read_text()) == (True, "made")
    assert [p.name for p in real.parent.iterdir()] == ["a.json"]


@pytest.mark.parametrize("first_to_end", [0, 1])
def test_each_of_two_writers_of_one_file_publishes_its_own_text_and_all_of_it(
    tmp_path: Path, first_to_end: int
) -> None:
    target = tmp_path / "dead.jsonl"
    with ExitStack() as one, ExitStack() as other:
        stacks, texts = (one, other), (b"1" * 5000, b"2" * 5000)
        files = [stack.enter_context(output_files.opened(target)) for stack in stacks]
        last_to_end = 1 - first_to_end
        files[last_to_end].write(texts[last_to_end][:100])
        files[last_to_end].flush()
        files[first_to_end].write(texts[first_to_end])
        stacks[first_to_end].close()
        assert target.read_bytes() == texts[first_to_end]
        files[last_to_end].write(texts[last_to_end][100:])
        stacks[last_to_end].close()
        assert target.read_bytes() == texts[last_to_end]
    assert [p.name for p in tmp_path.iterdir()] == ["dead.jsonl"]


def test_a_writer_that_fails_removes_its_own_partial_file_and_no_other(
    tmp_path: Path,
) -> None:
    target = tmp_path / "a.json"
    target.write_text("old")
    with output_files.opened(target):
        [theirs] = tmp_path.glob("a.json.partial-*")
        assert theirs.stat().st_mode & 0o777 == 0o600
        with pytest.raises(ValueError, match="no"):
            _write_half(target, _fail)
        assert list(tmp_path.glob("*.partial-*")) == [theirs]
        assert target.read_text() == "old"


@pytest.mark.parametrize("name", ["SIGTERM", "SIGHUP", "SIGINT"])
def test_a_signal_removes_the_partial_file_and_leaves_the_one_before(
    tmp_path: Path, name: str
) -> None:
    target, number = tmp_path / "a.json", getattr(signal, name)
    target.write_text("old")
    before = signal.signal(number, _default(number))
    try:
        # Raised at once in this process: it comes while the file is half written.
        with pytest.raises((SystemExit, KeyboardInterrupt)) as ended:
            _write_half(target, lambda: signal.raise_signal(number))
        assert signal.getsignal(number) is _default(number)
    finally:
        signal.signal(number, before)
    code = {"SIGTERM": 143, "SIGHUP": 129}.get(name)
    assert getattr(ended.value, "code", None) == code
    assert (target.read_text(), len(list(tmp_path.iterdir()))) == ("old", 1)


def test_signals_that_come_while_the_partial_file_is_removed_do_not_save_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    remove = Path.unlink

    def signaled(path: Path, missing_ok: bool = False) -> None:
        signal.raise_signal(signal.SIGINT)
        remove(path, missing_ok=missing_ok)

    monkeypatch.setattr(Path, "unlink", signaled)
    with pytest.raises(KeyboardInterrupt):
        _write_half(tmp_path / "a", _fail)
    assert list(tmp_path.iterdir()) == []


def test_a_hangup_that_is_ignored_as_under_nohup_ends_no_writer(tmp_path: Path) -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with output_files.opened(tmp_path / "a") as file:
            signal.raise_signal(signal.SIGHUP)
            file.write(b"whole")
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)
    assert (tmp_path / "a").read_bytes() == b"whole"


def test_a_planted_link_is_never_written_through(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    victim = tmp_path / "victim"
    victim.write_text("precious")
    monkeypatch.setattr(output_files.secrets, "token_hex", lambda _: "guessed")
    (tmp_path / "a.json.partial-guessed").symlink_to(victim)
    with pytest.raises(FileExistsError), output_files.opened(tmp_path / "a.json"):
        pass
    assert victim.read_text() == "precious"


def _write_half(target: Path, then: Callable[[], object]) -> None:
    with output_files.opened(target) as file:
        file.write(b"half")
        file.flush()
        then()
        raise AssertionError("it went on")


def _fail() -> None:
    raise ValueError("no")


def _default(number: int) -> object:
    return signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL


def test_the_reader_of_a_named_pipe_gets_the_text(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with subprocess.Popen(["cat", pipe], stdout=subprocess.PIPE) as reader:
        try:
            bundle.write(str(pipe), {"a": 1})
            if not pipe.is_fifo():
                reader.kill()
            assert pipe.is_fifo()
            assert reader.stdout is not None
            assert reader.stdout.read() == b'{\n  "a": 1\n}\n'
        finally:
            reader.kill()
    assert [p.name for p in tmp_path.iterdir()] == ["pipe"]


def test_a_link_to_a_named_pipe_is_no_file_either(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to("pipe")
    (tmp_path / "file").write_text("")
    special = [p.name for p in sorted(tmp_path.iterdir()) if output_files.is_special(p)]
    assert special == ["link", "pipe"]
    assert not output_files.is_special(tmp_path)
    assert not output_files.is_special(tmp_path / "none")


@pytest.mark.skipif(
    not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root plants it"
)
def test_a_link_of_another_account_in_a_folder_of_all_is_not_followed(
    tmp_path: Path,
) -> None:
    shared, victim = tmp_path / "shared", tmp_path / "victim"
    shared.mkdir()
    shared.chmod(0o1777)
    victim.write_text("precious")
    (shared / "a.json").symlink_to(victim)
    os.chown(shared / "a.json", 12345, 12345, follow_symlinks=False)
    with pytest.raises(OutputFailed, match="a link that belongs to another account"):
        bundle.write(str(shared / "a.json"), {})
    assert victim.read_text() == "precious"
