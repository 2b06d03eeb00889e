"""The manifests of docker/k8s are valid, safe, and speak pgflow's language."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from pgflow_cli.cli.settings import work
from tests.support.deployment import MANIFESTS, TREE, container, manifests, parse, pods

PODS = pods()
KEDA = ("ScaledObject", "ScaledJob", "TriggerAuthentication")
# Of KEDA's reference: what a trigger of a type must have, and what it may.
TRIGGERS = {
    "postgresql": ({"query", "targetQueryValue"}, {"activationTargetQueryValue"}),
    "prometheus": ({"serverAddress", "query", "threshold"}, {"activationThreshold"}),
}
SCALERS = {
    "ScaledObject": {
        "scaleTargetRef",
        "pollingInterval",
        "cooldownPeriod",
        "minReplicaCount",
        "maxReplicaCount",
        "triggers",
    },
    "ScaledJob": {
        "jobTargetRef",
        "pollingInterval",
        "maxReplicaCount",
        "successfulJobsHistoryLimit",
        "failedJobsHistoryLimit",
        "triggers",
    },
}


@pytest.fixture(params=sorted(PODS))
def pod(request: pytest.FixtureRequest) -> dict[str, Any]:
    found: dict[str, Any] = PODS[request.param]
    return found


def environment(pod: dict[str, Any]) -> dict[str, str]:
    return {entry["name"]: entry["value"] for entry in container(pod)["env"]}


@pytest.mark.parametrize("version", ["1.30.0", "1.37.0"])
@pytest.mark.parametrize("path", MANIFESTS, ids=lambda path: path.stem)
def test_an_object_fits_the_api_of_kubernetes(path: Path, version: str) -> None:
    for found in yaml.safe_load_all(path.read_text(encoding="utf-8")):
        if found["kind"] in KEDA:
            assert found["apiVersion"] == "keda.sh/v1alpha1"
        else:
            kubernetes_validate.validate(found, version, strict=True)


def test_an_object_is_of_no_namespace_and_of_one_name_only() -> None:
    keys = [(m["kind"], m["metadata"]["name"]) for m in manifests()]
    # Two ways of scaling the same workers: one of them is applied.
    twins = [k for k in keys if k == ("ScaledObject", "pgflow-worker")]
    assert len(set(keys)) == len(keys) - len(twins) + 1
    assert not any("namespace" in m["metadata"] for m in manifests())
    assert not manifests("Secret"), "secrets have no business in a repository"


def test_the_image_is_of_this_version(pod: dict[str, Any]) -> None:
    project = tomllib.loads((TREE / "pyproject.toml").read_text())["project"]
    assert container(pod)["image"] == f"pgflow:{project['version']}"


def test_a_pod_has_no_rights_it_does_not_need(pod: dict[str, Any]) -> None:
    spec = pod["spec"]
    assert spec["automountServiceAccountToken"] is False
    # Variables of a Service named pgflow would begin with PGFLOW_.
    assert spec["enableServiceLinks"] is False
    security = spec["securityContext"]
    assert security["runAsNonRoot"] is True
    assert security["runAsUser"] == 10001
    assert security["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container(pod)["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert "memory" in container(pod)["resources"]["limits"]


def test_secrets_come_as_files_that_only_pgflow_reads(pod: dict[str, Any]) -> None:
    mounts = {m["name"]: m["mountPath"] for m in container(pod)["volumeMounts"]}
    volumes = {v["name"]: v for v in pod["spec"]["volumes"]}
    assert set(mounts) == set(volumes) == {"secrets", "tmp"}
    secret = volumes["secrets"]["secret"]
    assert secret["defaultMode"] == 0o440
    held = {f"{mounts['secrets']}/{item['path']}" for item in secret["items"]}
    read = {v for name, v in environment(pod).items() if name.endswith("_FILE")}
    assert held == read
    bare = {"DATABASE_URL", "PGPASSWORD", "PGFLOW_API_TOKEN", "PGFLOW_METRICS_TOKEN"}
    assert not bare & set(environment(pod))


def test_a_pod_runs_a_command_that_pgflow_takes(
    pod: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in environment(pod).items():
        assert isinstance(value, str)
        monkeypatch.setenv(name, value)
    taken = parse(container(pod)["args"])
    spec = pod["spec"]
    assert spec["terminationGracePeriodSeconds"] == 60
    assert taken.params.get("shutdown_timeout", 0) + 10 < 60
    for port in container(pod).get("ports", ()):
        where = taken.params.get("address") or taken.params["probe"]
        assert where == ("0.0.0.0", port["containerPort"])  # noqa: S104 - of the pod
    assert "worker_id" not in taken.params or taken.params["worker_id"] is None


def test_liveness_asks_no_database() -> None:
    """Its outage must not restart every worker."""
    probed = [container(pod) for pod in PODS.values() if "ports" in container(pod)]
    assert len(probed) == 2
    for found in probed:
        paths = {
            kind: found[f"{kind}Probe"]["httpGet"]["path"]
            for kind in ("startup", "liveness", "readiness")
        }
        assert paths == {
            "startup": "/health/started",
            "liveness": "/health",
            "readiness": "/health/ready",
        }
        names = {port["name"] for port in found["ports"]}
        for kind in ("startup", "liveness", "readiness"):
            assert found[f"{kind}Probe"]["httpGet"]["port"] in names


def test_try_later_is_no_failure_of_a_job() -> None:
    [cron] = manifests("CronJob")
    [migrate] = manifests("Job")
    assert cron["spec"]["concurrencyPolicy"] == "Forbid"
    for job in (cron["spec"]["jobTemplate"]["spec"], migrate["spec"]):
        # The API server refuses the policy with any other.
        assert job["template"]["spec"]["restartPolicy"] == "Never"
        rules = {
            code: rule["action"]
            for rule in job["podFailurePolicy"]["rules"]
            for code in rule.get("onExitCodes", {}).get("values", ())
        }
        assert rules == {75: "Ignore", 77: "FailJob", 78: "FailJob"}
        name = container(job["template"])["name"]
        for rule in job["podFailurePolicy"]["rules"]:
            assert rule.get("onExitCodes", {}).get("containerName", name) == name


def test_a_pass_of_upkeep_ends_before_the_next_begins() -> None:
    [cron] = manifests("CronJob")
    job = cron["spec"]["jobTemplate"]["spec"]
    taken = parse(container(job["template"])["args"])
    assert cron["spec"]["schedule"] == "*/5 * * * *"
    assert taken.params["max_runtime"] < job["activeDeadlineSeconds"] < 300


def test_only_one_of_workers_and_cron_job_maintains(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("Deployment pgflow-worker", "ScaledJob pgflow-batch"):
        seen = environment(PODS[name])
        monkeypatch.setenv("PGFLOW_MAINTAIN", seen["PGFLOW_MAINTAIN"])
        assert parse(["work"]).params["maintain"] is False


def test_whoever_selects_pods_finds_them() -> None:
    labels = [pod["metadata"]["labels"] for pod in PODS.values()]
    for selector in selectors():
        assert any(selector.items() <= found.items() for found in labels), selector
    [service] = manifests("Service")
    admin = PODS["Deployment pgflow-admin"]
    ports = {port["name"]: port["containerPort"] for port in container(admin)["ports"]}
    assert service["spec"]["ports"][0]["targetPort"] in ports
    hosts = environment(admin)["PGFLOW_ADMIN_HOSTS"].split(",")
    assert service["metadata"]["name"] in hosts


def test_metrics_are_reached_while_the_database_is_away() -> None:
    """No pod is ready then, and an alert waits for `pgflow_db_up 0`."""
    [service] = manifests("Service")
    assert service["spec"]["publishNotReadyAddresses"] is True


def selectors() -> Iterator[dict[str, str]]:
    for found in manifests("Deployment"):
        yield found["spec"]["selector"]["matchLabels"]
    for found in manifests("Service"):
        yield found["spec"]["selector"]
    for found in manifests("NetworkPolicy"):
        yield found["spec"]["podSelector"]["matchLabels"]


@pytest.mark.parametrize(
    "scaler", manifests(*SCALERS), ids=lambda found: found["metadata"]["name"]
)
def test_a_scaler_is_what_keda_expects(scaler: dict[str, Any]) -> None:
    """By hand: kubernetes-validate has no schemas of others' resources."""
    spec = scaler["spec"]
    assert set(spec) <= SCALERS[scaler["kind"]]
    deployments = {m["metadata"]["name"] for m in manifests("Deployment")}
    lenders = {m["metadata"]["name"] for m in manifests("TriggerAuthentication")}
    if scaler["kind"] == "ScaledObject":
        assert spec["scaleTargetRef"]["name"] in deployments
        # Somebody has to reap the jobs of a worker that died.
        assert spec["minReplicaCount"] >= 1
    else:
        assert spec["jobTargetRef"]["template"]["spec"]["restartPolicy"] == "Never"
    for trigger in spec["triggers"]:
        must, may = TRIGGERS[trigger["type"]]
        given = trigger["metadata"]
        assert must <= set(given) <= must | may
        assert all(isinstance(value, str) for value in given.values())
        if trigger["type"] == "postgresql":
            assert trigger["authenticationRef"]["name"] in lenders


def test_keda_is_lent_the_url_that_pods_have() -> None:
    [lender] = manifests("TriggerAuthentication")
    [lent] = lender["spec"]["secretTargetRef"]
    for pod in PODS.values():
        secret = next(v for v in pod["spec"]["volumes"] if "secret" in v)["secret"]
        assert lent["name"] == secret["secretName"]
        assert lent["key"] in {item["key"] for item in secret["items"]}
    assert lent["parameter"] == "connection"


def test_no_scaler_starts_more_than_a_database_bears() -> None:
    processes = next(each for each in work.WORK.settings if each.name == "processes")
    for found in manifests(*SCALERS):
        # As RUNBOOK says; one for a probe and one for a job that runs apart, too.
        each = 2 * processes.default + 3 + 1 + 1
        connections = found["spec"]["maxReplicaCount"] * each
        # What PostgreSQL allows unless told otherwise, and some for everybody else.
        assert connections <= 80
