"""compose.yaml means what the runbook says of it, without an engine to ask."""

from __future__ import annotations

import re
import subprocess
from typing import Any

import pytest
import yaml

from pgflow_cli.cli import settings
from pgflow_cli.cli.settings.option import Setting
from pgflow_cli.cli.settings.types import Duration
from pgflow_cli.errors import ConfigurationError
from tests.support.deployment import (
    COMPOSE,
    TREE,
    compose,
    environment_of,
    parse,
    variables,
)
from tests.support.tools import needs_tool

OWN = ("pgflow", "worker", "maintain")  # the services that run pgflow
# Where Compose does not go by pgflow's own default, and what for.
OTHER_DEFAULTS = {
    "PGFLOW_SIMULATE": "1",  # an empty machine shows jobs that run
    "PGFLOW_MIGRATE_ON_STARTUP": "1",  # nobody else brings a new volume up to date
    "PGFLOW_ADMIN_ADDR": "0.0.0.0:3003",  # of the container; published on loopback
    "PGFLOW_ADMIN_INSECURE": "1",  # the same
    "PGFLOW_ADMIN_HOSTS": "pgflow",  # its name for the other containers
}
NOT_OF_PGFLOW = {"POSTGRES_PASSWORD": "postgres", "GRAFANA_PASSWORD": "pgflow"}


def services() -> dict[str, Any]:
    found: dict[str, Any] = compose()["services"]
    return found


def as_written(setting: Setting) -> str:
    """Return a setting's default as its variable would have it."""
    default = setting.default
    if setting.is_flag:
        return "1" if default else "0"
    if isinstance(default, tuple):
        return ",".join(default)
    return "" if default is None else str(default).removesuffix(setting.unit or "\0")


def seconds(text: str) -> float:
    return float(Duration().convert(text, None, None))


def test_it_fits_the_specification() -> None:
    checker = needs_tool("check-jsonschema")
    subprocess.run(
        [checker, "--builtin-schema", "vendor.compose-spec", str(COMPOSE)],
        check=True,
        capture_output=True,
    )


def test_services_and_profiles_are_those_of_the_runbook() -> None:
    profiles = {name: tuple(s.get("profiles", ())) for name, s in services().items()}
    assert profiles == {
        "db": (),
        "pgflow": (),
        "worker": ("worker",),
        "maintain": ("maintain",),
        "prometheus": ("observability",),
        "grafana": ("observability",),
    }
    assert compose()["name"] == "pgflow"


def test_the_database_is_the_one_of_the_runbook() -> None:
    db = environment_of("db")
    assert (db["POSTGRES_USER"], db["POSTGRES_DB"]) == ("postgres", "postgresflow_dev")
    for service in OWN:
        seen = environment_of(service)
        assert seen["DATABASE_URL"] == "postgres://postgres@db:5432/postgresflow_dev"
        assert seen["PGPASSWORD"] == db["POSTGRES_PASSWORD"] == "postgres"


def test_a_password_may_have_any_character() -> None:
    hard = "p@ss/w:ord?#%25"
    given = {"POSTGRES_PASSWORD": hard}
    assert environment_of("db", given)["POSTGRES_PASSWORD"] == hard
    assert environment_of("pgflow", given)["PGPASSWORD"] == hard
    assert hard not in environment_of("pgflow", given)["DATABASE_URL"]


def test_every_port_is_published_on_loopback_only() -> None:
    published = {n: s["ports"] for n, s in services().items() if "ports" in s}
    assert published.pop("pgflow") == ["127.0.0.1:3003:3003"]
    assert published.pop("db") == ["127.0.0.1:5433:5432"]
    for ports in published.values():
        assert all(str(port).startswith("127.0.0.1:") for port in ports)


def test_every_value_of_an_environment_is_quoted() -> None:
    """A bare `off` would be false to one reader of YAML and "off" to another."""
    document = yaml.compose(COMPOSE.read_text(encoding="utf-8"))
    assert isinstance(document, yaml.MappingNode)
    found = list(environments(document))
    assert len(found) > 30
    bare = {key: style for key, style in found if style != '"'}
    assert bare == {}


def environments(node: yaml.MappingNode) -> Any:
    """Yield each variable that is set, and how its value is quoted."""
    for key, value in node.value:
        if not isinstance(value, yaml.MappingNode):
            continue
        inside = key.value in ("environment", "x-environment", "x-work", "x-upkeep")
        for name, written in value.value:
            if inside and isinstance(written, yaml.ScalarNode):
                yield name.value, written.style
        if not inside:
            yield from environments(value)


def test_the_example_has_every_variable_with_its_default() -> None:
    example = (TREE / ".env.example").read_text(encoding="utf-8")
    listed = dict(re.findall(r"^# ([A-Z_]+)=(.*)$", example, re.MULTILINE))
    used = variables(COMPOSE.read_text(encoding="utf-8"))
    assert dict(used) == listed
    # One default each, wherever it is used.
    assert len(set(used)) == len(listed)
    # Copied as it stands, it changes nothing, for pgflow in this folder neither.
    assert all(line.startswith("#") or not line for line in example.splitlines())


