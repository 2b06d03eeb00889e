"""What RUNBOOK.md types at Compose, Kubernetes, systemd and HTTP exists there."""

from __future__ import annotations

import itertools
import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass, field
from urllib.parse import urlsplit

import pytest

from pgflow_cli.admin import application
from pgflow_cli.admin.routes import url_map
from tests.support.deployment import (
    TREE,
    UNITS,
    compose,
    environment_of,
    manifests,
    parse,
)

TEXT = (TREE / "RUNBOOK.md").read_text(encoding="utf-8")
SERVICES = compose()["services"]
# Options of Compose's subcommands: those that take a value, and those that do not.
OPTIONS = {
    "": ({"--profile"}, set()),
    "up": ({"--scale"}, {"-d", "--build", "--wait"}),
    "down": (set(), {"-v"}),
    "stop": (set(), set()),
    "ps": (set(), set()),
    "logs": ({"--tail"}, {"-f"}),
    "exec": (set(), {"-T"}),
    "run": (set(), {"--rm"}),
    "cp": (set(), set()),
}
# Programs in the container of the database.
OF_POSTGRESQL = {"pg_dump", "psql", "createdb", "dropdb"}


def typed(program: str) -> list[str]:
    """Return each command of a program, in a block of code or in backquotes."""
    blocks = re.findall(r"```(?:sh|powershell)\n(.*?)```", TEXT, re.DOTALL)
    lines = [line.strip() for block in blocks for line in block.splitlines()]
    lines += re.findall(r"`([^`\n]+)`", re.sub(r"```.*?```", "", TEXT, flags=re.S))
    # What comes after a pipe is a command of its own.
    parts = [part.strip() for line in lines for part in re.split(r"\s\|\s", line)]
    return sorted({part for part in parts if part.split(" ")[0] == program})


def words_of(line: str) -> list[str]:
    """Return the words without what the shell takes for itself."""
    words = shlex.split(line, comments=True)
    redirected = [n for n, word in enumerate(words) if word in ("<", ">")]
    return words[: redirected[0]] if redirected else words


@dataclass
class Compose:
    """A command of Compose: its subcommand, options and the rest of the words."""

    subcommand: str = ""
    options: dict[str, list[str]] = field(default_factory=dict)
    rest: list[str] = field(default_factory=list)

    @classmethod
    def read(cls, line: str) -> Compose:
        docker, plugin, *words = words_of(line)
        assert (docker, plugin) == ("docker", "compose")
        made = cls()
        made._take(words)
        made.subcommand, *words = words
        made._take(words)
        made.rest = words
        return made

    def _take(self, words: list[str]) -> None:
        """Take the options of this subcommand off the front; refuse others."""
        with_value, bare = OPTIONS[self.subcommand]
        while words and words[0].startswith("-"):
            option = words.pop(0)
            assert option in with_value | bare, option
            taken = words.pop(0) if option in with_value else ""
            self.options.setdefault(option, []).append(taken)

    def enabled(self) -> set[str]:
        """Return the services that its profiles make part of it."""
        asked = self.options.get("--profile", [])
        return {
            name
            for name, service in SERVICES.items()
            if "*" in asked
            or set(service.get("profiles", asked)) & set(asked)
            # A service without profiles always is.
            or "profiles" not in service
        }


COMPOSE = [line for line in typed("docker") if line.startswith("docker compose")]


def test_the_commands_of_the_seed_are_among_those_tried() -> None:
    assert {
        "docker compose up --build -d",
        "docker compose --profile worker up -d --scale worker=4",
        "docker compose down",
        "docker compose exec -T db pg_dump -U postgres postgresflow_dev"
        " > backups/postgresflow_dev.sql",
        "docker compose exec -T db psql -U postgres -d postgresflow_dev"
        " -v ON_ERROR_STOP=1 --single-transaction",
    } <= set(COMPOSE)
    assert {
        "Invoke-WebRequest -Uri http://localhost:3003/health -UseBasicParsing",
    } <= set(typed("Invoke-WebRequest"))
    assert len(typed("Invoke-RestMethod")) >= 2


@pytest.mark.parametrize("line", COMPOSE)
def test_a_command_of_compose_names_what_compose_yaml_has(line: str) -> None:
    command = Compose.read(line)
    profiles = {p for service in SERVICES.values() for p in service.get("profiles", ())}
    assert set(command.options.get("--profile", [])) <= profiles | {"*"}
    named = [word.partition("=")[0] for word in command.options.get("--scale", [])]
    if command.subcommand in ("exec", "run"):
        service, *inside = command.rest
        named.append(service)
        if command.subcommand == "exec":
            assert_runs_in(service, inside)
        else:
            parse(inside)  # the image begins each with `pgflow`
    elif command.subcommand == "cp":
        named.append(command.rest[0].partition(":")[0])
    else:
        named += command.rest
    assert set(named) <= command.enabled()


def assert_runs_in(service: str, words: list[str]) -> None:
    program, *arguments = words
    if program == "pgflow":
        assert SERVICES[service]["image"] == "pgflow:local"
        parse(arguments)
        return
    assert program in OF_POSTGRESQL
    assert service == "db"
    seen = environment_of("db")
    given = dict(itertools.pairwise(arguments))
    assert given["-U"] == seen["POSTGRES_USER"]
    assert given.get("-d", arguments[-1]) == seen["POSTGRES_DB"]


def addresses() -> list[str]:
    lines = [*typed("curl"), *typed("Invoke-WebRequest"), *typed("Invoke-RestMethod")]
    found = [re.search(r"https?://[^\s\"`]+", line) for line in lines]
    return sorted({match[0] for match in found if match})


@pytest.mark.parametrize("address", addresses())
def test_an_address_is_a_route_of_the_admin_server(address: str) -> None:
    parts = urlsplit(address)
    assert f"{parts.hostname}:{parts.port}" == "localhost:3003"
    assert parts.port == int(SERVICES["pgflow"]["ports"][0].split(":")[1])
    found, _ = (
        url_map(application.ROUTES).bind("localhost").match(parts.path, method="GET")
    )
    assert found.path == parts.path


def files_of(line: str) -> Iterator[str]:
    yield from re.findall(r"-f (\S+)", line)


KUBECTL = typed("kubectl")


@pytest.mark.parametrize("line", KUBECTL)
def test_a_command_of_kubectl_names_what_the_manifests_have(line: str) -> None:
    for name in files_of(line):
        assert (TREE / name).is_file(), name
    objects = {f"{m['kind'].lower()}/{m['metadata']['name']}" for m in manifests()}
    for named in re.findall(r"\b((?:deployment|service|job)/[\w-]+)", line):
        assert named in objects
    if " -- pgflow " in line:
        parse(shlex.split(line.partition(" -- pgflow ")[2]))


def test_every_manifest_is_applied_by_somebody() -> None:
    applied = {name for line in KUBECTL for name in files_of(line)}
    there = {
        str(path.relative_to(TREE)) for path in (TREE / "docker/k8s").rglob("*.yaml")
    }
    assert applied == there


def test_a_command_of_systemd_names_units_that_there_are() -> None:
    lines = [*typed("systemctl"), *typed("journalctl")]
    named = {
        word.replace("@emails.", "@.")
        for line in lines
        for word in words_of(line)
        if word.endswith((".service", ".timer"))
    }
    units = {path.name for path in UNITS}
    assert named <= units
    # Each is started by hand or by its timer.
    timed = {name.replace(".timer", ".service") for name in named if "timer" in name}
    assert named | timed == units
