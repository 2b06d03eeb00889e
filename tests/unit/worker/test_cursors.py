"""No due job is passed over for longer than it may take until the next look."""

from __future__ import annotations

from datetime import datetime, timedelta

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    precondition,
    rule,
)

from pgflow_cli.models.jobs import FirstDue, LeasedJob, LeaseReply, Place, Position
from pgflow_cli.worker.leasing.cursors import Cursors, Started

DAY = datetime(2026, 1, 1)
FRONT: dict[Place, Position] = {}
NO_ID = "00000000-0000-0000-0000-000000000000"


def at(milliseconds: int) -> str:
    """Return an instant as the statements tell it."""
    instant = DAY + timedelta(milliseconds=milliseconds)
    return instant.strftime("%Y-%m-%d %H:%M:%S.%f")


def job(
    run_at: int, job_id: str, *, queue: str = "default", rank: int = 0
) -> LeasedJob:
    return LeasedJob(
        "lease", job_id, queue, rank, at(run_at), 1, "noop", "{}", 25,
        None, None, None, 0, 0,
    )  # fmt: skip


def reply(*jobs: LeasedJob, now: int = 9_000) -> LeaseReply:
    return LeaseReply(scanned_at=at(now), lost=[], jobs=list(jobs))


def first(
    run_at: int | None,
    *,
    queue: str = "default",
    rank: int = 0,
    now: int = 9_000,
    took: float = 0.001,
) -> FirstDue:
    found = None if run_at is None else at(run_at)
    return FirstDue(queue, rank, found, at(now), took)


def scanned(cursors: Cursors, *jobs: LeasedJob, room: int, now: int = 9_000) -> None:
    cursors.end(cursors.begin(room, None), reply(*jobs, now=now))


def looked(
    cursors: Cursors, *found: FirstDue, now: float, searching: bool = False
) -> None:
    look = cursors.begin_look(now, None, searching=searching)
    assert look is not None
    cursors.end_look(look, found)


def positions(cursors: Cursors) -> dict[Place, Position]:
    return cursors.begin(1, None).scan.cursors


# Scans.


def test_the_first_scan_begins_at_the_front() -> None:
    assert Cursors().begin(2, None).scan.cursors == FRONT


def test_a_scan_continues_behind_the_last_job_of_each_queue_and_rank() -> None:
    cursors = Cursors()
    scanned(cursors, job(1, "a", rank=-5), job(2, "b"), job(3, "c"), room=3)
    assert positions(cursors) == {
        ("default", -5): (at(1), "a"),
        ("default", 0): (at(3), "c"),
    }


def test_a_cursor_stays_behind_what_producers_may_not_have_committed() -> None:
    cursors = Cursors()
    scanned(cursors, job(8_990, "a"), room=1)
    assert positions(cursors) == {("default", 0): (at(8_900), NO_ID)}


def test_a_short_scan_moves_every_cursor_nearly_to_its_instant() -> None:
    cursors = Cursors()
    scanned(cursors, job(1, "a"), job(2, "b", rank=5), room=2)
    scanned(cursors, room=2)
    assert positions(cursors) == {
        ("default", 0): (at(8_900), NO_ID),
        ("default", 5): (at(8_900), NO_ID),
    }


def test_a_scan_that_ends_late_does_not_move_a_cursor_back() -> None:
    cursors = Cursors()
    slow = cursors.begin(1, None)
    scanned(cursors, job(5, "b"), room=1)
    cursors.end(slow, reply(job(4, "a")))
    assert positions(cursors) == {("default", 0): (at(5), "b")}


def test_queues_take_turns_after_the_one_served_last() -> None:
    cursors = Cursors()
    scanned(cursors, job(1, "a", queue="emails"), room=1)
    assert cursors.begin(1, None).scan.last_queue == "emails"


# Looks: when.


def test_a_busy_worker_looks_once_the_interval_is_over() -> None:
    cursors = Cursors()
    looked(cursors, now=100.0)
    assert cursors.begin_look(100.2, None, searching=False) is None
    assert cursors.begin_look(100.251, None, searching=False) is not None


def test_one_that_finds_nothing_looks_as_soon_as_its_share_allows_it() -> None:
    cursors = Cursors()
    looked(cursors, first(None, took=0.002), now=100.0)
    assert cursors.begin_look(100.039, None, searching=True) is None
    assert cursors.begin_look(100.041, None, searching=True) is not None


def test_looking_takes_at_most_a_twentieth_of_the_time() -> None:
    cursors = Cursors()
    for now in (1_000.0, 2_000.0, 3_000.0):
        looked(cursors, first(None, took=0.4), first(None, took=1.0), now=now)
    assert cursors.next_look(None) == 3_020.0
    for searching in (False, True):
        assert cursors.begin_look(3_019.9, None, searching=searching) is None
    assert cursors.begin_look(3_020.1, None, searching=False) is not None


