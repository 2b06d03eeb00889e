"""The house of pgflow: which package may import which, and how large a room may be."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import pgflow_cli

ROOT = Path(pgflow_cli.__file__).parent

# A package imports from those to its right; names between two arrows do not know each
# other. `__main__` begins the program; `testing` is for applications.
RULE = """
__main__ → commands → cli, testing → admin, worker → operations → inspection, backups
→ local → maintenance, handlers → repository, telemetry → models → formats → errors
"""
LEVELS = [re.findall(r"\w+", level) for level in RULE.split("→")]
LEVEL = {name: level for level, names in enumerate(LEVELS) for name in names}

# The four nevers.
ONLY = {
    "psycopg": {"repository"},
    **{library: {"cli", "commands"} for library in ("click", "rich", "tabulate")},
    **{library: {"admin"} for library in ("werkzeug", "jinja2", "waitress")},
}
OURS = re.compile(
    r"""(?:environ\.get\(|environ\[|getenv\()["'](PGFLOW_\w*|DATABASE_URL)"""
)

MOST_LINES = 500
MOST_MODULES = 16
MOST_NAMES_AT_THE_ROOT = 16
# What may be imported inside a function beyond cli and commands, whose --help loads
# little: what makes a start slow, what is optional, what one platform has.
MAY_COME_LATE = {
    "prometheus_client", "waitress", "werkzeug", "opentelemetry", "msgspec", "pydantic",
    "pwd", "ctypes", "tty", "termios", "msvcrt", "pgflow_cli.admin",
    "pgflow_cli.cli.program",
}  # fmt: skip
# A module for each sub-command, each noun's statements, each noun's routes and pages.
BY_NOUN = {"commands", "repository", "admin/api", "admin/ui"}

MODULES = sorted(path for path in ROOT.rglob("*.py") if path != ROOT / "__init__.py")
PACKAGES = sorted({path.parent for path in MODULES} - {ROOT})


def test_every_module_is_in_a_room_of_the_rule() -> None:
    assert {room(module) for module in MODULES} == LEVEL.keys()


def test_a_package_imports_from_packages_to_its_right() -> None:
    assert [
        f"{module.relative_to(ROOT)} imports {name}"
        for module in MODULES
        for name in own_imports(module)
        if (other := name.split(".")[1]) != room(module)
        and LEVEL[other] <= LEVEL[room(module)]
    ] == []


@pytest.mark.parametrize("library", ONLY)
def test_a_library_is_known_in_its_rooms_only(library: str) -> None:
    users = {
        room(module)
        for module in MODULES
        for name in imports(module)
        if name.split(".")[0] == library
    }
    assert users <= ONLY[library]


def test_only_settings_names_variables_of_ours() -> None:
    readers = {
        str(module.parent.relative_to(ROOT))
        for module in MODULES
        if OURS.search(module.read_text(encoding="utf-8"))
    }
    assert readers <= {"cli/settings"}


def test_no_modules_import_each_other_in_a_circle() -> None:
    # Raises CycleError, which names the modules of one.
    TopologicalSorter(
        {
            dotted(module): set(own_imports(module, at_start=True)) - {dotted(module)}
            for module in MODULES
        }
    ).prepare()


def test_rooms_have_a_size_that_can_be_seen_at_once() -> None:
    at_the_root = {room(module) for module in MODULES} - {"__main__"}
    assert len(at_the_root) <= MOST_NAMES_AT_THE_ROOT
    too_many = {
        str(package.relative_to(ROOT))
        for package in PACKAGES
        if len(modules_of(package)) > MOST_MODULES
    }
    assert too_many <= BY_NOUN


def test_modules_can_be_read_in_one_go() -> None:
    assert [
        f"{module.relative_to(ROOT)}: {lines} lines"
        for module in MODULES
        if (lines := module.read_text(encoding="utf-8").count("\n")) > MOST_LINES
    ] == []


def test_imports_stand_at_the_top() -> None:
    assert [
        f"{module.relative_to(ROOT)} imports {name} inside a function"
        for module in MODULES
        if room(module) not in {"cli", "commands"}
        for name in {*imports(module)} - {*imports(module, at_start=True)}
        if not any(f"{name}.".startswith(f"{late}.") for late in MAY_COME_LATE)
    ] == []


def test_a_command_names_its_options() -> None:
    """In its parameters, or in the fields of a class: never in a dictionary."""
    assert [
        f"{module.relative_to(ROOT)}: {function.name}"
        for module in MODULES
        if room(module) == "commands"
        for function in ast.walk(ast.parse(module.read_text(encoding="utf-8")))
        if isinstance(function, ast.FunctionDef) and function.args.kwarg
    ] == []


def room(module: Path) -> str:
    return module.relative_to(ROOT).parts[0].removesuffix(".py")


def dotted(module: Path) -> str:
    name = ".".join(module.relative_to(ROOT.parent).with_suffix("").parts)
    return name.removesuffix(".__init__")


def modules_of(package: Path) -> list[Path]:
    return [path for path in package.glob("*.py") if path.name != "__init__.py"]


def own_imports(module: Path, *, at_start: bool = False) -> Iterator[str]:
    """Yield our modules that one imports; `at_start`: when it is itself imported."""
    for name in imports(module, at_start=at_start):
        if name.startswith("pgflow_cli."):
            # Of a name in a module, the module.
            found = name if exists(name) else name.rpartition(".")[0]
            if found != "pgflow_cli":
                yield found


def exists(name: str) -> bool:
    place = ROOT.parent.joinpath(*name.split("."))
    return place.with_suffix(".py").exists() or place.is_dir()


@cache
def imports(module: Path, *, at_start: bool = False) -> tuple[str, ...]:
    tree = ast.parse(module.read_text(encoding="utf-8"))
    return tuple(imported(tree, at_start=at_start))


def imported(tree: ast.AST, *, at_start: bool) -> Iterator[str]:
    for node in statements(tree, at_start=at_start):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def statements(tree: ast.AST, *, at_start: bool) -> Iterator[ast.AST]:
    """Yield what is run, but not what is for type checkers alone."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            continue
        yield node
        is_function = isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))
        if not isinstance(node, ast.expr) and not (at_start and is_function):
            yield from statements(node, at_start=at_start)
