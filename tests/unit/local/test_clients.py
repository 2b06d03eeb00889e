"""What the failures of client programs are taken for."""

from __future__ import annotations

import pytest

from pgflow_cli.errors import TryLater
from pgflow_cli.local.clients import Run


@pytest.mark.parametrize("what", ["updated", "deleted"])
def test_who_loses_against_another_restore_is_told_to_try_later(what: str) -> None:
    said = f"psql:<stdin>:7: ERROR:  tuple concurrently {what}"
    with (
        Run(["sh", "-c", f"echo '{said}' >&2; exit 3"]) as run,
        pytest.raises(TryLater, match="another session") as raised,
    ):
        run.wait()
    assert raised.value.exit_code == 75
