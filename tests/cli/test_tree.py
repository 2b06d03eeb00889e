"""The commands and their options are those of the documents, no fewer and no others.

The table is written by hand from CLI.md §4, so that it cannot follow the program.
"""

from __future__ import annotations

import click
import pytest

from pgflow_cli.cli import program
from tests.cli.test_help import found

_EVERY_FILTER = (
    "--queue --type --error-code --reason --fingerprint --worker --code-version --since"
    " --until --match --payload-contains --meta --replay-of"
)
FILTER = _EVERY_FILTER.split()
PAGE = ["--limit", "--cursor", "--all-pages", "--sort", "--columns", "--no-headers"]
WATCH = ["--watch"]
MUTATE = ["--dry-run", "--yes", "--all", "--note", "--as", "--max", "--batch-size"]
ONE = ["--dry-run", "--yes", "--note", "--as"]  # a change of what is named
LIST = ["--sort", "--columns", "--no-headers"]

# A group that takes its arguments for those of this command of it.
BY_DEFAULT = {"replay": "replay run"}

# Path, options of CLI.md, and those that were added since: each a decision.
# fmt: off
TREE: tuple[tuple[str, list[str], list[str]], ...] = (
    (
        "maintain",
        [
            "--loop",
            "--interval",
            "--archive-after",
            "--prune-after",
            "--dlq-retention",
            "--task",
            "--skip",
            "--batch-size",
            "--sleep",
            "--max-runtime",
            "--lock-wait",
            "--skip-if-locked",
            "--dry-run",
        ],
        [],
    ),
    (
        "serve-admin",
        [
            "--addr",
            "--api-token-file",
            "--metrics-token-file",
            "--insecure-no-token",
            "--read-only",
            "--threads",
            "--max-sse",
            "--metrics-cache",
            "--base-path",
            "--allow-host",
            "--proxy-hops",
            "--max-body",
            "--access-log",
            "--open",
        ],
        [],
    ),
    (
        "dlq list",
        [*FILTER, *PAGE, *WATCH, "--include-resolved", "--exit-code", "--group"],
        [],
    ),
    ("dlq show", [], ["--attempts"]),
    ("dlq stats", [*FILTER, "--by", "--bucket"], LIST),
    ("dlq export", [*FILTER, "--format"], []),
    ("dlq discard", [*FILTER, *MUTATE, "--to-archive", "--delete"], []),
    (
        "replay",
        [
            *FILTER,
            *MUTATE,
            *[
                "--again",
                "--any-status",
                "--limit",
                "--oldest-first",
                "--newest-first",
                "--to-queue",
                "--run-at",
                "--in",
                "--max-attempts",
                "--priority",
                "--patch",
                "--rate",
                "--spread",
                "--canary",
                "--canary-timeout",
                "--watch",
            ],
        ],
        [],
    ),
    ("replay list", [], PAGE),
    ("replay status", ["--watch"], []),
    ("replay stop", [], ["--yes", "--note", "--as"]),
    ("replay resume", [], ["--yes", "--note", "--as", "--watch"]),
    ("replay undo", [], ONE),
    (
        "explain",
        [
            "--timeline",
            "--payload",
            "--attempts",
            "--gates",
            "--bundle",
            "--exit-code",
            "--watch",
        ],
        ["--since"],
    ),
    (
        "timeline",
        [],
        ["--attempts", "--bundle", "--exit-code", "--payload", "--since", "--watch"],
    ),
    (
        "backup",
        [
            "--format",
            "--jobs",
            "--compress",
            "--schema-only",
            "--data-only",
            "--exclude-archive",
            "--only-pgflow",
            "--keep",
            "--verify",
            "--pg-dump",
            "--max-runtime",
            "--no-record",
        ],
        ["--note", "--as", "--pg-bin"],
    ),
    (
        "restore",
        ["--into", "--create", "--clean", "--jobs", "--list", "--dry-run", "--force"],
        ["--confirm", "--no-owner", "--note", "--as", "--pg-bin", "--pg-dump"],
    ),
    (
        "jobs list",
        [*FILTER, "--status", *PAGE, *WATCH, "--slow", "--stuck"],
        [],
    ),
    ("jobs show", [], LIST),
    ("jobs wait", ["--any", "--wait-timeout"], []),
    (
        "jobs tail",
        ["--follow"],
        [
            *LIST,
            *[
                "--code-version",
                "--error-code",
                "--fingerprint",
                "--limit",
                "--match",
                "--queue",
                "--since",
                "--type",
                "--worker",
            ],
        ],
    ),
    ("jobs cancel", [*FILTER, *MUTATE, "--kill"], ["--status"]),
    ("jobs run-now", [], [*ONE, "--nowhere"]),
    ("jobs reprioritize", [], ONE),
    ("queues list", WATCH, [*LIST, "--queue", "--limit", "--after"]),
    ("queues show", ["--window"], []),
    ("queues pause", [*ONE, "--for"], []),
    ("queues resume", ONE, []),
    (
        "queues set-policy",
        [
            *ONE,
            *[
                "--max-in-flight",
                "--max-attempts-per-minute",
                "--throttle-delay",
                "--max-payload-bytes",
                "--max-enqueue-per-minute",
            ],
        ],
        [],
    ),
    ("queues clear-policy", ONE, []),
    ("queues bound", ONE, []),
    (
        "queues purge",
        ["--status", "--dry-run", "--note", "--as"],
        ["--batch-size", "--confirm", "--max"],
    ),
    ("workers list", [], [*LIST, *WATCH]),
    ("workers quiet", [], ONE),
    ("workers resume", [], ONE),
    ("workers forget", [], ONE),
    (
        "decisions list",
        ["--kind", "--queue", *PAGE, *WATCH, "--group"],
        ["--reason", "--since", "--until"],
    ),
    ("metrics", ["--prom", "--json"], [*LIST, "--queue"]),
    ("top", ["--queue", "--interval", "--sort", "--once"], []),
    ("doctor", ["--check", "--strict", "--fix-sql", "--bundle"], []),
    ("health", ["--ready", "--worker", "--url", "--max-age"], []),
    ("fence status", [], ["--exit-code"]),
    ("fence raise", [], ONE),
    (
        "fence accept",
        ["--interrupted", "--pause"],
        ["--confirm", "--dry-run", "--note", "--as"],
    ),
    ("config show", ["--origin"], []),
    ("config check", [], []),
    ("config init", [], ["--file"]),
    ("config path", [], []),
    ("audit list", PAGE, ["--action", "--actor", "--queue", "--since", "--until"]),
    ("version", [], []),
    ("completion", ["--install"], []),
    ("help", [], []),
)
# fmt: on


