"""What a worker process sees to before it runs code that is not ours."""

from __future__ import annotations

import subprocess
import sys

# Its own hook comes before ours: the signal is there before the child's handlers are.
_FORKS = """
import os, signal
os.register_at_fork(after_in_child=lambda: os.kill(os.getpid(), signal.SIGTERM))
from pgflow_cli.worker import safeguards as precautions
precautions.ignore_signals()
precautions.have_forks_hear()
if not (child := os.fork()):
    os._exit(9)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
os.kill(os.getpid(), signal.SIGTERM)
print("passed over")
"""


def test_a_signal_that_comes_right_after_a_fork_is_heard() -> None:
    done = subprocess.run(
        [sys.executable, "-c", _FORKS], capture_output=True, text=True, check=True
    )
    assert done.stdout.split("\n") == ["-15", "passed over", ""]
