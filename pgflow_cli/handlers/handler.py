"""What an application declares about one job type."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import KW_ONLY, dataclass, field, replace
from datetime import timedelta
from functools import cached_property
from typing import Any

from pgflow_cli.errors import ConfigurationError, UsageError
from pgflow_cli.formats import payload_text
from pgflow_cli.handlers import error_codes, payload_types
from pgflow_cli.handlers.error_codes import ErrorCode
from pgflow_cli.handlers.exceptions import UnknownJobType, seconds
from pgflow_cli.handlers.payload_types import Decode

DEFAULT_TIMEOUT = 60.0  # seconds of an attempt if neither handler nor job says
LONGEST_TIMEOUT = 30 * 86400.0  # seconds: an attempt of more than 30 days is a mistake

Backoff = Callable[[int], float]


@dataclass(frozen=True, eq=False)
class Handler:
    """What runs jobs of one type. `kind` is thread, async or executable.

    An executable has a `command`, the others a `function`. `queue` and `max_attempts`
    are what `job.enqueue` gives a job of this type if it is not told otherwise; once a
    job exists, its own row decides. `source` says where the declaration stands.
    `declared` and `siblings` are the codes and handlers of the application it belongs
    to.
    """

    job_type: str
    function: Callable[..., Any] | None = None
    _: KW_ONLY
    command: tuple[str, ...] | None = None
    kind: str = "thread"
    queue: str | None = None
    timeout: float = DEFAULT_TIMEOUT
    concurrency: int | None = None
    max_attempts: int | None = None
    backoff: Backoff | None = None
    errors: Mapping[type[BaseException], str] = field(default_factory=dict)
    source: str = ""
    declared: Mapping[str, ErrorCode] = field(default_factory=dict, repr=False)
    siblings: Mapping[str, Handler] = field(default_factory=dict, repr=False)
    namespace: Mapping[str, Any] | None = field(default=None, repr=False)

    @cached_property
    def payload_type(self) -> Any:
        """The annotation of the second parameter; None if there is none."""
        parameter = _payload_parameter(self.function)
        if parameter is None:
            return None
        return payload_types.resolve(self.function, parameter, self.namespace)

    @cached_property
    def decode(self) -> Decode | None:
        """What makes a payload the second argument; None if there is none.

        Raises ConfigurationError if the annotation cannot be understood.
        """
        if _payload_parameter(self.function) is None:
            return None
        try:
            return payload_types.decoder(self.payload_type, self.namespace)
        except NameError as error:
            raise ConfigurationError(
                f"the payload type of {self.job_type} ({self.source}) cannot be found:"
                f" {error}"
            ) from error
        except payload_types.UnsupportedType as error:
            raise ConfigurationError(
                f"the payload type of {self.job_type} ({self.source}) is not supported:"
                f" {error}"
            ) from error

    @property
    def home(self) -> str:
        """The top-level package of the function.

        Its frames are the application's, wherever it is installed.
        """
        module = getattr(self.function, "__module__", None)
        return module.partition(".")[0] if isinstance(module, str) else ""


def declare(
    job_type: str,
    function: Callable[..., Any],
    *,
    run: str | None,
    timeout: float | str | timedelta,
    queue: str | None,
    concurrency: int | None,
    max_attempts: int | None,
    backoff: Backoff | None,
    errors: Mapping[type[BaseException], str] | None,
    declared: Mapping[str, ErrorCode],
    siblings: Mapping[str, Handler],
    namespace: Mapping[str, Any] | None = None,
) -> Handler:
    """Check one declaration and return its handler; raises ConfigurationError."""
    source = source_of(function)
    check_job_type(job_type, source)
    for name, value, most in (
        ("concurrency", concurrency, 10_000),
        ("max_attempts", max_attempts, 10_000),
    ):
        if value is not None and not (type(value) is int and 1 <= value <= most):
            raise ConfigurationError(
                f"{name} of {job_type} must be between 1 and {most:,}, not {value!r}"
            )
    if queue is not None:
        _check_name(payload_text.check_queue, queue, source)
    handler = Handler(
        job_type,
        function,
        kind=_kind(job_type, function, run),
        queue=queue,
        timeout=_timeout(job_type, timeout),
        concurrency=concurrency,
        max_attempts=max_attempts,
        backoff=backoff,
        errors=_errors(job_type, errors or {}),
        source=source,
        declared=declared,
        siblings=siblings,
    )
    _payload_parameter(function)
    return _bound_early(handler, namespace)


def check_job_type(job_type: object, source: str) -> None:
    """Raise ConfigurationError if a handler cannot have this job type."""
    _check_name(payload_text.check_job_type, job_type, source)


def _check_name(check: Callable[[str], None], name: object, source: str) -> None:
    try:
        check(str(name))
    except UsageError as error:
        raise ConfigurationError(f"{name!r} of {source}: {error.message}") from error


def source_of(function: Callable[..., Any]) -> str:
    """Return where a function comes from, as `module:name`."""
    module = getattr(function, "__module__", None) or type(function).__module__
    name = getattr(function, "__qualname__", None) or type(function).__qualname__
    return f"{module}:{name}"


def _bound_early(handler: Handler, namespace: Mapping[str, Any] | None) -> Handler:
    """Resolve the payload's type in the scope of the decorator.

    Names that are local to a function exist only there.

    A name that does not exist yet may be defined further down the module: then the
    first use looks again.
    """
    early = replace(handler, namespace=namespace)
    try:
        payload_type, decode = early.payload_type, early.decode
    except (ConfigurationError, NameError):
        return handler
    vars(handler).update(payload_type=payload_type, decode=decode)
    return handler


def _kind(job_type: str, function: Callable[..., Any], run: str | None) -> str:
    call = getattr(function, "__call__", None)  # noqa: B004 - not whether, but what kind of function it is
    if any(
        inspect.isgeneratorfunction(f) or inspect.isasyncgenfunction(f)
        for f in (function, call)
    ):
        raise ConfigurationError(
            f"the handler of {job_type} yields: nothing would run it; return instead"
        )
    asynchronous = any(inspect.iscoroutinefunction(f) for f in (function, call))
    if run not in (None, "thread", "async") or (run == "async" and not asynchronous):
        raise ConfigurationError(
            f'run={run!r} of {job_type} is not available: "thread", or async def'
        )
    if run == "thread" and asynchronous:
        raise ConfigurationError(f"{job_type} is async def and cannot run in a thread")
    return "async" if asynchronous else "thread"


def _timeout(job_type: str, value: object) -> float:
    length = seconds(value)
    if length is None or not 0 < length <= LONGEST_TIMEOUT:
        raise ConfigurationError(
            f'timeout {value!r} of {job_type} must be seconds or "30s", at most 30d'
        )
    return length


def _errors(
    job_type: str, errors: Mapping[type[BaseException], str]
) -> dict[type[BaseException], str]:
    for error_class, code in errors.items():
        if not (
            isinstance(error_class, type) and issubclass(error_class, BaseException)
        ):
            raise ConfigurationError(
                f"errors of {job_type}: {error_class!r} is no exception class"
            )
        if not error_codes.is_code(code):
            raise ConfigurationError(f"errors of {job_type}: {code!r} is no error code")
    return dict(errors)


def _payload_parameter(
    function: Callable[..., Any] | None,
) -> inspect.Parameter | None:
    """Return the second positional parameter that has no default, or an annotation."""
    if function is None:
        return None
    try:
        parameters = list(inspect.signature(function).parameters.values())
    except (TypeError, ValueError):
        return None  # a builtin without a signature: it gets the job
    positional = [
        p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)
    ]
    catches_all = any(p.kind is p.VAR_POSITIONAL for p in parameters)
    needed = [p for p in positional if p.default is p.empty]
    alone = [p for p in parameters if p.kind is p.KEYWORD_ONLY and p.default is p.empty]
    if (not positional and not catches_all) or len(needed) > 2 or alone:
        raise ConfigurationError(
            f"a handler takes (job) or (job, payload), unlike {source_of(function)}"
        )
    if len(positional) < 2:
        return None
    second = positional[1]
    wanted = second.default is second.empty or second.annotation is not second.empty
    return second if wanted else None


def _refuse(job: Any) -> None:
    raise UnknownJobType(f"no handler for job type {job.type}")


# The handler of unknown job types, if the operator has chosen that such jobs become
# dead letters (--on-unknown dlq).
UNKNOWN_TYPE = Handler("", _refuse, source="pgflow")
