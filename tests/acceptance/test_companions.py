"""Servers beside a worker: they are restarted, end with it, and tell no more than they
should.
"""

from __future__ import annotations

import json
import re
import signal
import urllib.error
import urllib.request
from collections.abc import Callable
from typing import Any

import psutil
import pytest

from tests.acceptance.conftest import Worker

Start = Callable[..., Worker]
Wait = Callable[..., Any]

ANY_PORT = "127.0.0.1:0"


def address(worker: Worker, wait_until: Wait, name: str = "admin") -> str:
    """Return where a server beside a worker listens, by the worker's log."""
    said = rf"the {name} server listens on (http://\S+)"
    found: re.Match[str] = wait_until(lambda: re.search(said, worker.log), "it listens")
    return found[1]


def ask(url: str) -> tuple[int, str]:
    """Return the status and the text of an answer; 0 if there is none."""
    try:
        with urllib.request.urlopen(url, timeout=10) as answer:  # noqa: S310
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()
    except OSError:
        return 0, ""


def servers(worker: Worker) -> list[psutil.Process]:
    """Return the processes that listen, of a worker's children."""
    return [child for child in worker.children() if listens(child)]


def listens(process: psutil.Process) -> bool:
    found = process.net_connections("tcp")
    return any(each.status == psutil.CONN_LISTEN for each in found)


def test_a_worker_serves_the_api_and_its_probes(
    start_worker: Start, wait_until: Wait
) -> None:
    worker = start_worker("--admin", ANY_PORT, "--probe", ANY_PORT)
    admin, probe = (address(worker, wait_until, n) for n in ("admin", "probe"))
    wait_until(lambda: ask(f"{admin}/health/ready")[0] == 200, "the API is ready")
    wait_until(lambda: ask(f"{probe}/health/ready")[0] == 200, "the probe is ready")
    assert "PGFLOW_ADMIN_ADDR=127.0.0.1:0 (--admin)" in worker.log
    assert ask(f"{admin}/health") == (200, "ok")
    assert json.loads(ask(f"{admin}/jobs")[1])["items"] == []
    assert ask(f"{probe}/jobs")[0] == 404
    status, text = ask(f"{probe}/metrics/prom")
    assert status == 200
    assert "process_resident_memory_bytes" in text
    assert "pgflow_" not in text
    worker.send(signal.SIGTERM)
    assert worker.wait() == 0
    assert ask(f"{admin}/health")[0] == 0


def test_a_server_that_dies_is_started_again_and_ends_with_its_supervisor(
    start_worker: Start, wait_until: Wait
) -> None:
    worker = start_worker("--admin", ANY_PORT)
    admin = address(worker, wait_until)
    wait_until(lambda: ask(f"{admin}/health")[0] == 200, "it answers")
    [server] = wait_until(lambda: servers(worker), "it runs")
    server.kill()
    wait_until(lambda: "the admin server ended: signal SIGKILL" in worker.log, "seen")
    wait_until(lambda: ask(f"{admin}/health")[0] == 200, "it answers again")
    worker.send(signal.SIGKILL)
    wait_until(lambda: ask(f"{admin}/health")[0] == 0, "nobody listens any more")


def test_a_server_answers_while_the_worker_waits_for_the_database(
    start_worker: Start, wait_until: Wait
) -> None:
    nowhere = "postgres://nobody@127.0.0.1:1/nothing"
    worker = start_worker("--admin", ANY_PORT, url=nowhere)
    admin = address(worker, wait_until)
    wait_until(lambda: ask(f"{admin}/health")[0] == 200, "it lives")
    status, text = ask(f"{admin}/health/ready")
    assert status == 503
    assert "127.0.0.1:1" not in text
    assert ask(f"{admin}/jobs")[0] == 503


def test_nothing_listens_unless_it_is_asked_to(
    start_worker: Start,
    wait_until: Wait,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PGFLOW_ADMIN_ADDR", "")
    worker = start_worker()
    wait_until(lambda: len(worker.children()) == 1, "its process runs")
    assert not listens(psutil.Process(worker.pid))
    assert not servers(worker)


def test_a_worker_refuses_to_be_open_to_others(
    start_worker: Start, wait_until: Wait
) -> None:
    worker = start_worker("--admin", "0.0.0.0:0")
    assert worker.wait() == 78
    assert "no token is set" in worker.log
