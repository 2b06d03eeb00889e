"""A machine that runs services of compose.yaml, without an engine: their commands with
exactly their variables, each in a folder that stands for its container.
"""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Mapping
from pathlib import Path

from tests.acceptance.forked import Forked
from tests.support import executable
from tests.support.deployment import compose, environment_of
from tests.support.servers import Database

PATIENCE = 90  # seconds: what the health check gives a container to start
PGFLOW = str(Path(sys.executable).with_name("pgflow"))
# Services of Compose, not of the host: what is put in their place here.
ELSEWHERE = ("DATABASE_URL", "PGPASSWORD", "PGFLOW_ADMIN_ADDR")


class Machine:
    """Runs services of compose.yaml; a container is a folder that nobody else sees."""

    def __init__(self, folder: Path, database: Database) -> None:
        self.folder, self.database = folder, database
        self.port = free_port()
        self._running: list[Forked] = []

    def environment(
        self, service: str, name: str, given: Mapping[str, str]
    ) -> dict[str, str]:
        """Return what a container sees: its service's variables and nothing of ours."""
        written = environment_of(service, given)
        home = self.folder / name
        home.mkdir(exist_ok=True)
        own = {
            "PATH": os.environ["PATH"],
            "LANG": "C.UTF-8",
            # The root is read-only, /tmp is not. Below a file not even root makes a
            # folder, where workers of other tests would be found.
            "HOME": f"{__file__}/home",
            "TMPDIR": str(home),
            "DATABASE_URL": self.database.url,
        }
        if "PGFLOW_ADMIN_ADDR" in written:
            address = written["PGFLOW_ADMIN_ADDR"]
            own["PGFLOW_ADMIN_ADDR"] = address.replace(":3003", f":{self.port}")
        return {**{n: v for n, v in written.items() if n not in ELSEWHERE}, **own}

    def run(self, service: str, name: str, *words: str) -> int:
        """Run a command in a running container, as its health check is."""
        return executable.fork(
            *words,
            environment=self.environment(service, name, {}),
            folder=self.folder / name,
            input=None,
        ).returncode

    def start(
        self, service: str, name: str, given: Mapping[str, str] | None = None
    ) -> Forked:
        process = Forked(
            *compose()["services"][service]["command"],
            environment=self.environment(service, name, given or {}),
            folder=self.folder / name,
            output=self.log(name),
        )
        self._running.append(process)
        return process

    def log(self, name: str) -> Path:
        return self.folder / f"{name}.log"

    def is_healthy(self, service: str, name: str) -> bool:
        """Ask what Compose would ask."""
        check = compose()["services"][service]["healthcheck"]["test"]
        assert check[:2] == ["CMD", "pgflow"]
        return self.run(service, name, *check[2:]) == 0

    def stop(self) -> list[int]:
        """End all as `docker compose down` does; return how they ended."""
        for process in self._running:
            process.terminate()
        ends = [process.wait(60) for process in self._running]
        self._running.clear()
        return ends


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        return int(listening.getsockname()[1])
