"""What stands in compose.yaml and docker/, read as the programs that use it do."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import click
import yaml

from pgflow_cli.cli import program, settings
from pgflow_cli.cli.settings.option import Session

TREE = Path(__file__).resolve().parents[2]
COMPOSE = TREE / "compose.yaml"
MANIFESTS = sorted((TREE / "docker" / "k8s").rglob("*.yaml"))
UNITS = sorted((TREE / "docker" / "systemd").iterdir())
# What is read by the programs around pgflow, and by no setting of its own.
OF_OTHERS = {"PGPASSWORD", "POSTGRES_USER", "POSTGRES_PASSWORD", "POSTGRES_DB"}

_VARIABLE = re.compile(r"\$\{(\w+):-([^}]*)\}")


def compose() -> dict[str, Any]:
    document: dict[str, Any] = yaml.safe_load(COMPOSE.read_text(encoding="utf-8"))
    return document


def variables(text: str) -> list[tuple[str, str]]:
    """Return what Compose fills in: each variable and its default."""
    return _VARIABLE.findall(text)


def environment_of(
    service: str, given: Mapping[str, str] | None = None
) -> dict[str, str]:
    """Return what a container of the service sees, where the shell has `given`."""
    written = compose()["services"][service].get("environment", {})
    known = given or {}
    return {
        name: _VARIABLE.sub(lambda m: known.get(m[1]) or m[2], value)
        for name, value in written.items()
    }


def manifests(*kinds: str) -> list[dict[str, Any]]:
    """Return every Kubernetes object, or those of some kinds."""
    read = [
        document
        for path in MANIFESTS
        for document in yaml.safe_load_all(path.read_text(encoding="utf-8"))
    ]
    return [found for found in read if not kinds or found["kind"] in kinds]


def pods() -> dict[str, dict[str, Any]]:
    """Return the template of every pod, by the name of what makes it."""
    return {
        f"{found['kind']} {found['metadata']['name']}": template
        for found in manifests()
        if (template := _template(found["spec"])) is not None
    }


def container(pod: Mapping[str, Any]) -> dict[str, Any]:
    [only] = pod["spec"]["containers"]
    assert isinstance(only, dict)
    return only


def unit(path: Path) -> list[tuple[str, str]]:
    """Return the settings of a unit file in order; one may stand there twice."""
    lines = path.read_text(encoding="utf-8").splitlines()
    return [
        (key, value)
        for line in lines
        if "=" in line and not line.startswith("#")
        for key, _, value in [line.partition("=")]
    ]


def parse(arguments: Sequence[str]) -> click.Context:
    """Read a command line of pgflow with the variables in force, and run nothing."""
    command: click.Command = program.program
    words = list(arguments)
    context = click.Context(command, obj=Session(variables=settings.VARIABLES))
    while isinstance(command, click.Group):
        made = command.make_context("pgflow", words, parent=context)
        context, words = made, [*made._protected_args, *made.args]
        name, found, words = command.resolve_command(made, words)
        assert found is not None, name
        command = found
    return command.make_context("pgflow", words, parent=context)


def named_in_environments() -> Iterator[tuple[str, str]]:
    """Yield where a variable is set, and its name: every one, of every file."""
    for service, described in compose()["services"].items():
        if described.get("image") == "pgflow:local" or service == "db":
            for name in described.get("environment", {}):
                yield f"compose {service}", name
    for pod, template in pods().items():
        for entry in container(template)["env"]:
            yield pod, entry["name"]
    for path in UNITS:
        for key, value in unit(path):
            if key == "Environment":
                yield path.name, value.partition("=")[0]


def _template(spec: Mapping[str, Any]) -> dict[str, Any] | None:
    for key in ("jobTemplate", "jobTargetRef"):
        if key in spec:
            inner = spec[key]
            return _template(inner.get("spec", inner))
    found: dict[str, Any] | None = spec.get("template")
    return found
