"""The handler of pgflow's workers."""

from __future__ import annotations

import sys
from pathlib import Path

from pgflow_cli import App

# A worker imports this file by its path.
sys.path.insert(0, str(Path(__file__).parent))

from python_side import Starts

app = App()
starts = Starts()


@app.handler("noop")
def noop(job):
    starts.note(job.payload)
