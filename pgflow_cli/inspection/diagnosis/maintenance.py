"""Judges maintenance, backups, the pg_dump of this host and files with secrets."""

from __future__ import annotations

import stat
from collections.abc import Iterator, Sequence

from pgflow_cli.formats import times
from pgflow_cli.formats.words import some
from pgflow_cli.inspection.diagnosis.finding import Finding, fail, ok, warn
from pgflow_cli.models.diagnosis import ClientTool, SecretFile, Upkeep

MAINTAIN_WARN, MAINTAIN_FAIL = 3600.0, 86_400.0
BACKUP_WARN, BACKUP_FAIL = 86_400.0, 7 * 86_400.0


def maintain(tasks: Sequence[Upkeep]) -> Finding:
    """Judge when each task of maintenance last succeeded."""
    check = "upkeep.maintain"
    done = [task for task in tasks if task.seconds_ago is not None]
    if not done:
        return warn(check, "no run is recorded", command="pgflow maintain")
    never = [task.name for task in tasks if task.seconds_ago is None]
    oldest = max(done, key=lambda task: task.seconds_ago or 0.0)
    age = oldest.seconds_ago or 0.0
    detail = f"{oldest.name} last succeeded {_ago(age)}"
    if never:
        detail += f"; never: {some(never)}"
    if age < MAINTAIN_WARN and not never:
        return ok(check, f"every task succeeded within {times.format_duration(age)}")
    late = [t.name for t in done if (t.seconds_ago or 0.0) >= MAINTAIN_WARN] + never
    chosen = "".join(f" --task {name}" for name in late)
    found = fail if age >= MAINTAIN_FAIL else warn
    return found(
        check,
        detail,
        command="pgflow maintain" + (chosen if len(late) < len(tasks) else ""),
    )


def backup(last: Upkeep | None) -> Finding:
    """Judge how old the last backup is."""
    check = "upkeep.backup"
    if last is None or last.seconds_ago is None:
        return warn(check, "no backup is recorded", command="pgflow backup")
    detail = f"{last.name}, {_ago(last.seconds_ago)}"
    if last.detail:
        detail += f", verified: {last.detail}"
    if last.seconds_ago < BACKUP_WARN:
        return ok(check, detail)
    found = fail if last.seconds_ago >= BACKUP_FAIL else warn
    return found(check, detail, command="pgflow backup")


def pg_dump(tools: Sequence[ClientTool], server_major: int | None) -> Finding:
    """Judge whether there is a pg_dump that may dump this server."""
    check = "upkeep.pg-dump"
    install = "install PostgreSQL's client programs"
    if not tools:
        return warn(check, "there is no pg_dump on this host", command=install)
    fitting = [tool for tool in tools if tool.major >= (server_major or 0)]
    if fitting:
        taken = min(fitting, key=lambda tool: tool.major)
        return ok(check, f"{taken.version} in {taken.path}")
    newest = max(tools, key=lambda tool: tool.major)
    return fail(
        check,
        f"{newest.version} in {newest.path} is older than the server ({server_major}): "
        "it refuses to dump",
        command=f"{install} of version {server_major}",
    )


def exposure(
    files: Sequence[SecretFile], *, password_typed: bool, open_address: str | None
) -> Iterator[Finding]:
    """Judge whether other accounts can read the secrets, or use an open admin
    server.
    """
    check = "upkeep.exposure"
    if open_address is not None:
        yield warn(
            check,
            f"the admin server is to listen on {open_address}, beyond this host, and"
            " no client needs a token",
            command="set PGFLOW_API_TOKEN_FILE, or PGFLOW_ADMIN_ADDR=127.0.0.1:3003",
        )
    if password_typed:
        yield warn(
            check,
            "a password stands on the command line, where every user of this host "
            "can read it",
            command="put the URL into a file: --database-url-file FILE",
        )
    open_files = [file for file in files if file.mode & (stat.S_IRWXG | stat.S_IRWXO)]
    for file in open_files:
        others = bool(file.mode & stat.S_IRWXO)
        found = fail if file.mode & stat.S_IWOTH else warn
        yield found(
            check,
            f"{file.path} ({file.what}) is open to "
            f"{'every account' if others else 'its group'}: mode {file.mode:04o}",
            command=f"chmod 600 {_quoted(file.path)}",
        )
    if not open_files and not password_typed and open_address is None:
        held = some([file.path for file in files])
        yield ok(
            check, f"only the owner reads {held}" if held else "no file of secrets"
        )


def _ago(seconds: float) -> str:
    return f"{times.format_duration(round(seconds))} ago"


def _quoted(path: str) -> str:
    plain = all(letter.isalnum() or letter in "/._-+" for letter in path)
    return path if plain else "'" + path.replace("'", "'\\''") + "'"
