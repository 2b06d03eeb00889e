"""Supervisor and worker process tell each other things, and never wait to be heard."""

from __future__ import annotations

import multiprocessing
import pickle
import socket
import struct
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from pgflow_cli.worker import channel
from pgflow_cli.worker.channel import Garbled, SupervisorEnd, SupervisorGone, WorkerEnd
from pgflow_cli.worker.shared_memory import Control

CONTEXT = multiprocessing.get_context("spawn")
LARGE = "x" * 1_000_000
Pair = Callable[[], tuple[SupervisorEnd, WorkerEnd]]


@pytest.fixture
def pair() -> Iterator[Pair]:
    """Make both ends of channels; all are closed in the end."""
    with ExitStack() as made:

        def make() -> tuple[SupervisorEnd, WorkerEnd]:
            ends = channel.pair()
            for end in ends:
                made.callback(end.close)
            return ends

        yield make


@pytest.fixture
def raw() -> Iterator[tuple[SupervisorEnd, socket.socket]]:
    """A supervisor's end, and a socket through which anything may come."""
    one, other = socket.socketpair()
    with one, other:
        yield SupervisorEnd(one), other


def test_wake_ups_that_nothing_reads_hold_up_no_thread(pair: Pair) -> None:
    ours, theirs = pair()
    for _ in range(100_000):
        ours.wake()
    assert theirs.wait(0)
    ours.close()
    ours.wake()


def test_a_message_comes_through_in_whole(pair: Pair) -> None:
    ours, theirs = pair()
    theirs.send("ready", ["a"], {"b": 1})
    theirs.send("idle", True)
    assert ours.receive() == [("ready", ["a"], {"b": 1}), ("idle", True)]
    assert ours.receive() == []


def test_half_a_message_is_kept_until_the_rest_comes(
    raw: tuple[SupervisorEnd, socket.socket],
) -> None:
    ours, other = raw
    message = ("counted", "x" * 1000)
    body = pickle.dumps(message)
    for byte in whole(body)[:-1]:
        other.send(bytes([byte]))
        assert ours.receive() == []
    other.send(body[-1:])
    assert ours.receive() == [message]


def test_what_the_supervisor_does_not_read_is_sent_later(pair: Pair) -> None:
    ours, theirs = pair()
    theirs.send("counted", LARGE)
    assert not theirs.flush()
    theirs.send("idle", True)
    found = []
    while not theirs.flush():
        found += ours.receive()
    found += ours.receive()
    assert found == [("counted", LARGE), ("idle", True)]


def test_both_ends_see_the_end_of_the_other(pair: Pair) -> None:
    ours, theirs = pair()
    theirs.send("done")
    theirs.close()
    assert (ours.receive(), ours.ended) == ([("done",)], True)
    ours, theirs = pair()
    ours.close()
    with pytest.raises(SupervisorGone):
        theirs.wait(0)
    with pytest.raises(SupervisorGone):
        theirs.send("idle", True)


@pytest.mark.parametrize("said", [b"nonsense", pickle.dumps(None)])
def test_what_is_no_message_is_refused(
    raw: tuple[SupervisorEnd, socket.socket], said: bytes
) -> None:
    ours, other = raw
    other.send(whole(said))
    with pytest.raises(Garbled):
        ours.receive()


def test_a_length_beyond_reason_is_refused(
    raw: tuple[SupervisorEnd, socket.socket],
) -> None:
    ours, other = raw
    other.send(b"\xff" * 4)
    with pytest.raises(Garbled):
        ours.receive()


def test_flags_reach_the_process_and_stay() -> None:
    told = Control.create(CONTEXT, 3)
    assert not told.is_quiet()
    assert not told.is_draining()
    assert not told.is_releasing()
    told.quiet()
    told.drain()
    told.release()
    for _ in range(2):
        assert told.is_quiet()
        assert told.is_draining()
        assert told.is_releasing()


def test_stacks_are_asked_for_once_at_a_time() -> None:
    told = Control.create(CONTEXT, 3)
    assert not told.wants_dump()
    told.dump()
    told.dump()
    assert told.wants_dump()
    assert not told.wants_dump()


def test_canceled_jobs_are_named_each_time_they_are_written() -> None:
    told, jobs = Control.create(CONTEXT, 3), {str(uuid.uuid4()) for _ in range(2)}
    assert told.canceled() == set()
    for _ in range(2):
        told.cancel(jobs)
        assert told.canceled() == jobs
        assert told.canceled() == set()


def test_of_more_canceled_jobs_than_fit_each_is_named_sooner_or_later() -> None:
    told, jobs = Control.create(CONTEXT, 3), {str(uuid.uuid4()) for _ in range(10)}
    named: set[str] = set()
    for _ in range(1000):
        told.cancel(jobs)
        named |= told.canceled()
    assert named == jobs


def test_another_process_sees_what_it_is_told(pair: Pair) -> None:
    told, [job] = Control.create(CONTEXT, 3), [str(uuid.uuid4())]
    ours, theirs = pair()
    told.drain()
    told.cancel([job])
    process = CONTEXT.Process(target=_answer, args=(told, theirs))
    process.start()
    theirs.close()
    process.join(60)
    assert ours.receive() == [("seen", True, {job})]


def _answer(told: Control, pipe: WorkerEnd) -> None:
    pipe.send("seen", told.is_draining(), told.canceled())


def whole(body: bytes) -> bytes:
    return struct.pack("=I", len(body)) + body
