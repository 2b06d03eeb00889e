"""Suspects wait for a spare process; every question about one is answered once."""

from __future__ import annotations

import uuid
from dataclasses import dataclass, field

import pytest

from pgflow_cli import handlers
from pgflow_cli.models.jobs import Suspect
from pgflow_cli.worker.execution.run import Run
from pgflow_cli.worker.leasing import suspects
from pgflow_cli.worker.leasing.suspects import SparePlace, Suspects
from tests.support.leased_jobs import leased

PID = "01890000-0000-7000-8000-000000000000"


def run() -> Run:
    job = leased(job_id=str(uuid.uuid4()))
    return Run(job, handlers.UNKNOWN, lambda _: None, 0.0, 60.0)


def test_one_suspect_is_kept_and_the_others_are_put_off() -> None:
    held, runs = Suspects(keeps=False), [run() for _ in range(3)]
    held.add(runs)
    assert held.attend(0, taken=False) == (None, runs[1:])
    assert [each.put_off is not None for each in runs] == [False, True, True]
    question = held.question(PID)
    assert question is not None
    number, suspect = question
    assert (suspect.worker_id, suspect.job_id) == (PID, runs[0].leased.job_id)
    assert held.question(PID) is None, "it has asked"
    assert held.attend(number, taken=True) == (runs[0], [])
    assert len(held) == 0


def test_a_suspect_that_nobody_takes_over_is_put_off() -> None:
    held, one = Suspects(keeps=False), run()
    held.add([one])
    question = held.question(PID)
    assert question is not None
    assert held.attend(question[0], taken=False) == (None, [one])
    assert one.put_off
    assert held.put_off_until > 0


def test_an_answer_to_an_earlier_question_is_none_to_this_one() -> None:
    held, first, second = Suspects(keeps=False), run(), run()
    held.add([first])
    question = held.question(PID)
    assert question is not None
    assert held.remove([first.leased.job_id]) == [first], "it is canceled meanwhile"
    held.add([second])
    assert held.question(PID) is None, "the first has not been answered"
    assert held.attend(question[0], taken=False) == (None, [])
    again = held.question(PID)
    assert again is not None
    assert again[0] != question[0]
    assert held.attend(question[0], taken=True) == (None, [])
    assert len(held) == 1


def test_the_suspects_of_the_one_batch_are_kept() -> None:
    held, runs = Suspects(keeps=True), [run(), run()]
    held.add(runs)
    assert held.attend(0, taken=False) == (None, [])
    assert held.clear() == runs


@dataclass(eq=False)
class Process:
    name: str = "w"
    answers: list[tuple[int, bool]] = field(default_factory=list)
    killed: bool = False

    def answer(self, number: int, *, taken: bool) -> None:
        self.answers.append((number, taken))

    def kill(self) -> None:
        self.killed = True


SUSPECT = Suspect(PID, PID, PID, 0, "2026-11-30 00:00:00")


@dataclass
class Place:
    """A place whose processes are started here."""

    patient: bool = False
    refuses: bool = False
    spares: list[Process] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.place = SparePlace(self.start, patient=self.patient)
        self.living = [Process(), Process()]

    def start(self, _: Suspect) -> Process | None:
        if self.refuses:
            return None
        self.spares.append(Process("w.spare"))
        self.living.append(self.spares[-1])
        return self.spares[-1]

    def ask(self, asker: int) -> None:
        self.place.ask(self.living[asker], 1, SUSPECT)
        self.attend()

    def attend(self, *, ending: bool = False) -> None:
        self.place.attend(self.living, ending=ending)


def test_there_is_one_spare_process_and_who_comes_second_is_refused() -> None:
    here = Place()
    first, second = here.living
    here.ask(0)
    here.ask(1)
    assert len(here.spares) == 1
    assert (first.answers, second.answers) == ([], [(1, False)])
    here.place.tell(here.spares[0], taken=True)
    assert first.answers == [(1, True)]
    here.living.remove(here.spares[0])
    here.attend()
    assert first.answers == [(1, True)], "it is answered once"
    here.ask(1)
    assert len(here.spares) == 2, "the place is free again"


def test_who_must_finish_them_all_waits_for_the_spare_process() -> None:
    here = Place(patient=True)
    here.ask(0)
    here.ask(1)
    assert here.living[1].answers == []
    here.living.remove(here.spares[0])
    here.attend()
    assert len(here.spares) == 2
    assert here.living[0].answers == [(1, False)], "it died before it had the job"


@pytest.mark.parametrize("patient", [True, False])
def test_a_spare_process_that_takes_nothing_over_is_killed(
    patient: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = Place(patient=patient)
    here.ask(0)
    here.attend()
    assert not here.spares[0].killed
    monkeypatch.setattr(suspects, "START", -1.0)
    here.attend()
    assert here.spares[0].killed
    assert here.living[0].answers == [(1, False)]
    here.living.remove(here.spares[0])
    here.ask(1)
    assert len(here.spares) == 2, "the place is free again"


def test_a_spare_process_that_runs_its_job_may_take_as_long_as_that(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    here = Place()
    here.ask(0)
    here.place.tell(here.spares[0], taken=True)
    monkeypatch.setattr(suspects, "START", -1.0)
    here.attend()
    assert not here.spares[0].killed


@pytest.mark.parametrize("patient", [True, False])
def test_nobody_waits_for_a_worker_that_ends(patient: bool) -> None:
    here = Place(patient=patient)
    here.place.ask(here.living[0], 1, SUSPECT)
    here.attend(ending=True)
    assert here.living[0].answers == [(1, False)]
    assert not here.spares


def test_a_process_that_cannot_be_started_is_an_answer() -> None:
    here = Place(refuses=True)
    here.ask(0)
    assert here.living[0].answers == [(1, False)]


def test_who_has_died_asks_for_nothing() -> None:
    here = Place()
    asker = here.living.pop(0)
    here.place.ask(asker, 1, SUSPECT)
    here.attend()
    assert not here.spares
