"""Statements of two sessions leave a job in one place, whatever their order.

`make trials ARGS="--orders"` plays every order of every two, with each of them rolled
back as well, and every three that wait in a row.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from itertools import product

import pytest

from pgflow_cli.repository import Repository
from tests.conftest import cloned
from tests.support.servers import Database, Server
from tests.trials import world
from tests.trials.orders import (
    OPERATIONS,
    Operation,
    Theatre,
    give_back,
    leave,
    meet,
    orders,
    settle_and_enqueue,
    told,
    while_held,
)

_FIRST, _AGAIN = (
    [operation for operation in OPERATIONS if operation.turn == turn]
    for turn in ("first", "again")
)
# By the entry that is gone from its lease, or sooner by a key that both write.
_UNDONE = (
    "another statement has settled jobs of the same lease"
    "|unique constraint .(job_successes_.*_pkey|pending_due)"
)
_HOLDERS = [operation for operation in OPERATIONS if not operation.turn]


@pytest.fixture(scope="module")
def prepared(server: Server, template: Database) -> Iterator[Database]:
    """A database for all these tests: each play plants the world."""
    with cloned(server, template) as made:
        with made.connect() as connection:
            world.prepare(connection)
        yield made


@pytest.fixture(scope="module")
def theatres(prepared: Database) -> Iterator[list[Theatre]]:
    """Theatres at rest: to plan all statements is half of what a test takes."""
    made: list[Theatre] = []
    yield made
    for each in made:
        each.close()


@pytest.fixture
def theatre(prepared: Database, theatres: list[Theatre]) -> Iterator[Theatre]:
    made = theatres.pop() if theatres else Theatre(prepared.url, sessions=3)
    yield made
    if all(session.ended for session in made.sessions):
        theatres.append(made)
    else:
        made.close()


@pytest.mark.parametrize("first", OPERATIONS, ids=lambda operation: operation.name)
def test_each_job_stays_in_one_place(theatre: Theatre, first: Operation) -> None:
    """Each does all it does while the other's transaction is held open."""
    found = {}
    for pair in filter(meet, product([first], OPERATIONS)):
        if wrong := theatre.play(pair, while_held(pair)):
            found[pair[1].name] = wrong
    assert not found, told(found)


@pytest.mark.parametrize("first", _FIRST, ids=lambda operation: operation.name)
def test_two_turns_settle_a_job_of_one_lease_once(
    theatre: Theatre, first: Operation
) -> None:
    """A worker that forgot that it had sent a turn would send it beside itself: then
    the database undoes one of them, whichever job both of them settle.
    """
    found = {}
    for second in _FIRST:
        for order in orders([1, 1]), orders([2, 2]):
            for steps in order:
                wrong = theatre.play([first, second], steps)
                rest = [one for one in wrong if not re.search(_UNDONE, one)]
                if rest or len(wrong) > 1:
                    found[second.name, steps] = wrong
    assert not found, told(found)


@pytest.mark.parametrize("act", [give_back, leave, settle_and_enqueue])
def test_a_repetition_waits_for_its_first_run(
    theatre: Theatre, act: Callable[..., object]
) -> None:
    """Beside it, it would be undone, and would have to be sent once more."""
    first = Operation("first", act)
    again = Operation("again", partial(act, again=True), 2)
    assert theatre.play([first, again], while_held([first, again])) == []
    [undone] = theatre.play([first, first], while_held([first, first]))
    assert re.search(_UNDONE, undone)


@pytest.mark.parametrize(
    "place", range(len(_HOLDERS)), ids=[holder.name for holder in _HOLDERS]
)
def test_both_may_wait_for_a_third_that_has_their_lease(
    theatre: Theatre, place: int
) -> None:
    """Locks that two of them take together must not become one that neither gets."""
    found = {}
    for two in _waiting(place):
        three = [_HOLDERS[place], *two]
        if wrong := theatre.play(three, while_held(three)):
            found[tuple(operation.name for operation in two)] = wrong
    assert not found, told(found)


def _waiting(place: int) -> Iterator[tuple[Operation, Operation]]:
    """Yield the pairs that wait for a holder: each turn is the one before and the one
    after for each of them, and every two meet for some.
    """
    for number, first in enumerate(_FIRST):
        again = _AGAIN[(number + place) % len(_AGAIN)]
        yield first, again
        yield again, first


def test_every_two_wait_for_one_of_them() -> None:
    both = {two for place in range(len(_HOLDERS)) for two in _waiting(place)}
    assert both == {*product(_FIRST, _AGAIN), *product(_AGAIN, _FIRST)}
    for place in range(len(_HOLDERS)):
        for waiting in zip(*_waiting(place), strict=True):
            assert set(waiting) == {*_FIRST, *_AGAIN}


def test_every_order_is_made() -> None:
    assert len(list(orders([2, 2]))) == 6
    assert len(set(orders([2, 2, 3]))) == 210


def test_a_job_that_is_nowhere_is_noticed(theatre: Theatre) -> None:
    """Else a trial that finds nothing would mean nothing."""

    def lose(repository: Repository) -> None:
        repository.link.raw().execute("delete from pgflow.leases")

    wrong = theatre.play([replace(OPERATIONS[0], act=lose)], (0, 0))
    assert any("in no place" in found for found in wrong)
