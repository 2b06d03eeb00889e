"""What doctor finds, as a page."""

from __future__ import annotations

from werkzeug.wrappers import Response

from pgflow_cli.admin.api import doctor as endpoint
from pgflow_cli.admin.routes import Call, Route
from pgflow_cli.admin.ui import layout
from pgflow_cli.inspection.diagnosis import report

_GRAVITY = ("FAIL", "WARN", "OK")


def doctor(call: Call) -> Response:
    """Run the checks of doctor, which change nothing; the gravest stand first."""
    findings = endpoint.findings(call)
    findings.sort(key=lambda finding: _GRAVITY.index(finding.result))
    return layout.page(
        call,
        "doctor.html",
        title="Doctor",
        findings=findings,
        summary=report.summary(findings),
        command="pgflow doctor",
    )


ROUTES = (Route("GET", "/ui/doctor", doctor, "What doctor finds.", of_page=True),)
