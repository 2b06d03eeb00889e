"""What doctor finds, as a page."""

from __future__ import annotations

from werkzeug.wrappers import Response

from pgflow_cli.admin.api.doctor import findings
from pgflow_cli.admin.routes import Call, Route
from pgflow_cli.admin.ui import layout
from pgflow_cli.inspection.diagnosis import report

_GRAVITY = ("FAIL", "WARN", "OK")


def doctor(call: Call) -> Response:
    """Run the checks of doctor, which change nothing; the gravest stand first."""
    found = findings(call)
    found.sort(key=lambda finding: _GRAVITY.index(finding.result))
    return layout.page(
        call,
        "doctor.html",
        title="Doctor",
        findings=found,
        summary=report.summary(found),
        command="pgflow doctor",
    )


ROUTES = (Route("GET", "/ui/doctor", doctor, "What doctor finds.", of_page=True),)
