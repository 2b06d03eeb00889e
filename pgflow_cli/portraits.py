"""One job as `explain` and `dlq show` present it: a screen, or one object."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pgflow_cli import output

if TYPE_CHECKING:
    from pgflow_cli.explanation import Explanation

RECORD = (
    output.Column("job_id", kind="id"),
    *(
        output.Column(name)
        for name in (
            "status", "queue", "job_type", "verdict", "summary", "attempts",
            "failed_attempts", "max_attempts", "next_run_at", "last_error",
            "dlq_reason_code", "suggested_action", "as_of", "gates", "fingerprint",
            "replays", "timeline", "payload_json",
        )
    ),
)  # fmt: skip


def show(
    explained: Explanation, *, payload: str | None = None, gates: bool = False
) -> None:
    """Write an explanation as was asked for, with the payload if there is one."""
    from pgflow_cli import screens  # noqa: PLC0415 - start-up stays quick

    if output.is_machine():
        output.write_record(screens.record(explained, payload=payload), RECORD)
    else:
        output.write_text(screens.lines(explained, gates=gates, payload=payload))
