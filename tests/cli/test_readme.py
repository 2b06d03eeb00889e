"""The README's tables say what the program does."""

from __future__ import annotations

import re
from pathlib import Path

from pgflow_cli import errors
from pgflow_cli.cli import settings
from pgflow_cli.cli.settings.option import Setting

README = Path(__file__).parents[2] / "README.md"


def section(name: str) -> list[str]:
    """Return the rows of a table between its two marks, without the heading."""
    text = README.read_text(encoding="utf-8")
    found = re.search(rf"<!-- {name}: .*?-->\n(.*?)<!-- end of {name} -->", text, re.S)
    assert found is not None, f"README has no table of {name}"
    return [line for line in found[1].splitlines() if line.startswith("|")][2:]


def settings_table() -> list[str]:
    """Return the rows as they should be; paste them when this test fails."""
    rows = []
    for setting in settings.ALL:
        if setting.variable is None:
            continue
        named = [flag for flag in setting.flags if flag.startswith("-")]
        flags = ", ".join(f"`{flag}`" for flag in named)
        cells = (f"`{setting.variable}`", flags, _default(setting), setting.help)
        rows.append(
            "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"
        )
    return rows


def _default(setting: Setting) -> str:
    if isinstance(setting.show_default, str):
        return setting.show_default
    if setting.is_flag:
        return "on" if setting.default else "off"
    if isinstance(setting.default, tuple):
        return ",".join(setting.default)
    return "" if setting.default is None else str(setting.default)


def test_every_setting_with_a_variable_is_in_the_readme() -> None:
    assert section("settings") == settings_table(), "\n".join(settings_table())


def test_every_exit_code_is_in_the_readme() -> None:
    kinds = [errors.PgflowError, *_below(errors.PgflowError)]
    codes = {kind.exit_code for kind in kinds} | {0}
    listed = {int(row.split("|")[1]) for row in section("exit codes")}
    assert listed == codes


def _below(kind: type[errors.PgflowError]) -> list[type[errors.PgflowError]]:
    found = kind.__subclasses__()
    return found + [deeper for each in found for deeper in _below(each)]


def test_every_listed_command_exists() -> None:
    from pgflow_cli.cli import program  # noqa: PLC0415

    text = README.read_text(encoding="utf-8")
    listed = set(re.findall(r"^\| `pgflow ([\w-]+)", text, re.MULTILINE))
    assert listed == set(program.COMMANDS)


def test_files_that_readme_names_exist() -> None:
    text = README.read_text(encoding="utf-8")
    page = text[text.index("## How pgflow is built") : text.index("## Decisions")]
    named = set(re.findall(r"`([a-z_]+/[a-z0-9_/.]+)`", page))
    assert len(named) > 20
    roots = [README.parent, README.parent / "pgflow_cli"]
    assert [n for n in named if not any((r / n).exists() for r in roots)] == []
