"""What a client reads when something is wrong: one shape, no SQL, no secret."""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from werkzeug.exceptions import HTTPException, MethodNotAllowed
from werkzeug.wrappers import Response

from pgflow_cli import errors
from pgflow_cli.formats import values

MEDIA_TYPE = "application/problem+json"
_RETRY_SECONDS = 2

_STATUS_OF_REASON = {
    "PAYLOAD_TOO_LARGE": HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    "ENQUEUE_RATE_EXCEEDED": HTTPStatus.TOO_MANY_REQUESTS,
}
_CODES = {
    HTTPStatus.BAD_REQUEST: "BAD_REQUEST",
    HTTPStatus.UNAUTHORIZED: "UNAUTHORIZED",
    HTTPStatus.FORBIDDEN: "FORBIDDEN",
    HTTPStatus.NOT_FOUND: "NOT_FOUND",
    HTTPStatus.METHOD_NOT_ALLOWED: "METHOD_NOT_ALLOWED",
    HTTPStatus.CONFLICT: "CONFLICT",
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE: "BODY_TOO_LARGE",
    HTTPStatus.UNSUPPORTED_MEDIA_TYPE: "UNSUPPORTED_MEDIA_TYPE",
    HTTPStatus.MISDIRECTED_REQUEST: "MISDIRECTED_REQUEST",
    HTTPStatus.UNPROCESSABLE_ENTITY: "OUT_OF_RANGE",
    HTTPStatus.TOO_MANY_REQUESTS: "TOO_MANY_REQUESTS",
    HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE: "HEADERS_TOO_LARGE",
    HTTPStatus.NOT_IMPLEMENTED: "NOT_IMPLEMENTED",
    HTTPStatus.SERVICE_UNAVAILABLE: "UNAVAILABLE",
}


class Problem(Exception):
    """An answer that is an error; `more` are further fields of its document."""

    def __init__(
        self,
        status: HTTPStatus,
        error: str,
        *,
        code: str = "",
        headers: Mapping[str, str] | None = None,
        **more: Any,
    ) -> None:
        super().__init__(error)
        self.status = status
        self.error = error
        self.code = code or _CODES.get(status, "ERROR")
        self.headers = dict(headers or {})
        self.more = more

    def response(self, request_id: str) -> Response:
        """Return it as RFC 9457 has it, with the fields of the predecessor."""
        document = {
            "type": "about:blank",
            "title": self.status.phrase,
            "status": int(self.status),
            "error": self.error,
            "code": self.code,
            "request_id": request_id,
            **{name: value for name, value in self.more.items() if value},
        }
        return Response(
            values.json_of(document),
            status=int(self.status),
            headers=self.headers,
            content_type=MEDIA_TYPE,
        )


def bad_request(error: str) -> Problem:
    """Return the problem of a request that cannot be understood."""
    return Problem(HTTPStatus.BAD_REQUEST, error)


def body_too_large(limit: int) -> Problem:
    """Return the problem of a body that is larger than the server takes."""
    return Problem(
        HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
        f"the body is larger than the {limit:,} bytes this server takes (--max-body)",
    )


def of_error(error: errors.PgflowError, *, reading: bool = False) -> Problem:
    """Return the problem of an error; of a database, that it is away.

    Of what was only `reading`, no outcome is in doubt.
    """
    hints = [*error.hints]
    if isinstance(error, errors.Ambiguous):
        return Problem(
            HTTPStatus.CONFLICT,
            error.message,
            code="AMBIGUOUS_ID",
            candidates=error.candidates,
        )
    if isinstance(error, errors.Refused):
        return _refused(error)
    if isinstance(error, errors.OutOfRange):
        return Problem(HTTPStatus.UNPROCESSABLE_ENTITY, error.message)
    if isinstance(error, errors.UsageError):
        return Problem(HTTPStatus.BAD_REQUEST, error.message, hints=hints)
    if isinstance(error, errors.NotFound):
        return Problem(HTTPStatus.NOT_FOUND, error.message, hints=hints)
    return _unavailable(error, reading=reading)


def of_http(error: HTTPException) -> Problem:
    """Return the problem of an error of werkzeug's."""
    status = HTTPStatus(error.code or HTTPStatus.INTERNAL_SERVER_ERROR)
    headers = {}
    said = {
        HTTPStatus.NOT_FOUND: "there is nothing at this path; see GET /openapi.json",
    }
    if isinstance(error, MethodNotAllowed) and error.valid_methods:
        allowed = headers["Allow"] = ", ".join(sorted(error.valid_methods))
        said[status] = f"this path takes {allowed} only"
    return Problem(status, said.get(status, status.phrase.lower()), headers=headers)


def unknown_fault() -> Problem:
    """Return the problem of a bug; the log has the rest by the request's id."""
    return Problem(
        HTTPStatus.INTERNAL_SERVER_ERROR,
        "something went wrong; the server's log tells more of this request_id",
        code="FAULT",
    )


def _refused(error: errors.Refused) -> Problem:
    status = _STATUS_OF_REASON.get(error.reason_code, HTTPStatus.CONFLICT)
    headers = {}
    if status == HTTPStatus.TOO_MANY_REQUESTS:
        headers["Retry-After"] = str(_seconds_left(error))
    return Problem(
        status,
        error.message,
        code=error.reason_code,
        headers=headers,
        hints=[*error.hints],
        details=error.details,
    )


def _seconds_left(error: errors.Refused) -> int:
    # The gate counts by the minute.
    left = error.details.get("retry_after_seconds", 60)
    return max(1, int(left)) if isinstance(left, int | float) else 60


def _unavailable(error: errors.PgflowError, *, reading: bool) -> Problem:
    later = {"Retry-After": str(_RETRY_SECONDS)}
    if isinstance(error, errors.OutcomeUnknown) and not reading:
        said, code = (
            "the database's answer was lost: whether it was done is not known",
            "OUTCOME_UNKNOWN",
        )
    elif isinstance(error, errors.TooSlow):
        said, code = (
            "the database took too long; try again later, or ask for less: one queue, a"
            " later since or a smaller limit",
            "TOO_SLOW",
        )
    elif isinstance(error, errors.DataDamaged):
        said, code = (
            "the database cannot read a part of its data; `pgflow doctor --check"
            " unreadable` and the server's log tell more",
            "DATA_DAMAGED",
        )
    elif isinstance(error, errors.DatabaseUnavailable):
        said, code = (
            "the database does not answer, or takes no writes",
            "DATABASE_UNAVAILABLE",
        )
    elif isinstance(error, errors.TryLater):
        said, code = error.message, "TRY_LATER"
    elif isinstance(error, errors.PermissionDenied):
        # Which right is missing stands in the log: its names are not for clients.
        said, code = (
            "the database refuses this server's role; `pgflow doctor --check"
            " privileges` and the server's log tell more",
            "PERMISSION_DENIED",
        )
    elif isinstance(error, errors.ConfigurationError):
        said, code = (
            "the database's schema is missing, of another version, or fenced, or the"
            " settings of this server's connection are wrong: its log tells which",
            "NOT_CONFIGURED",
        )
    else:
        return unknown_fault()
    return Problem(HTTPStatus.SERVICE_UNAVAILABLE, said, code=code, headers=later)