def test_one_look_that_was_held_up_delays_nothing() -> None:
    cursors = Cursors()
    looked(cursors, first(None), now=100.0)
    looked(cursors, first(None, took=5.0), now=101.0)
    assert cursors.begin_look(101.3, None, searching=False) is not None


def test_two_connections_do_not_look_at_the_same_time() -> None:
    cursors = Cursors()
    looked(cursors, first(None), now=100.0)
    assert cursors.begin_look(101.0, None, searching=True) is not None
    assert cursors.begin_look(101.0, None, searching=True) is None


def test_a_type_that_was_passed_over_is_looked_for_when_it_can_run_again() -> None:
    cursors = Cursors()
    looked(cursors, first(None), now=100.0)
    cursors.begin(1, ["a", "b"])
    assert cursors.begin_look(100.1, ["a", "b"], searching=False) is None
    cursors.begin(1, ["b"])
    assert cursors.begin_look(100.1, ["b"], searching=False) is None
    assert cursors.begin_look(100.1, ["a", "b"], searching=False) is not None


def test_a_statement_that_leases_nothing_passes_over_no_type() -> None:
    cursors = Cursors()
    looked(cursors, first(None), now=100.0)
    cursors.begin(0, [])
    assert cursors.begin_look(100.1, ["a"], searching=False) is None


# Looks: what comes of them.


def test_a_look_sets_back_the_cursor_of_each_place_where_it_found_something() -> None:
    cursors = Cursors()
    scanned(cursors, job(5_000, "a"), job(6_000, "b", rank=5), room=2)
    looked(cursors, first(2_000), first(None, rank=5), now=100.0)
    assert positions(cursors) == {
        ("default", 0): (at(2_000), NO_ID),
        ("default", 5): (at(6_000), "b"),
    }


def test_a_place_whose_jobs_others_lease_is_not_walked_from_the_front_for_ever() -> (
    None
):
    cursors = Cursors()
    looked(cursors, first(None, queue="others"), now=100.0)
    assert positions(cursors) == {("others", 0): (at(8_900), NO_ID)}


def test_a_clock_that_stepped_back_takes_the_cursors_along() -> None:
    cursors = Cursors()
    scanned(cursors, job(5_000, "a"), room=2)
    looked(cursors, first(None, now=3_000), now=100.0)
    assert positions(cursors) == {("default", 0): (at(2_900), NO_ID)}


def test_a_scan_that_began_before_a_look_moves_nothing_after_it() -> None:
    cursors = Cursors()
    scanned(cursors, job(5_000, "a"), room=1)
    older = cursors.begin(1, None)
    looked(cursors, first(2_000), now=100.0)
    cursors.end(older, reply(job(6_000, "b")))
    assert positions(cursors) == {("default", 0): (at(2_000), NO_ID)}


def test_one_that_searches_looks_at_everything_due() -> None:
    cursors = Cursors()
    scanned(cursors, job(5_000, "a"), room=1)
    busy = cursors.begin_look(100.0, None, searching=False)
    assert busy is not None
    assert busy.scan.cursors == {("default", 0): (at(5_000), "a")}
    cursors.end_look(busy, [first(None)])
    idle = cursors.begin_look(101.0, None, searching=True)
    assert idle is not None
    assert idle.scan.cursors == FRONT


def test_after_an_outage_everything_is_looked_at_again() -> None:
    cursors = Cursors()
    looked(cursors, first(None), now=100.0)
    older = cursors.begin(1, None)
    cursors.forget()
    cursors.end(older, reply(job(1, "a")))
    assert positions(cursors) == FRONT
    assert cursors.begin_look(100.001, None, searching=False) is not None


# Every order of commits, scans and looks.

PLACES = (("a", 0), ("a", 5), ("b", 0))
TYPES = ("x", "y")
some_types = st.sampled_from([["x", "y"], ["x"], ["y"]])
Entry = tuple[Place, int, str, str]  # place, run_at, id, type


