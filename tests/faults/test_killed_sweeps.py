"""A sweep and its workers are killed without a word, again and again, and end as one that was left alone."""

from __future__ import annotations

import multiprocessing
import random
import signal
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from faultruns import SOAK, unlike
from warmprocesses import Command

from dnntrain import spec, yamltext
from dnntrain.store import RunDirectory, SweepDirectory
from dnntrain.sweep.board import Board
from dnntrain.sweep.engines import local
from dnntrain.sweep.engines.inline import Inline
from dnntrain.sweep.storage import open_storage, studies
from dnntrain.sweep.study import Study

pytestmark = pytest.mark.process

SWEEPS = 20 if SOAK else 1
KILLS = 3 if SOAK else 2
PATIENCE_S = 120.0

CONTENT: dict[str, Any] = {
    "name": "killed",
    "data": {"dataset": "digits", "limit": 310},
    "model": {"architecture": {"name": "mlp", "hidden": [16]}, "dropout": {"name": "dropout", "rate": 0.2}},
    "training": {"epochs": 6, "threads": 1, "checkpoint": {"every": 7}},
    "sweep": {"space": {"optimizer.lr": [0.003, 0.03], "model.activation": ["relu", "swish"]}, "seeds": 2},
}


class Silent:
    def on_event(self, event: Any, /) -> None: ...

    def on_tick(self, conductor: Any, /) -> None: ...


def begin(runs: Path, **sweep: Any) -> Study:
    content = {**CONTENT, "sweep": {**CONTENT["sweep"], **sweep}}
    return Study.begin(spec.drafts(yamltext.dump(content), source="sweep.yaml"), runs=runs)


def runs_of(directory: SweepDirectory) -> dict[tuple[Any, ...], RunDirectory]:
    """Return each run of a sweep by its configuration and seed."""
    rows = directory.read_runs()
    found = {(row["configuration"], row["seed"]): RunDirectory(directory.path / row["run"]) for row in rows}
    assert len(found) == len(rows)
    return found


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> SweepDirectory:
    """Return the sweep that nothing disturbs."""
    study = begin(tmp_path_factory.mktemp("whole"))
    study.work(Inline(), observer=Silent())
    return study.directory


class Speaking:
    def on_event(self, event: Any, /) -> None:
        print(event.kind, flush=True)

    def on_tick(self, conductor: Any, /) -> None: ...


class Work:
    """What the conductor does; it has imported all that its workers need, and they are forked from it."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def __call__(self) -> None:
        local.prepare = lambda: multiprocessing.get_context("fork")
        Study(SweepDirectory(self.directory)).work(local.Local(2, threads=1), observer=Speaking())


class Group:
    """A sweep at work, with all of its processes in a group of their own."""

    def __init__(self, directory: SweepDirectory) -> None:
        self.process = Command(Work(directory.path), directory.path.parent)

    def hear(self, events: int) -> None:
        """Wait until so many things have happened, or the sweep has ended."""
        for _ in range(events):
            if not self.process.stdout.readline():
                return

    def kill(self) -> None:
        """Kill the conductor and its workers at once, unless they have come to the end of the sweep."""
        with suppress(ProcessLookupError):
            self.process.send_signal(signal.SIGKILL, to_all=True)
        _, said = self.process.communicate(PATIENCE_S)
        assert self.process.returncode in (0, -signal.SIGKILL), said

    def signal(self, number: int) -> int | None:
        """Send a signal to all of them, as a terminal does; return how the conductor ended."""
        self.process.send_signal(number, to_all=True)
        self.process.communicate(PATIENCE_S)
        return self.process.returncode

    def end(self) -> None:
        _, said = self.process.communicate(PATIENCE_S)
        assert self.process.returncode == 0, said


def check(directory: SweepDirectory, whole: SweepDirectory) -> None:
    """See that every run was finished once, and equals that of the undisturbed sweep to the last bit."""
    ours, theirs = runs_of(directory), runs_of(whole)
    assert ours.keys() == theirs.keys()
    for key, run in ours.items():
        assert unlike(run, theirs[key]) == []
    storage = open_storage(directory.journal)
    board = Board(storage, studies(storage)[0], better="min")
    done = [ticket.stretch for ticket in board.tickets() if ticket.state == "done"]
    assert len(done) == len(set(done)) == len(theirs)
    assert [row["value"] for row in directory.read_runs()] == [row["value"] for row in whole.read_runs()]
    folders = {path.name for path in directory.runs.iterdir()}
    finished = [name for name in folders if (directory.runs / name / RunDirectory.SUMMARY).exists()]
    assert len(finished) == len(theirs), "no run was begun a second time elsewhere"


@pytest.mark.parametrize("number", range(SWEEPS))
def test_killed_at_random_moments_every_run_is_finished_once(number: int, whole: SweepDirectory, folder: Path) -> None:
    draw = random.Random(number)
    directory = begin(folder).directory
    for _ in range(KILLS):
        group = Group(directory)
        group.hear(draw.randint(0, 6))
        time.sleep(draw.uniform(0.0, 0.4))
        group.kill()
    Group(directory).end()
    check(directory, whole)


def test_a_signal_to_all_of_them_leaves_every_run_where_it_can_go_on(whole: SweepDirectory, folder: Path) -> None:
    directory = begin(folder).directory
    group = Group(directory)
    group.hear(2)  # the first two of many have begun
    assert group.signal(signal.SIGTERM) != 0
    storage = open_storage(directory.journal)
    board = Board(storage, studies(storage)[0], better="min")
    assert {ticket.state for ticket in board.tickets()} <= {"left", "done", "waiting"}
    Group(directory).end()
    check(directory, whole)
