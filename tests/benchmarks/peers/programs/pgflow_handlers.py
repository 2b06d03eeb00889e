"""The handlers of pgflow's workers."""

from __future__ import annotations

import sys
from pathlib import Path

from pgflow_cli import App

# A worker imports this file by its path.
sys.path.insert(0, str(Path(__file__).parent))

from python_side import TASK, Starts

app = App()
starts = Starts()


@app.handler("noop", backoff=lambda attempt: 0.0)
def noop(job):
    starts.note(job.payload)


@app.handler("pause")
async def pause(job):
    await starts.run(job.payload)


# What producers ask for.
JOB_TYPE = "pause" if TASK["pause"] else "noop"
