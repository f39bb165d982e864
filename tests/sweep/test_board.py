from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.distributions import FloatDistribution
from optuna.storages import BaseStorage, InMemoryStorage
from optuna.trial import TrialState
from warmprocesses import WARM

from dnntrain.sweep.board import Board, Stretch
from dnntrain.sweep.leases import Owner
from dnntrain.sweep.storage import open_storage

RATE = {"lr": FloatDistribution(0.0, 1.0)}
ME = Owner("here", "0", 1, "0")
ANOTHER = Owner("there", "0", 2, "0")


@pytest.fixture
def board() -> Board:
    return Board(InMemoryStorage(), "sweep", better="min")


def claimed(board: Board, stretch: Stretch, owner: Owner = ME) -> int:
    board.add_ticket(stretch)
    ticket = board.claim(owner)
    assert ticket is not None
    return ticket.id


def test_a_ticket_goes_from_hand_to_hand_once(board: Board) -> None:
    ticket = claimed(board, Stretch(0, 3, 42, 1))
    assert board.claim(ANOTHER) is None
    board.place(ticket, "runs/a")
    read = board.ticket(ticket)
    assert (read.state, read.owner, read.directory, read.stretch.run) == ("running", ME, "runs/a", (3, 42, 1))
    assert board.done(ticket, 0.5)
    read = board.ticket(ticket)
    assert (read.state, read.value, read.reused) == ("done", 0.5, False)


def test_the_highest_rung_is_claimed_first_then_the_lowest_configuration(board: Board) -> None:
    for stretch in (Stretch(0, 2, 0), Stretch(1, 1, 0), Stretch(0, 0, 1), Stretch(0, 0, 0), Stretch(1, 0, 0)):
        board.add_ticket(stretch)
    order = [ticket.stretch for ticket in iter(lambda: board.claim(ME), None)]
    assert order == [Stretch(1, 0, 0), Stretch(1, 1, 0), Stretch(0, 0, 0), Stretch(0, 0, 1), Stretch(0, 2, 0)]


def test_of_two_tickets_for_a_stretch_only_the_first_counts(board: Board) -> None:
    first = claimed(board, Stretch(0, 0, 0))
    board.add_ticket(Stretch(0, 0, 0))
    assert board.claim(ANOTHER) is None
    assert [ticket.state for ticket in board.tickets()] == ["running", "superfluous"]
    assert board.give_back(first, crashed=True)
    board.add_ticket(Stretch(0, 0, 0))
    again = board.claim(ANOTHER)
    assert again is not None and again.number == 2


def test_who_was_taken_for_dead_cannot_tell_any_more(board: Board) -> None:
    ticket = claimed(board, Stretch(0, 0, 0))
    assert board.give_back(ticket, crashed=False, message="its worker died")
    assert not board.done(ticket, 0.1)
    assert not board.failed(ticket, "late")
    assert not board.give_back(ticket, crashed=True)
    read = board.ticket(ticket)
    assert (read.state, read.value, read.message) == ("left", None, "its worker died")


def test_a_ticket_that_is_taken_away_while_it_is_claimed_is_not_had(board: Board) -> None:
    board.add_ticket(Stretch(0, 0, 0))
    take = board._take

    def slowly(trial: int) -> bool:
        return take(trial) and board.give_back(trial, crashed=False, message="its worker died")

    board._take = slowly  # type: ignore[method-assign]
    assert board.claim(ME) is None
    assert not board.place(board.tickets()[0].id, "runs/a")


@pytest.mark.parametrize(("crashed", "state"), [(True, "lost"), (False, "left")])
def test_a_ticket_that_is_given_back_says_why(board: Board, crashed: bool, state: str) -> None:
    ticket = claimed(board, Stretch(0, 0, 0))
    board.give_back(ticket, crashed=crashed, message="why")
    assert (board.ticket(ticket).state, board.ticket(ticket).message) == (state, "why")


def test_of_two_ends_at_once_the_one_that_is_written_last_is_none(board: Board) -> None:
    """One has said that it is done, and before it could end the ticket another one did."""
    ticket = claimed(board, Stretch(0, 0, 0))
    board.storage.set_trial_user_attr(ticket, "result", {"state": "done", "reused": None})
    board.storage.set_trial_state_values(ticket, TrialState.FAIL)
    assert board.ticket(ticket).state == "lost"


def test_only_what_waits_can_be_dropped(board: Board) -> None:
    board.add_ticket(Stretch(0, 0, 0))
    running = claimed(board, Stretch(1, 1, 0))
    waiting = board.tickets()[0].id
    assert not board.drop(running)
    assert board.drop(waiting)
    assert not board.drop(waiting)
    assert [ticket.state for ticket in board.tickets()] == ["superfluous", "running"]


def test_no_number_is_a_failure(board: Board) -> None:
    ticket = claimed(board, Stretch(0, 0, 0))
    board.done(ticket, None)
    assert (board.ticket(ticket).state, board.ticket(ticket).message) == ("failed", "the metric has no finite value")


def test_a_run_that_was_there_is_named_with_its_figure(board: Board) -> None:
    ticket = claimed(board, Stretch(0, 0, 0))
    board.done(ticket, 0.25, reused="../earlier")
    read = board.ticket(ticket)
    assert (read.state, read.value, read.reused, read.directory) == ("done", 0.25, True, "../earlier")


