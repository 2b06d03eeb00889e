"""Asks every operation of the API what its document allows, and what it forbids.

`python -m tests.admin.fuzzing --examples 500` is a long run, on a server of its own; it
prints its seed, and `--seed` repeats it.
"""

from __future__ import annotations

import argparse
import itertools
import random
import sys
import threading
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from unittest import mock

import schemathesis
from schemathesis.config import SchemathesisConfig
from schemathesis.engine import events, from_schema
from werkzeug.serving import WSGIRequestHandler, make_server

from pgflow_cli.admin import application as api
from pgflow_cli.admin import replay_runner
from pgflow_cli.admin.options import AdminOptions
from pgflow_cli.admin.service import Service
from pgflow_cli.maintenance import migrations
from pgflow_cli.repository import Database, Repository
from tests.admin.planting import plant_everything
from tests.support.servers import running_server

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

# A client that has gone: a stream of events ends after its first words.
HANGS_UP = {"waitress.client_disconnected": lambda: True}
TOKEN = "fuzzing-fuzzing-fuzzing"
# What no JSON schema of one parameter can say: half a cursor, a moment that is none, an
# id that several jobs have, a queue whose limits another request has set.
_BEYOND_SCHEMAS = [
    "2xx", "400", "401", "403", "404", "405", "409", "413", "422", "429",
]  # fmt: skip


@dataclass
class Fuzzed:
    """What came of a run: operations, answers by status, what was wrong."""

    operations: set[str] = field(default_factory=set)
    statuses: Counter[int] = field(default_factory=Counter)
    problems: list[str] = field(default_factory=list)

    @property
    def cases(self) -> int:
        """Return how many requests were answered."""
        return sum(self.statuses.values())

    @property
    def faults(self) -> int:
        """Return how many answers were a fault of ours."""
        return sum(n for status, n in self.statuses.items() if status >= 500)

    def __str__(self) -> str:
        told = ", ".join(f"{s}: {n}" for s, n in sorted(self.statuses.items()))
        return (
            f"{len(self.operations)} operations, {self.cases} cases,"
            f" {self.faults} answers of 5xx, {len(self.problems)} problems ({told})"
        )


def service_of(url: str) -> Service:
    """Return a server to be asked, which runs as many plans at once as it is told to.

    One with a bound answers 503 beyond it, which is no fault: how many run at once
    depends on the machine.
    """
    with mock.patch.object(replay_runner, "MOST", 10_000):
        return Service(AdminOptions(url=url, access_log=False, api_tokens=(TOKEN,)))


def fuzz(
    application: WSGIApplication, *, token: str, examples: int, seed: int
) -> Fuzzed:
    """Run every check of schemathesis over every operation, with a token and without.

    Each request comes from an address of its own: a few wrong tokens from one would
    close the server to it.
    """
    found = Fuzzed()
    addresses = itertools.count(1)

    def counted(
        environ: WSGIEnvironment, start_response: StartResponse
    ) -> Iterable[bytes]:
        def start(status: str, *rest: Any) -> Any:
            found.statuses[int(status[:3])] += 1
            return start_response(status, *rest)

        own = {"REMOTE_ADDR": f"10.{next(addresses)}", **HANGS_UP}
        return application({**environ, **own}, start)

    with _served(counted) as url:
        schema = schemathesis.openapi.from_url(
            f"{url}/openapi.json", config=_config(token, examples, seed)
        )
        for event in from_schema(schema).execute():
            if isinstance(event, events.ScenarioFinished):
                found.operations.add(str(event.label))
                found.problems += _problems(event)
            elif isinstance(event, events.NonFatalError):
                found.problems.append(f"{event.label}: {event.value!r}")
            elif isinstance(event, events.FatalError):
                raise event.exception
    return found


@contextmanager
def _served(application: WSGIApplication) -> Iterator[str]:
    """Serve it on a port: schemathesis sends no wrong token to what it calls itself."""
    server = make_server("127.0.0.1", 0, application, request_handler=_Silent)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join(30)


class _Silent(WSGIRequestHandler):
    def log(self, *_: Any) -> None:
        """Log nothing: there are thousands."""


def _config(token: str, examples: int, seed: int) -> SchemathesisConfig:
    return SchemathesisConfig.from_dict(
        {
            "seed": seed,
            "workers": 1,
            "auth": {"openapi": {"key": {"api_key": token}}},
            "checks": {
                "positive_data_acceptance": {"expected-statuses": _BEYOND_SCHEMAS}
            },
            "generation": {"max-examples": examples, "no-shrink": True},
            "phases": {"stateful": {"enabled": False}},
            "operations": [
                # GET /login is the page's, and no part of the API.
                {
                    "include-path": "/login",
                    "checks": {
                        "allow_header_conformance": {"enabled": False},
                        "unsupported_method": {"enabled": False},
                    },
                }
            ],
        }
    )


def _problems(event: events.ScenarioFinished) -> Iterable[str]:
    recorder = event.recorder
    for case_id, checks in recorder.checks.items():
        for check in checks:
            if check.failure_info is not None:
                case = recorder.cases[case_id].value
                failure = check.failure_info.failure
                yield f"{check.name}: {case.as_curl_command()}\n  {failure.message}"


def main(arguments: list[str]) -> int:
    """Fuzz the API on a server that is made for it."""
    parser = argparse.ArgumentParser(prog="python -m tests.admin.fuzzing")
    parser.add_argument("--examples", type=int, default=500)
    parser.add_argument("--seed", type=int, default=random.randrange(2**32))
    given = parser.parse_args(arguments)
    print(f"seed {given.seed}", flush=True)
    with running_server() as server:
        database = server.create("fuzzed")
        repository = Repository.of(Database(database.url))
        migrations.migrate(repository)
        migrations.ensure_partitions(repository)
        repository.fence.record_identity()
        plant_everything(database.connect(), repository)
        service = service_of(database.url)
        found = fuzz(
            api.application(service),
            token=TOKEN,
            examples=given.examples,
            seed=given.seed,
        )
        service.end()
        service.close()
        repository.close()
        server.drop(database)
    print(found)
    for problem in found.problems:
        print(problem)
    return 1 if found.problems or found.faults else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
