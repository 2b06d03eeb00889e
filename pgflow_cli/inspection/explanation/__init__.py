"""Explains why a job is in its state: the verdict, its timeline and the next commands.

Pure. `gates` finds the condition that holds the job, `timeline` lists its events,
`words` formats values, and `document` is the JSON object. `cli/views` has the text
screen.
"""

from __future__ import annotations

from pgflow_cli.inspection.explanation.verdict import Explanation, explain

__all__ = ["Explanation", "explain"]