def test_a_configuration_from_its_beginning_to_its_end(board: Board) -> None:
    for number in range(3):
        board.add_configuration(number, {"lr": number / 10}, RATE)
    first, second, third = board.configurations()
    assert (first.ready, first.finished, dict(second.labels)) == (True, False, {"lr": 0.1})
    board.begin(first)
    board.begin(first)
    board.report(first, 0, 0.9)
    board.report(board.configurations()[0], 0, 0.7)
    board.conclude(first, 0.8)
    board.conclude(first, 0.1)
    board.report(first, 1, 0.7)
    board.conclude(second, None)
    board.conclude(third, None, pruned=True)
    first, second, third = board.configurations()
    assert (first.finished, first.value, first.pruned, first.rungs) == (True, 0.8, False, {0: 0.9})
    assert (second.finished, second.value, second.pruned) == (True, None, False)
    assert (third.finished, third.value, third.pruned) == (True, None, True)


def test_of_two_configurations_of_a_number_only_the_first_counts(board: Board) -> None:
    board.add_configuration(0, {"lr": 0.1}, RATE)
    board.add_configuration(0, {"lr": 0.2}, RATE)
    board.add_configuration(1, {"lr": 0.3}, RATE)
    assert [(each.number, each.labels["lr"]) for each in board.configurations()] == [(0, 0.1), (1, 0.3)]
    assert board.storage.get_n_trials(0, TrialState.FAIL) == 1


def test_a_sampler_sees_what_came_of_those_before_and_nothing_after(board: Board) -> None:
    seen: list[list[Any]] = []

    class Looking(optuna.samplers.RandomSampler):
        def before_trial(self, study: optuna.Study, trial: Any) -> None:
            seen.append([(each.state.name, each.value, dict(each.params)) for each in study.get_trials()[:-1]])

    for number in range(3):
        board.add_configuration(number, {"lr": number / 10}, RATE)
    board.conclude(board.configurations()[0], 0.5)
    board.ask(2, Looking(seed=1), lambda trial: trial.suggest_float("lr", 0.0, 1.0))
    assert seen == [[("COMPLETE", 0.5, {"lr": 0.0}), ("RUNNING", None, {"lr": 0.1})]]
    assert len(board.configurations()) == 3, "another one was faster"


def test_an_excluded_suggestion_is_kept_and_not_tried(board: Board) -> None:
    def suggest(trial: optuna.Trial) -> None:
        trial.suggest_float("lr", 0.0, 1.0)
        raise optuna.TrialPruned

    board.ask(0, optuna.samplers.RandomSampler(seed=1), suggest)
    (only,) = board.configurations()
    assert not only.ready
    assert only.finished
    assert "lr" in only.labels


def test_optuna_says_nothing_of_the_studies_and_goes_on_saying_what_it_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    before = optuna.logging.get_verbosity()
    for storage in (open_storage(tmp_path / "journal.log"), open_storage(tmp_path, f"sqlite:///{tmp_path}/s.db")):
        made = Board(storage, "sweep", better="min")
        made.ask(0, optuna.samplers.RandomSampler(seed=1), lambda trial: trial.suggest_float("lr", 0.0, 1.0))
    assert capfd.readouterr().err == ""
    assert optuna.logging.get_verbosity() == before


def _storage(kind: str, folder: Path) -> BaseStorage:
    return open_storage(folder / "journal.log", f"sqlite:///{folder}/state.db" if kind == "sqlite" else None)


def _claim_all(kind: str, folder: Path, pipe: Any) -> None:
    board = Board(_storage(kind, folder), "sweep", better="min")
    pipe.send("ready")
    pipe.recv()
    had = []
    while (ticket := board.claim(Owner.me())) is not None:
        had.append(ticket.stretch)
        board.done(ticket.id, 0.0)
        if len(had) == 1:
            # However slow a process is, the others leave it something.
            pipe.send("one")
            pipe.recv()
    pipe.send(had)


@pytest.mark.process
@pytest.mark.parametrize(("kind", "tickets"), [("journal", 200), ("sqlite", 40)])
def test_several_processes_claim_at_once_and_none_gets_what_another_has(
    kind: str, tickets: int, tmp_path: Path
) -> None:
    board = Board(_storage(kind, tmp_path), "sweep", better="min")
    # Every stretch twice, as if two workers had found at once that it was missing.
    for number in range(tickets):
        board.add_ticket(Stretch(0, number // 2, 0))
    pipes = []
    for _ in range(3):
        ours, theirs = WARM.Pipe()
        WARM.Process(target=_claim_all, args=(kind, tmp_path, theirs), daemon=True).start()
        theirs.close()
        pipes.append(ours)
    for word in ("ready", "one"):
        assert [pipe.recv() for pipe in pipes] == [word] * 3
        for pipe in pipes:
            pipe.send("go")
    had = [pipe.recv() for pipe in pipes]
    assert Counter(stretch for each in had for stretch in each) == {Stretch(0, i, 0): 1 for i in range(tickets // 2)}
    assert Counter(ticket.state for ticket in board.tickets()) == {"done": tickets // 2, "superfluous": tickets // 2}
