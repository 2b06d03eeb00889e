"""What somebody sees without moving anything, on a phone and on a laptop."""

from __future__ import annotations

from typing import Any

import psycopg

from tests.browser.conftest import Serves
from tests.browser.navigation import Visits
from tests.support.jobs import plant

LONG = "imports-of-the-old-warehouse-system.eu-central-1.of-every-night"


def test_a_long_name_leaves_the_numbers_in_sight(
    serve_admin: Serves, visits: Visits, connection: psycopg.Connection[Any]
) -> None:
    assert len(LONG) == 63
    plant(connection, queue=LONG)
    plant(connection, queue="emails")
    url = f"{serve_admin().url}/"

    phone = visits.still_page(url, viewport={"width": 390, "height": 844})
    phone.goto(url)
    state = phone.get_by_role("cell", name="no worker").first.bounding_box()
    laptop = visits.still_page(url, viewport={"width": 1440, "height": 900})
    laptop.goto(url)
    hidden = laptop.locator("#scroll-queues").evaluate(
        "table => table.scrollWidth - table.clientWidth"
    )

    assert state is not None
    assert state["x"] + state["width"] <= 390
    assert hidden == 0
