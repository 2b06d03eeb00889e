"""Through how many of pgflow's files a command goes, from its first line to its last.

Run it with `python -m tests.benchmarks files`; `--names` lists the files. A file counts
if one of its functions is called in one of the command's processes, as
`sys.setprofile` tells: what a file does while it is imported does not count. The
figures say how many files a reader opens who follows one command through the code;
they depend on no speed of the machine.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from tests.benchmarks.durable import durable_server

ROOT = Path(__file__).resolve().parents[2]

# Python runs this when a process starts, also in the processes that `work` starts. Each
# file is written down when it is first met: a process may end without a last word.
# Flags of code: a function's has CO_OPTIMIZED (1), a module's or class body's has not.
PROFILE = """
import os, sys, threading
_seen = set()
_out = os.open(os.environ["FILES_RUN"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
_package = os.environ["FILES_OF"]
def _note(frame, event, arg):
    code = frame.f_code
    name = code.co_filename
    if event != "call" or name in _seen or not code.co_flags & 1:
        return
    if name.startswith(_package) and not _is_imported(frame):
        _seen.add(name)
        os.write(_out, (name[len(_package):] + "\\n").encode())
def _is_imported(frame):
    while frame is not None:
        if frame.f_code.co_name == "<module>":
            return frame.f_globals["__name__"] != "__main__"
        frame = frame.f_back
    return False
sys.setprofile(_note)
threading.setprofile(_note)
"""

COMMANDS = {
    "enqueue": "enqueue ok {{}}",
    "lease and settle": "work --simulate --drain --log-level error",
    "dlq list --group": "dlq list --group",
    "replay --all --canary": "replay --all --canary 1 --yes --canary-timeout 1s",
    "explain": "explain {queued}",
    "metrics --prom": "metrics --prom",
}


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks files")
    parser.add_argument("--names", action="store_true", help="list the files, too")
    options = parser.parse_args(arguments)
    with durable_server() as server, tempfile.TemporaryDirectory() as folder:
        Path(folder, "sitecustomize.py").write_text(PROFILE)
        database = server.create("files")
        program = _Program(database.url, Path(folder))
        program.run("migrate")
        program.run("enqueue fail_me {{}}")
        program.run("work --simulate --drain --log-level error")
        queued = program.run("enqueue ok {{}} --run-at 1h -o ids").strip()
        for name, command in COMMANDS.items():
            files = program.files_of(command, queued=queued)
            packages = Counter(file.split("/")[0] for file in files)
            print(f"{len(files):4} {name}  ({_in_words(packages.items())})")
            if options.names:
                print("".join(f"       {file}\n" for file in files), end="")


class _Program:
    def __init__(self, url: str, folder: Path) -> None:
        self._out = folder / "files"
        self._environment = {
            **{k: v for k, v in os.environ.items() if not k.startswith("PGFLOW_")},
            "DATABASE_URL": url,
            "FILES_RUN": str(self._out),
            "FILES_OF": f"{ROOT / 'pgflow_cli'}/",
            "PYTHONPATH": f"{folder}:{ROOT}",
        }

    def run(self, command: str, **values: str) -> str:
        words = command.format(**values).split()
        ended = subprocess.run(
            [sys.executable, "-m", "pgflow_cli", *words],
            check=False,
            env=self._environment,
            stdout=subprocess.PIPE,
            text=True,
        )
        # A canary whose jobs no worker runs stays undecided: that is no failure here.
        if ended.returncode not in (0, 75):
            raise SystemExit(f"{command}: exit code {ended.returncode}")
        return ended.stdout

    def files_of(self, command: str, **values: str) -> list[str]:
        self._out.unlink(missing_ok=True)
        self.run(command, **values)
        return sorted(set(self._out.read_text().splitlines()))


def _in_words(counts: Iterable[tuple[str, int]]) -> str:
    return ", ".join(f"{package} {count}" for package, count in sorted(counts))


if __name__ == "__main__":
    main(sys.argv[1:])
