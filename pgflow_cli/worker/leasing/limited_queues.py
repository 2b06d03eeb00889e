"""Leases from queues with a limit, in a transaction of their own."""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import Any
from uuid import uuid4

from pgflow_cli.errors import (
    PASSING,
    REFUSALS,
    Contention,
    OutcomeUnknown,
    Undecodable,
)
from pgflow_cli.formats.clock import monotonic
from pgflow_cli.models.jobs import LeasedJob, LeaseReply, Scan
from pgflow_cli.telemetry import logs
from pgflow_cli.worker.execution.run import Run
from pgflow_cli.worker.leasing.exchange import Exchange

log = logging.getLogger("pgflow.worker")


class Limits(Exchange):
    """Leases from the queues that the common statement passes over."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._owed = False  # queues with a limit had jobs, and there was no room left
        self._held_back = False  # the last look found jobs, all behind spent limits
        self._last_limited = ""

    def _ask_limited(
        self, runs: list[Run], reply: LeaseReply, room: int, kept: int
    ) -> None:
        """Lease from queues with a limit, if that may get something: after the
        settlements of these runs, which count no more.
        """
        gates = self._capacity.gates
        if room and not reply.limited_open:
            gates.open()  # nothing waits: what comes next is asked for at once
        if any(gates.knows(run.leased.queue) for run in runs):
            gates.open()
        if kept or (reply.limited_open and gates.may_ask(monotonic())):
            self._owed = not self._lease_limited()

    def _tell_held_back(self) -> None:
        """Have the decision written, now and then, that holds all these jobs back."""
        if self._held_back and self._capacity.gates.may_ask(monotonic()):
            self._owed = not self._lease_limited()

    def _lease_limited(self) -> bool:
        """Lease from queues with a limit, in a transaction of its own.

        Returns whether there was room to try. An outage is the next turn's to deal
        with: this one has settled already.
        """
        capacity = self._capacity
        room = capacity.reserve_slots()
        if not room:
            return False
        sent = monotonic()
        request = replace(
            self._request,
            batch_id=str(uuid4()),
            job_types=capacity.leasable_types(),
            room=room,
            scan=Scan(last_queue=self._last_limited),
        )
        jobs: list[LeasedJob] = []
        asked = False
        capacity.ask()
        try:
            jobs = self._repository.leases.lease_limited(request)
            asked = True
        except (*PASSING, *REFUSALS) as error:
            if isinstance(error, OutcomeUnknown):
                capacity.doubts.add(request.batch_id, monotonic())
            if isinstance(error, Undecodable):
                self._unreadable.expect()
            log.warning(
                "queues with a limit were not leased from: %s",
                error,
                extra=logs.trouble("database_unavailable", error),
            )
            self._seek_unreadable()
        except Contention as error:
            log.info(
                "queues with a limit, again at the next turn: %s",
                error,
                extra=logs.trouble("contention", error),
            )
        finally:
            capacity.confirm(room, 0, leased=len(jobs), batch=asked)
        if asked:
            queues = {job.queue for job in jobs}
            capacity.gates.asked(sent, queues, filled=len(jobs) == room)
        if jobs:
            self._last_limited = jobs[-1].queue
            capacity.idle = False
            self._take(jobs, sent, monotonic())
        return True
