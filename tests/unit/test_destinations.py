"""What stands where a file is to be written: replaced, followed, or written to."""

from __future__ import annotations

import os
import subprocess
import sys
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
