"""The pods of docker/k8s, without a cluster: their commands, variables and probes."""

from __future__ import annotations

import os
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.acceptance.forked import Forked
from tests.acceptance.machines import free_port
from tests.support.deployment import container, pods
from tests.support.servers import Database

Wait = Callable[..., Any]
SECRETS = {
    "api-token": "the-token-of-operators\n",
    "metrics-token": "the-token-of-a-scraper\n",
}
JOBS = "from pgflow_cli import App\n\napp = App()\n"


class Pod:
    """A pod of the manifests, started on this host with its secrets and its port."""

    def __init__(self, name: str, folder: Path, database: Database) -> None:
        self.spec = container(pods()[name])
        self.port, self._folder = free_port(), folder
        (folder / "jobs.py").write_text(JOBS)
        for key, text in {**SECRETS, "database-url": database.url}.items():
            (folder / key).write_text(text)
            (folder / key).chmod(0o440)
        self.log = folder / "log"
        self.process = Forked(
            *self.spec["args"],
            environment={"PATH": os.environ["PATH"], **self._environment()},
            folder=folder,
            output=self.log,
        )

    def _environment(self) -> dict[str, str]:
        """Return its variables, with the secrets and the port of this host."""
        port = next((p["containerPort"] for p in self.spec.get("ports", ())), 0)
        written = {e["name"]: e["value"] for e in self.spec["env"]}
        return {
            "TMPDIR": str(self._folder),
            # A root that is read-only, for a root user, too: below a file.
            "HOME": f"{__file__}/home",
            **{
                name: value.replace("/run/secrets/pgflow", str(self._folder)).replace(
                    f":{port}", f":{self.port}"
                )
                for name, value in written.items()
            },
        }

    def probe(self, kind: str) -> int:
        """Ask as the kubelet does: by the address of the pod."""
        path = self.spec[f"{kind}Probe"]["httpGet"]["path"]
        return self.get(path)

    def get(self, path: str, *, host: str = "10.1.2.3", token: str = "") -> int:
        headers = {"Host": host, **({"x-api-key": token} if token else {})}
        url = f"http://127.0.0.1:{self.port}{path}"
        request = urllib.request.Request(url, headers=headers)
        try:
            with urllib.request.urlopen(request, timeout=10) as answer:  # noqa: S310
                return int(answer.status)
        except urllib.error.HTTPError as error:
            with error:
                return error.code
        except OSError:  # it does not listen yet
            return 0


@pytest.fixture
def start(tmp_path: Path, database: Database) -> Iterator[Callable[[str], Pod]]:
    started: list[Pod] = []

    def begin(name: str) -> Pod:
        started.append(Pod(name, tmp_path, database))
        return started[-1]

    yield begin
    for pod in started:
        pod.process.terminate()
        pod.process.wait(60)


def passes_its_probes(pod: Pod, wait_until: Wait) -> None:
    for kind in ("startup", "liveness", "readiness"):
        wait_until(lambda k=kind: pod.probe(k) == 200, f"the {kind} probe passes")


def ends_when_it_is_told(pod: Pod) -> None:
    pod.process.terminate()
    assert pod.process.wait(60) == 0


def test_a_worker_passes_its_probes_which_tell_nothing_of_jobs(
    start: Callable[[str], Pod], wait_until: Wait
) -> None:
    pod = start("Deployment pgflow-worker")
    passes_its_probes(pod, wait_until)
    # By its address it is asked for its health, by no other name for anything.
    assert {pod.get(path) for path in ("/jobs", "/metrics", "/")} <= {404, 421}
    ends_when_it_is_told(pod)


def test_the_admin_server_asks_for_the_tokens_of_its_secret(
    start: Callable[[str], Pod], wait_until: Wait
) -> None:
    pod = start("Deployment pgflow-admin")
    passes_its_probes(pod, wait_until)
    service = "pgflow-admin:3003"
    operator, scraper = (text.strip() for text in SECRETS.values())
    assert pod.get("/jobs", host=service) == 401
    assert pod.get("/jobs", host=service, token=operator) == 200
    assert pod.get("/metrics/prom", host=service, token=scraper) == 200
    assert pod.get("/jobs", host=service, token=scraper) in (401, 403)
    assert pod.get("/jobs", host="evil.example", token=operator) == 421
    ends_when_it_is_told(pod)


@pytest.mark.parametrize("name", ["CronJob pgflow-maintain", "Job pgflow-migrate"])
def test_what_runs_to_its_end_succeeds(start: Callable[[str], Pod], name: str) -> None:
    pod = start(name)
    assert pod.process.wait(60) == 0, pod.log.read_text()
