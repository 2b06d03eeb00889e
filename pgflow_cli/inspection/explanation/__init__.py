"""Why a job is where it is: facts in; a verdict, its story and next commands out.

Pure. `gates` and `story` find out, `phrases` words it; `screens` shows it to people,
`documents` to programs.
"""

from __future__ import annotations

from pgflow_cli.inspection.explanation.verdict import Explanation, explain

__all__ = ["Explanation", "explain"]
