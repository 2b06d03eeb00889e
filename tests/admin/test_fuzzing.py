"""No request makes the server fail, and every answer is one that the document has."""

from __future__ import annotations

from typing import Any

import pytest

from pgflow_cli.admin import application
from tests.admin import fuzzing
from tests.admin.planting import Planted

SEED = 20261124
EXAMPLES = 2  # of each operation beside 2,000 that cover the document: see `make fuzz`


@pytest.mark.timeout(600)  # of a thousand requests, on a machine of any speed
def test_every_operation_does_what_its_document_says(
    database: Any, planted: Planted
) -> None:
    print(f"seed {SEED}")
    service = fuzzing.service_of(database.url)
    try:
        found = fuzzing.fuzz(
            application.application(service),
            token=fuzzing.TOKEN,
            examples=EXAMPLES,
            seed=SEED,
        )
    finally:
        service.end()
        service.close()
    assert found.problems == []
    assert found.faults == 0, str(found)
    known = {
        f"{r.method} {r.openapi_path}" for r in application.ROUTES if not r.of_page
    }
    # Where it has the document from it does not ask again.
    assert found.operations == known - {"GET /openapi.json"}
    assert found.statuses[200] > 100, str(found)
