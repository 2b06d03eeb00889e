"""Judges the schema: versions, privileges, indexes, partitions, the fence."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence

from pgflow_cli.formats.words import some
from pgflow_cli.inspection.diagnosis.finding import Finding, fail, ok, warn
from pgflow_cli.models.diagnosis import AppliedStep, Index, Privileges, Strays
from pgflow_cli.models.fence import DatabaseIdentity
from pgflow_cli.models.schema import PartitionPlan, ReplacedSchema
from pgflow_cli.repository import sqlfiles
from pgflow_cli.repository.remains import TO_KEEP, Remains

# Rows of default partitions are counted up to this: the exact number does not matter.
MOST_STRAYS = 10_000
_FUNCTIONS = ("enqueue", "enqueue_many", "record_refusals")
# The privileges that a worker needs besides select on every table.
_WORKER: Mapping[str, str] = {
    "pending": "select insert update delete",
    "leases": "select insert update delete",
    "workers": "select insert update delete",
    "attempt_counters": "select insert update delete",
    "worker_counters": "select insert update delete",
    "queue_rates": "select insert update delete",
    "arrival_looks": "select update",
    "arrival_slices": "select insert update delete",
    "job_attempts": "select insert",
    "job_successes": "select insert",
    "dead_letters": "select insert",
    "policy_decisions": "select insert update",
    "queue_policies": "select update",
    "error_codes": "select insert update",
    "jobs": "select",
}
_OPERATOR: Mapping[str, str] = {
    "pending": "select insert update delete",
    "leases": "select update delete",
    "dead_letters": "select insert update delete",
    "canceled_jobs": "select insert",
    "queue_policies": "select insert update delete",
    "operator_actions": "select insert update",
    "workers": "select update delete",
    "worker_counters": "select insert update",
}
_TABLE = re.compile(
    r"create table (?:if not exists )?pgflow\.(\w+) \((.*?)\n\)( partition by)?", re.S
)
_INDEX = re.compile(
    r"create (unique )?index (?:concurrently )?(?:if not exists )?(\w+)\s+on "
    r"(?:only )?pgflow\.(\w+)\s[^;]*;",
    re.S,
)
_KEY = re.compile(
    r"(?:constraint (?P<name>\w+) )?(?P<kind>primary key|unique) "
    r"\((?P<columns>[^)]*)\)|"
    r"^\s*(?!constraint\b)(?P<column>\w+) [^\n]*?\bprimary key\b",
    re.M,
)
_UNRELEASED = "the schema was made before pgflow 0.1 and cannot be migrated"
_DROPPED = re.compile(r"drop (?:index|table) (?:if exists )?pgflow\.(\w+)")


def version(steps: Sequence[AppliedStep], needed: int) -> Finding:
    """Judge the version of the schema against the program's."""
    check = "schema.version"
    if any(map(_is_unreleased, steps)):
        return fail(
            check,
            _UNRELEASED,
            command=f"keep what it holds ({TO_KEEP}), then in psql: drop schema "
            "pgflow cascade; then: pgflow migrate",
        )
    pending = [step.version for step in steps if step.pending]
    if pending:
        return fail(
            check,
            f"at version {pending[0] - 1}, and this program needs {needed}",
            command="pgflow migrate",
        )
    newest = max((step.version for step in steps), default=0)
    if newest > needed:
        return warn(
            check,
            f"at version {newest}, newer than this program's {needed}",
            command="run the release that made it, or a newer one",
        )
    return ok(check, f"at version {newest}")


def drift(steps: Sequence[AppliedStep]) -> Finding:
    """Judge whether a migration was edited after it was applied."""
    check = "schema.drift"
    drifted = [f"{step.version:04d}" for step in steps if step.drift]
    if any(map(_is_unreleased, steps)):
        return fail(
            check,
            f"not those of this program: migrations {some(drifted)}",
            command="see schema.version",
        )
    if drifted:
        return fail(
            check,
            f"edited after they were applied: migrations {some(drifted)}",
            command="put the files back as they were: reinstall pgflow",
        )
    return ok(check, "every applied migration is as it was")


def replaced(left: Sequence[ReplacedSchema]) -> Finding:
    """Judge whether a restore was killed before it had ended."""
    check = "schema.replaced"
    if left:
        names = some([schema.name for schema in left])
        return fail(
            check,
            f"a restore was killed and has put aside what was there before: {names}; "
            "bring it back, or drop it once the restored jobs are all there",
            sql=left[-1].way_back,
        )
    return ok(check, "no restore has left anything")


def complete(remains: Remains) -> Finding:
    """Judge whether every object of the schema's version exists."""
    check = "schema.complete"
    if remains.unreleased is not None:
        return warn(check, f"not known: {_UNRELEASED}", command="see schema.version")
    if remains.partial:
        if remains.way_back:
            return fail(check, remains.message, sql=remains.way_back)
        return fail(check, remains.message, command=" ".join(remains.hints))
    return ok(check, "nothing that belongs to it is missing")