@pytest.mark.parametrize(
    ("name", "default"),
    sorted(set(variables(COMPOSE.read_text(encoding="utf-8")))),
)
def test_a_default_is_the_one_of_pgflow(name: str, default: str) -> None:
    if name in NOT_OF_PGFLOW:
        assert default == NOT_OF_PGFLOW[name]
        return
    declared = {as_written(s) for s in settings.ALL if s.variable == name}
    if name in OTHER_DEFAULTS:
        assert default == OTHER_DEFAULTS[name]
        assert default not in declared, "no exception any more"
    else:
        assert default in declared


@pytest.mark.parametrize("service", OWN)
def test_a_service_runs_a_command_that_pgflow_takes(
    service: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in environment_of(service).items():
        monkeypatch.setenv(name, value)
    described = services()[service]
    taken = parse(described["command"])
    if described["command"] == ["work"]:
        # Of the container; it is published on loopback.
        expected = ("0.0.0.0", 3003) if service == "pgflow" else None  # noqa: S104
        assert taken.params["admin"] == expected
        assert taken.params["simulate"] is True
        assert taken.params["migrate"] is taken.params["maintain"]
        assert taken.params["migrate"] is (service == "pgflow")
        assert taken.params["worker_id"] is None
        grace = seconds(described["stop_grace_period"])
        assert grace > taken.params["shutdown_timeout"] + 10
    check = described["healthcheck"]["test"]
    assert check[:2] == ["CMD", "pgflow"]
    parse(check[2:])


@pytest.mark.parametrize("off", ["off", "OFF", "false", "no", "0"])
def test_the_admin_api_can_be_switched_off(
    off: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = environment_of("pgflow", {"PGFLOW_ADMIN_ADDR": off})
    monkeypatch.setenv("PGFLOW_ADMIN_ADDR", seen["PGFLOW_ADMIN_ADDR"])
    assert parse(["work"]).params["admin"] is None


def test_an_address_that_is_none_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PGFLOW_ADMIN_ADDR", "everywhere")
    with pytest.raises(ConfigurationError, match="PGFLOW_ADMIN_ADDR"):
        parse(["work"])


def test_replicas_share_nothing_that_has_to_be_their_own() -> None:
    worker = services()["worker"]
    shared = {"container_name", "hostname", "ports", "network_mode"} & set(worker)
    assert not shared
    assert "PGFLOW_WORKER_ID" not in environment_of("worker")


def test_one_service_builds_the_image_that_the_others_run() -> None:
    """Two that build one tag at once fail on a machine's first build."""
    builders = [name for name, service in services().items() if "build" in service]
    assert builders == ["pgflow"]
    for name in OWN:
        service = services()[name]
        assert service["image"] == services()["pgflow"]["image"]
        if name not in builders:
            assert service["pull_policy"] == "never"
            assert list(service["depends_on"]) == ["pgflow"]
    build = services()["pgflow"]["build"]
    assert (TREE / build["context"] / build["dockerfile"]).is_file()


@pytest.mark.parametrize("service", OWN)
def test_a_container_has_no_rights_it_does_not_need(service: str) -> None:
    described = services()[service]
    assert described["read_only"] is True
    assert described["cap_drop"] == ["ALL"]
    assert described["security_opt"] == ["no-new-privileges:true"]
    assert "/tmp" in described["tmpfs"]  # noqa: S108 - of the container


def test_images_of_others_are_pinned() -> None:
    for name, service in services().items():
        if name not in OWN:
            assert re.fullmatch(r"[a-z/]+:v?\d+(\.\d+)*", service["image"]), name


def test_every_volume_is_declared() -> None:
    mounted = {
        volume.split(":")[0]
        for service in services().values()
        for volume in service.get("volumes", ())
    }
    named = {volume for volume in mounted if not volume.startswith("./")}
    assert named == set(compose()["volumes"])


def test_every_folder_that_is_mounted_is_there() -> None:
    """The engine would make an empty one, of root's, without a word."""
    bound = [
        volume.split(":")
        for service in services().values()
        for volume in service.get("volumes", ())
        if volume.startswith("./")
    ]
    assert len(bound) == 3
    for source, _, mode in bound:
        assert any((TREE / source).iterdir())
        assert mode == "ro"


def test_grafana_finds_its_dashboards_and_prometheus() -> None:
    provisioning = TREE / "docker/grafana/provisioning"
    [provider] = (provisioning / "dashboards").glob("*.yml")
    [source] = (provisioning / "datasources").glob("*.yml")
    [place] = yaml.safe_load(provider.read_text())["providers"]
    [prometheus] = yaml.safe_load(source.read_text())["datasources"]
    targets = {v.split(":")[1] for v in services()["grafana"]["volumes"]}
    assert place["options"]["path"] in targets
    assert prometheus["url"] == "http://prometheus:9090"


def test_prometheus_scrapes_a_service_by_its_name() -> None:
    text = (TREE / "docker/prometheus/prometheus.yml").read_text(encoding="utf-8")
    [job] = yaml.safe_load(text)["scrape_configs"]
    [[target]] = [config["targets"] for config in job["static_configs"]]
    name, _, port = target.partition(":")
    assert environment_of(name)["PGFLOW_ADMIN_ADDR"].endswith(f":{port}")
