"""A module imports only from the layers below its own."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import pgflow_cli

ROOT = Path(pgflow_cli.__file__).parent

# From the bottom to the top. The modules of a line do not know each other.
LAYERS = (
    {
        "errors",
        "fence",
        "letters",
        "listings",
        "models",
        "notices",
        "oversight",
        "plans",
        "symptoms",
        "upkeep",
    },
    {"manifests", "measures"},
    {
        "sqlfiles",
        "backoff",
        "facts",
        "times",
        "escaping",
        "fingerprints",
        "status_files",
        "tracing",
    },
    {
        "payloads",
        "verbatim",
        "configuration",
        "counters",
        "cursors",
        "drain",
        "families",
        "selection",
        "spans",
    },
    {"queue_status", "repository"},
    {
        "handlers",
        "census",
        "explanation",
        "fencing",
        "producer",
        "migrations",
        "queue_changes",
        "probes",
        "workforce",
        "local_server",
    },
    {"endings", "joblists", "loglines"},
    {"jobchanges"},
    {"logs", "submissions"},
    {
        "batches",
        "bundles",
        "dead_letters",
        "maintenance",
        "previews",
        "programs",
        "replays",
        "simulation",
    },
    {"clients", "orders"},
    {"diagnosis"},
    {"backups"},
    {"metrics"},
    {"running", "scrapes"},
    {"companions"},
    {"supervisor"},
    {"local_worker", "testing"},
    {"development"},
    {"demonstration"},
    {"cells"},
    {"alerts", "exports", "queue_tables"},
    {"dashboard"},
    {"admin"},
    {"terminal"},
    {"output"},
    {"jobcolumns", "letter_tables", "portraits", "scrolling"},
    {"options"},
    {"candidates"},
    {"parameters"},
    {"settings"},
    {"consent", "exposure", "filters", "inventory", "serving", "shells"},
    {"inquiry", "topics"},
    {"context", "reruns"},
    {"failures"},
    {"commands"},
    {"cli"},
    {"__main__"},
)
HEIGHT = {name: height for height, layer in enumerate(LAYERS) for name in layer}
CLICK = HEIGHT["terminal"]
MODULES = sorted(path for path in ROOT.rglob("*.py") if path != ROOT / "__init__.py")


@pytest.fixture(params=MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def module(request: pytest.FixtureRequest) -> Path:
    path: Path = request.param
    return path


def test_every_module_belongs_to_a_layer(module: Path) -> None:
    assert part(module) in HEIGHT


def test_a_module_imports_from_lower_layers_only(module: Path) -> None:
    own = part(module)
    for imported in imports(module, also_for_types=False):
        if imported.startswith("pgflow_cli."):
            other = imported.split(".")[1]
            same_package = other == own and own != "commands" and (ROOT / own).is_dir()
            assert same_package or HEIGHT[other] < HEIGHT[own], imported


def test_only_the_repository_knows_psycopg(module: Path) -> None:
    if part(module) not in {"repository", "migrations"}:
        assert "psycopg" not in foreign(module, also_for_types=False)


def test_only_output_and_the_terminal_know_rich_and_tabulate(module: Path) -> None:
    if part(module) not in {"output", "terminal"}:
        assert not {"rich", "tabulate"} & foreign(module)


def test_nothing_below_the_terminal_imports_click(module: Path) -> None:
    if HEIGHT[part(module)] < CLICK:
        assert "click" not in foreign(module)


def test_only_settings_reads_variables_of_pgflow(module: Path) -> None:
    source = module.read_text(encoding="utf-8")
    read = set(
        re.findall(r"""(?:environ\.get\(|environ\[|getenv\()["'](\w+)""", source)
    )
    ours = {name for name in read if name.startswith(("PGFLOW_", "DATABASE_URL"))}
    assert not ours or part(module) == "settings"


def part(module: Path) -> str:
    return module.relative_to(ROOT).parts[0].removesuffix(".py")


def foreign(module: Path, *, also_for_types: bool = True) -> set[str]:
    return {
        name.split(".")[0] for name in imports(module, also_for_types=also_for_types)
    }


def imports(module: Path, *, also_for_types: bool = True) -> Iterator[str]:
    tree = ast.parse(module.read_text(encoding="utf-8"))
    for node in statements(tree, also_for_types=also_for_types):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            name = str(node.module)
            if name == "pgflow_cli":
                yield from (f"pgflow_cli.{alias.name}" for alias in node.names)
            else:
                yield name


def statements(tree: ast.AST, *, also_for_types: bool) -> Iterator[ast.AST]:
    for node in ast.iter_child_nodes(tree):
        for_types = (
            isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
        )
        if for_types and not also_for_types:
            continue
        yield node
        yield from statements(node, also_for_types=also_for_types)
