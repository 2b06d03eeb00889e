"""An application: the handlers and error codes that belong together."""

from __future__ import annotations

import asyncio
import json
import sys
import uuid
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

from pgflow_cli.errors import ConfigurationError, UsageError
from pgflow_cli.handlers import error_codes, execution, outcomes
from pgflow_cli.handlers.error_codes import ErrorCode
from pgflow_cli.handlers.exceptions import PayloadError
from pgflow_cli.handlers.handler import DEFAULT_TIMEOUT, Backoff, Handler, declare
from pgflow_cli.handlers.job import prepare
from pgflow_cli.handlers.outcomes import Outcome
from pgflow_cli.models.jobs import LeasedJob

Function = TypeVar("Function", bound=Callable[..., Any])


class App:
    """The handlers a worker runs, by job type, and the error codes they raise.

    app = App()

    @app.handler("email_send", queue="emails", timeout="20s")
    def email_send(job):
        ...
    """

    def __init__(self) -> None:
        self.handlers: dict[str, Handler] = {}
        self.error_codes: dict[str, ErrorCode] = {}

    def handler(
        self,
        type: str,  # noqa: A002 - the word of the documents
        *,
        queue: str | None = None,
        timeout: float | str | timedelta = DEFAULT_TIMEOUT,
        concurrency: int | None = None,
        run: str | None = None,
        max_attempts: int | None = None,
        backoff: Backoff | None = None,
        errors: Mapping[type[BaseException], str] | None = None,
    ) -> Callable[[Function], Function]:
        """Declare a function as the handler of a job type; WORKER.md has the options.

        The function itself is unchanged and can be called. Raises ConfigurationError,
        also for a type declared twice.
        """
        namespace = dict(sys._getframe(1).f_locals)

        def register(function: Function) -> Function:
            self._add(
                declare(
                    type,
                    function,
                    run=run,
                    timeout=timeout,
                    queue=queue,
                    concurrency=concurrency,
                    max_attempts=max_attempts,
                    backoff=backoff,
                    errors=errors,
                    declared=self.error_codes,
                    siblings=self.handlers,
                    namespace=namespace,
                )
            )
            return function

        return register

    def error_code(self, code: str, *, retry: bool = True, action: str = "") -> None:
        """Declare an error code of this application.

        `retry` says whether it is tried again, `action` what an operator should do.
        """
        self._add_code(error_codes.own(code, retry=retry, action=action))

    def include(self, other: App) -> None:
        """Take over the handlers and error codes of another application.

        Raises ConfigurationError for what both declare.
        """
        for code in other.error_codes.values():
            self._add_code(code)
        for handler in other.handlers.values():
            self.add(handler)

    def add(self, handler: Handler) -> None:
        """Take over one handler: its siblings are those of this application."""
        adopted = replace(handler, declared=self.error_codes, siblings=self.handlers)
        # The payload's type may be a local name of the decorator's place, which cannot
        # be resolved here.
        for name in ("payload_type", "decode"):
            if name in vars(handler):
                vars(adopted)[name] = vars(handler)[name]
        self._add(adopted)

    def run(
        self,
        type: str,  # noqa: A002 - the word of the documents
        payload: Any = None,
        *,
        attempt_no: int = 1,
        failed_attempts: int | None = None,
        max_attempts: int | None = None,
        queue: str | None = None,
        meta: Mapping[str, object] | None = None,
        timeout: float | None = None,
    ) -> Outcome:
        """Run one job here and now, without a database: for tests of handlers.

        Earlier attempts count as failed ones unless `failed_attempts` says otherwise.
        Only async handlers are stopped at their time limit. Raises UsageError if there
        is no handler for the type.
        """
        handler = self.handlers.get(type)
        if handler is None or handler.function is None:
            known = (
                ", ".join(t for t, h in self.handlers.items() if h.function) or "none"
            )
            raise UsageError(f"no function handles {type!r}; there are: {known}")
        leased = LeasedJob(
            lease_id=str(uuid.uuid4()),
            job_id=str(uuid.uuid4()),
            queue=queue or handler.queue or "default",
            rank=0,
            run_at=datetime.now(UTC)
            .replace(tzinfo=None)
            .isoformat(" ", "microseconds"),
            attempt_no=attempt_no,
            job_type=type,
            payload=json.dumps({} if payload is None else payload),
            max_attempts=max_attempts or handler.max_attempts or 25,
            timeout_ms=None if timeout is None else int(timeout * 1000),
            meta=None if meta is None else json.dumps(dict(meta)),
            replay_of_job_id=None,
            failed_attempts=attempt_no - 1
            if failed_attempts is None
            else failed_attempts,
            lost_attempts=0,
        )
        try:
            job = prepare(handler, leased)
        except PayloadError as error:
            return outcomes.conclude(handler, leased, error)
        if handler.kind == "async":
            return asyncio.run(execution.run_async(handler, job))
        return execution.run(handler, job)

    def _add(self, handler: Handler) -> None:
        other = self.handlers.get(handler.job_type)
        if other is not None:
            raise ConfigurationError(
                f"job type {handler.job_type} is declared twice:"
                f" by {other.source} and by {handler.source}"
            )
        self.handlers[handler.job_type] = handler

    def _add_code(self, code: ErrorCode) -> None:
        if self.error_codes.setdefault(code.code, code) != code:
            raise ConfigurationError(
                f"error code {code.code} is declared twice, and differently"
            )


def declared_codes(app: App) -> list[dict[str, str]]:
    """Return the rows of `pgflow.error_codes`: pgflow's own and the application's."""
    return [
        {
            "code": known.code,
            "retry_class": known.retry_class,
            "suggested_action": known.suggested_action,
        }
        for known in (*error_codes.BUILT_IN.values(), *app.error_codes.values())
    ]