def visible(command: click.Command) -> set[str]:
    """Return the options that a command lists in its own help, by their long names."""
    names: set[str] = set()
    for parameter in command.params:
        if isinstance(parameter, click.Option) and not parameter.hidden:
            longest = max(parameter.opts, key=len)
            no = f"--no-{longest.removeprefix('--')}"
            names |= {longest, *parameter.secondary_opts} - {no}
    return names


@pytest.mark.parametrize(
    ("path", "documented", "added"), TREE, ids=[row[0] for row in TREE]
)
def test_a_command_has_the_options_of_the_documents(
    path: str, documented: list[str], added: list[str]
) -> None:
    command = found(tuple(BY_DEFAULT.get(path, path).split()))
    assert visible(command) == {*documented, *added}


def test_every_command_of_the_operators_stands_in_the_table() -> None:
    """What came with the first two issues and what is for trying have their own."""
    others = {"migrate", "work", "enqueue", "demo", "dev"}
    tops = {path.split()[0] for path, _, _ in TREE}
    assert tops | others == set(program.COMMANDS)
    for top in sorted(tops):
        group = found((top,))
        if isinstance(group, click.Group):
            inner = {
                path.split()[1] for path, _, _ in TREE if path.startswith(f"{top} ")
            }
            hidden = {BY_DEFAULT[top].split()[1]} if top in BY_DEFAULT else set()
            assert set(group.commands) - hidden == inner


def test_the_sections_of_the_help_are_those_of_the_documents() -> None:
    order = {
        "Core": "migrate work serve-admin maintain enqueue dlq replay explain backup",
        "Inspect": "jobs queues workers decisions metrics top timeline",
        "Operate": "doctor health fence restore schedules config audit",
        "Try": "demo dev init bench",
        "Meta": "completion help version",
    }
    for section, names in order.items():
        there = [name for name in names.split() if name in program.COMMANDS]
        assert list(program.SECTIONS[section]) == there