class Workings(RuleBasedStateMachine):
    """`pending`, one process, and as many statements under way as there may be.

    `covered` is what a look that has ended saw: no later scan may begin behind it,
    unless it has been locked or its type passed over since. `passed` are the types that
    have been: they are looked for again before a scan that can lease them.
    """

    def __init__(self) -> None:
        super().__init__()
        self.cursors = Cursors()
        self.clock = 100_000  # the database's, in milliseconds
        self.instant = 0.0  # ours
        self.waiting: set[Entry] = set()
        self.covered: set[Entry] = set()
        self.scans: list[tuple[Started, list[Entry], int]] = []
        self.looks: list[tuple[Started, list[FirstDue], set[Entry]]] = []
        self.passed: set[str] = set()
        self.era = self.made = 0

    # What others do.

    @rule(
        place=st.sampled_from(PLACES),
        late=st.integers(0, 3_000),
        job_type=st.sampled_from(TYPES),
        count=st.integers(1, 8),
    )
    def commit(self, place: Place, late: int, job_type: str, count: int) -> None:
        for _ in range(count):
            self.made += 1
            entry = (place, self.clock - late, f"{self.made:032}", job_type)
            self.waiting.add(entry)

    @rule(milliseconds=st.integers(0, 1_000))
    def wait(self, milliseconds: int) -> None:
        self.clock += milliseconds
        self.instant += milliseconds / 1_000

    @rule(milliseconds=st.integers(1, 5_000))
    def step_back(self, milliseconds: int) -> None:
        self.clock -= milliseconds

    # What the process does.

    @precondition(lambda self: len(self.scans) < 2)
    @rule(room=st.integers(1, 4), types=some_types)
    def scan(self, room: int, types: list[str]) -> None:
        look = self.cursors.begin_look(self.instant, types, searching=False)
        if look is not None:
            self.look(look)
            self.end_look(len(self.looks) - 1)
        assert not self.passed.intersection(types)
        started = self.cursors.begin(room, types)
        self.passed |= {*TYPES} - {*types}
        self.covered = {entry for entry in self.covered if entry[3] in types}
        ahead = self.ahead(started)
        assert self.covered <= set(ahead)
        taken = [entry for entry in ahead if entry[1] <= self.clock][:room]
        self.waiting.difference_update(taken)
        self.covered.difference_update(taken)
        self.scans.append((started, taken, self.clock))

    def ahead(self, started: Started) -> list[Entry]:
        """Return the entries that a scan can reach, in its order."""
        cursors = started.scan.cursors
        return [
            entry
            for entry in sorted(self.waiting)
            if entry[3] in (started.types or ())
            and (at(entry[1]), entry[2]) >= cursors.get(entry[0], ("", ""))
        ]

    @precondition(lambda self: self.scans)
    @rule(data=st.data(), rolled_back=st.booleans())
    def end_scan(self, data: st.DataObject, rolled_back: bool) -> None:
        number = data.draw(st.integers(0, len(self.scans) - 1))
        started, taken, clock = self.scans.pop(number)
        if rolled_back:
            self.waiting.update(taken)
            return
        jobs = [
            job(run_at, job_id, queue=queue, rank=rank)
            for (queue, rank), run_at, job_id, _ in taken
        ]
        self.cursors.end(started, reply(*jobs, now=clock))

    @precondition(lambda self: len(self.looks) < 2)
    @rule(types=some_types, searching=st.booleans())
    def begin_look(self, types: list[str], searching: bool) -> None:
        look = self.cursors.begin_look(self.instant, types, searching=searching)
        if look is not None:
            self.look(look)

    def look(self, started: Started) -> None:
        seen = {
            entry
            for entry in self.waiting
            if entry[1] <= self.clock and entry[3] in (started.types or ())
        }
        cursors = started.scan.cursors
        found = []
        for place in PLACES:
            behind = [
                entry[1]
                for entry in seen
                if entry[0] == place
                and (at(entry[1]), entry[2]) < cursors.get(place, ("9", ""))
            ]
            found.append(
                first(
                    min(behind, default=None),
                    queue=place[0],
                    rank=place[1],
                    now=self.clock,
                    took=0.0,
                )
            )
        self.looks.append((started, found, seen))

    @precondition(lambda self: self.looks)
    @rule(data=st.data())
    def end_a_look(self, data: st.DataObject) -> None:
        self.end_look(data.draw(st.integers(0, len(self.looks) - 1)))

    def end_look(self, number: int) -> None:
        started, found, seen = self.looks.pop(number)
        self.cursors.end_look(started, found)
        if started.era == self.era:
            self.era += 1
            self.covered = seen & self.waiting
            self.passed = {*TYPES} - (started.types or set())

    @rule()
    def outage(self) -> None:
        self.cursors.forget()
        self.era += 1
        self.covered = set(self.waiting)
        self.passed = set()

    # The promise.

    def teardown(self) -> None:
        """However it came about, the rest is leased in as few scans as it fills."""
        self.scans.clear()
        self.looks.clear()
        self.clock = max([self.clock, *(entry[1] for entry in self.waiting)])
        self.instant += Cursors.INTERVAL
        left = len(self.waiting)
        for _ in range(left // 3 + 1):
            self.scan(3, list(TYPES))
            started, taken, clock = self.scans.pop()
            jobs = [job(e[1], e[2], queue=e[0][0], rank=e[0][1]) for e in taken]
            self.cursors.end(started, reply(*jobs, now=clock))
        assert not self.waiting


TestWorkings = Workings.TestCase
TestWorkings.settings = settings(max_examples=100, stateful_step_count=40)