def privileges(seen: Sequence[Privileges], role: str) -> Finding:
    """Judge whether the current role may work and operate."""
    check = "schema.privileges"
    missing = {
        "work": dict(_missing(seen, _WORKER)),
        "operate": dict(_missing(seen, _OPERATOR)),
    }
    lacking = {what: lost for what, lost in missing.items() if lost}
    if not lacking:
        return ok(check, f"role {role} may work and operate")
    grants: dict[str, str] = {}
    for lost in lacking.values():
        for target, words in lost.items():
            known = grants.get(target, "").split(", ")
            merged = dict.fromkeys([*filter(None, known), *words.split(", ")])
            grants[target] = ", ".join(merged)
    told = "; ".join(
        f"may not {what}: "
        + some([f"{words} on {name}" for name, words in lost.items()], 3)
        for what, lost in lacking.items()
    )
    return warn(
        check,
        f"role {role} {told}",
        sql=" ".join(
            f"grant {words} on {target} to {role};" for target, words in grants.items()
        ),
    )


def indexes(seen: Sequence[Index], migrations: Iterable[str]) -> Iterator[Finding]:
    """Judge the indexes against those that the migrations make."""
    check = "schema.indexes"
    found = {index.name: index for index in seen}
    keyed = {index.table for index in seen if index.primary}
    well = True
    for name, (table, primary, statement) in expected(migrations).items():
        index = found.get(name)
        if (index and index.valid) or (primary and table in keyed):
            continue
        well = False
        if index is None:
            yield fail(check, f"index {name} is missing", sql=statement)
    for index in seen:
        if not index.valid:
            well = False
            yield fail(
                check,
                f"index {index.name} of {index.table} is invalid",
                sql=f"drop index pgflow.{index.name}; {index.definition};"
                if index.partitioned
                else f"reindex index concurrently pgflow.{index.name};",
            )
    if well:
        yield ok(check, f"{len(seen)} indexes, all valid, none missing")


def expected(migrations: Iterable[str]) -> dict[str, tuple[str, bool, str]]:
    """Return by name each index that the migrations make: its table, whether it is a
    primary key, and the statement that makes it again.
    """
    made: dict[str, tuple[str, bool, str]] = {}
    partitioned: set[str] = set()
    for text in migrations:
        code = re.sub(r"--[^\n]*", "", text)
        for table, body, by_range in _TABLE.findall(code):
            if by_range:
                partitioned.add(table)
            made.update(_keys(table, body))
        for match in _INDEX.finditer(code):
            statement = " ".join(match[0].split())
            if match[3] not in partitioned:
                statement = statement.replace(" index ", " index concurrently ", 1)
            made[match[2]] = (match[3], False, statement)
        for gone in _DROPPED.findall(code):
            made = {n: made[n] for n in made if gone not in (n, made[n][0])}
    return made


def partitions(
    missing: Sequence[PartitionPlan], strays: Sequence[Strays]
) -> Iterator[Finding]:
    """Judge whether tomorrow's partitions exist, and the rows in default partitions."""
    check = "schema.partitions"
    if missing:
        yield warn(
            check,
            f"missing: {some([plan.name for plan in missing])}; their rows go to "
            "the default partition",
            command="pgflow migrate",
        )
    for stray in strays:
        if stray.rows:
            more = "more than " if stray.rows > MOST_STRAYS else ""
            yield warn(
                check,
                f"{more}{min(stray.rows, MOST_STRAYS):,} rows in {stray.parent}_default"
                ": their ids are of days without a partition",
                command="pgflow migrate",
            )
    if not missing and not any(stray.rows for stray in strays):
        yield ok(check, "made for tomorrow; the default partitions are empty")


def fence(identity: DatabaseIdentity) -> Finding:
    """Judge whether the fence is up, so that no job is leased."""
    check = "schema.fence"
    if identity.fenced:
        return fail(
            check,
            f"nothing is leased: {identity.reason}",
            command="pgflow fence accept --interrupted dlq",
        )
    return ok(check, "this is the database that was recorded")


def _is_unreleased(step: AppliedStep) -> bool:
    return step.drift and step.version <= sqlfiles.FIRST_RELEASE


def _missing(
    seen: Sequence[Privileges], needs: Mapping[str, str]
) -> Iterator[tuple[str, str]]:
    """Yield each missing privilege and its object, in the words of a grant."""
    for each in seen:
        if each.kind == "schema" and not each.may_read:
            yield "schema pgflow", "usage"
        elif each.kind == "function":
            if each.name.split("(")[0] in _FUNCTIONS and not each.may_read:
                yield f"function pgflow.{each.name}", "execute"
        elif each.kind in ("table", "view"):
            rights = {
                "select": each.may_read,
                "insert": each.may_insert,
                "update": each.may_update,
                "delete": each.may_delete,
            }
            usual = "" if each.name.endswith("_lock") else "select"
            wanted = needs.get(each.name, usual).split()
            lost = [word for word in wanted if not rights[word]]
            if lost:
                yield f"pgflow.{each.name}", ", ".join(lost)


def _keys(table: str, body: str) -> Iterator[tuple[str, tuple[str, bool, str]]]:
    for match in _KEY.finditer(body):
        primary = match["column"] is not None or match["kind"] == "primary key"
        columns = match["column"] or match["columns"]
        suffix = "pkey" if primary else f"{'_'.join(columns.split(', '))}_key"
        name = match["name"] or f"{table}_{suffix}"
        kind = "primary key" if primary else "unique"
        yield (
            name,
            (
                table,
                primary,
                f"alter table pgflow.{table} add constraint {name} {kind} ({columns});",
            ),
        )
