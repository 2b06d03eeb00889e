"""A module imports only from the layers below its own."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pgflow_cli

ROOT = Path(pgflow_cli.__file__).parent

# From the bottom to the top. The modules of a line do not know each other.
LAYERS = (
    {
        "clock",
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
    {"manifests", "measures", "startup"},
    {
        "sqlfiles",
        "backoff",
        "destinations",
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
        "hindrances",
        "selection",
        "logwriter",
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
        "reaping",
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


def test_every_module_belongs_to_a_layer() -> None:
    assert {part(module) for module in MODULES} == HEIGHT.keys()


def test_a_module_imports_from_lower_layers_only() -> None:
    assert [*upwards()] == []


def upwards() -> Iterator[str]:
    """Yield imports that lead up, or across a layer."""
    for module in MODULES:
        own = part(module)
        for name in imports(module, also_for_types=False):
            if name.startswith("pgflow_cli."):
                other = name.split(".")[1]
                is_package = (ROOT / own).is_dir() and own != "commands"
                inside = other == own and is_package
                if not inside and HEIGHT[other] >= HEIGHT[own]:
                    yield f"{module.relative_to(ROOT)} imports {name}"


def test_only_the_repository_knows_psycopg() -> None:
    assert users("psycopg", also_for_types=False) == {"repository"}


def test_only_output_and_the_terminal_know_rich_and_tabulate() -> None:
    assert users("rich") | users("tabulate") == {"output", "terminal"}


def test_nothing_below_the_terminal_imports_click() -> None:
    assert {name for name in users("click") if HEIGHT[name] < CLICK} == set()


def test_only_settings_reads_variables_of_pgflow() -> None:
    reading = re.compile(r"""(?:environ\.get\(|environ\[|getenv\()["'](\w+)""")
    readers = {
        part(module)
        for module in MODULES
        for name in reading.findall(module.read_text(encoding="utf-8"))
        if name.startswith(("PGFLOW_", "DATABASE_URL"))
    }
    assert readers <= {"settings"}


def users(package: str, *, also_for_types: bool = True) -> set[str]:
    """Return the parts of ours that import a package of others."""
    return {
        part(module)
        for module in MODULES
        for name in imports(module, also_for_types=also_for_types)
        if name.split(".")[0] == package
    }


def part(module: Path) -> str:
    return module.relative_to(ROOT).parts[0].removesuffix(".py")


@cache
def imports(module: Path, *, also_for_types: bool = True) -> tuple[str, ...]:
    tree = ast.parse(module.read_text(encoding="utf-8"))
    return tuple(imported(tree, also_for_types=also_for_types))


def imported(tree: ast.AST, *, also_for_types: bool) -> Iterator[str]:
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
        if not isinstance(node, ast.expr):  # those have no statements
            yield from statements(node, also_for_types=also_for_types)
