"""Sweeps whose training takes no time and whose state is in memory, and conductors that can be killed at any write."""

from __future__ import annotations

import itertools
import random
import zlib
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from optuna.storages import BaseStorage, InMemoryStorage
from tinysweeps import draft

from dnntrain.spec import Spec
from dnntrain.store import SweepDirectory
from dnntrain.sweep.board import Board, Configuration, Stretch
from dnntrain.sweep.conductor import Conductor, Event
from dnntrain.sweep.engines.base import Job, Outcome
from dnntrain.sweep.leases import Owner, Watch
from dnntrain.sweep.plan import Plan

EPOCHS = 9
RANGE = {"optimizer.lr": {"log": [1e-4, 1e-1]}, "model.activation": ["relu", "swish"]}
Figures = Callable[[Stretch, int], float | None]


class Killed(BaseException):
    """The process is no more."""


class Mortal(InMemoryStorage):
    """A storage in memory, to which a process writes so many times before it dies; afterwards never again."""

    def __init__(self) -> None:
        super().__init__()
        self.left: int | None = None
        self.writes = 0

    def live(self, left: int | None) -> None:
        self.left = left

    def die(self) -> None:
        self.writes += 1
        if self.left is None:
            return
        if self.left <= 0:
            raise Killed
        self.left -= 1


def _mortal(name: str) -> Any:
    def write(self: Mortal, *arguments: Any, **named: Any) -> Any:
        self.die()
        return getattr(InMemoryStorage, name)(self, *arguments, **named)

    return write


for _name in (
    "create_new_study",
    "create_new_trial",
    "set_trial_state_values",
    "set_trial_user_attr",
    "set_trial_intermediate_value",
    "set_study_user_attr",
):
    setattr(Mortal, _name, _mortal(_name))


class InstantPlan(Plan):
    """A plan whose experiments are not looked at."""

    def run(self, of: Configuration, stretch: Stretch) -> tuple[Spec, str]:
        return self.base, f"{of.number} {stretch.seed}"


def plan(space: dict[str, Any], **sweep: Any) -> InstantPlan:
    made = draft(space, **sweep)
    made = made.put("training", _training())
    return InstantPlan(made)


def _training() -> Any:
    from dnntrain.errors import Mark
    from dnntrain.spec.merge import planted

    text = f"training: {{epochs: {EPOCHS}}}"
    return planted({"epochs": EPOCHS}, {}, (), Mark("test", 1, 1, len(text), text))


class Disk:
    """What outlives every process: how far each run is, and everything that was ever trained."""

    def __init__(self) -> None:
        self.epochs: Counter[Path] = Counter()
        self.stretches: dict[Path, Stretch] = {}
        self.trained: Counter[tuple[int, int, int | None, int]] = Counter()


class Instant:
    """An engine that trains in no time: one of its jobs each time it is asked."""

    threads: int | None = None

    def __init__(
        self,
        board: Board,
        disk: Disk,
        figures: Figures,
        *,
        slots: int = 1,
        order: random.Random | None = None,
        crashes: Mapping[tuple[int, int, int | None], int] | None = None,
    ) -> None:
        self.slots = slots
        self._board = board
        self._disk = disk
        self._figures = figures
        self._order = order or random.Random(0)
        self._crashes = crashes or {}
        self._jobs: list[Job] = []

    def submit(self, job: Job) -> None:
        assert len(self._jobs) < self.slots
        self._jobs.append(job)

    def wait(self, timeout: float) -> list[Outcome]:
        if not self._jobs:
            return []
        job = self._jobs.pop(self._order.randrange(len(self._jobs)))
        stretch = self._board.ticket(job.key).stretch
        self._disk.stretches[job.directory] = stretch
        lost = sum(ticket.state == "lost" and ticket.stretch == stretch for ticket in self._board.tickets())
        if lost < self._crashes.get(stretch.run, 0):
            return [Outcome(job.key, "crashed", "boom")]
        reached = self._disk.epochs[job.directory]
        if reached and self._figures(stretch, reached) is None:
            return [Outcome(job.key, "failed", "diverged")]
        for epoch in range(reached + 1, (job.until or EPOCHS) + 1):
            self._disk.epochs[job.directory] = epoch
            self._disk.trained[*stretch.run, epoch] += 1
            if self._figures(stretch, epoch) is None:
                return [Outcome(job.key, "failed", "diverged")]
        return [Outcome(job.key, "paused" if job.until else "ended")]

    def close(self) -> list[Outcome]:
        return []


class NoBeats:
    """Leases of which nobody says anything."""

    def beat(self, key: int, count: int) -> None: ...

    def last(self, key: int) -> str:
        return ""

    def forget(self, key: int) -> None: ...


class Silent:
    """Keeps what happened."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.held: list[int] = []

    def on_event(self, event: Event, /) -> None:
        self.events.append(event)

    def on_tick(self, conductor: Conductor, /) -> None:
        self.held.append(len(conductor.held))


class Memory(SweepDirectory):
    """A directory of which only the table of runs is kept, in memory."""

    table: list[Any]

    def write_runs(self, rows: Any) -> None:
        self.table = list(rows)


_pids = itertools.count(5_000_000)


class Sweep:
    """A sweep that is worked on by one conductor after the other."""

    def __init__(
        self,
        of: Plan,
        figures: Figures,
        *,
        storage: BaseStorage | None = None,
        slots: int = 1,
        order: int = 0,
        crashes: Mapping[tuple[int, int, int | None], int] | None = None,
    ) -> None:
        self.plan = of
        self.storage = storage or Mortal()
        self.board = Board(self.storage, "sweep", better=of.better)
        self.disk = Disk()
        self.figures = figures
        self.slots = slots
        self.crashes = crashes
        self.order = random.Random(order)
        self.observer = Silent()
        self.directory = Memory(Path("/nowhere"))

    def conductor(self) -> Conductor:
        engine = Instant(self.board, self.disk, self.figures, slots=self.slots, order=self.order, crashes=self.crashes)
        made = Conductor(
            self.plan,
            self.directory,
            self.board,
            engine,
            NoBeats(),
            earlier=None,
            observer=self.observer,
            watch=Watch(NoBeats(), grace=-1.0),
        )
        # Every conductor is a process of its own, and none of them lives any more when the next one looks.
        mine = Owner.me()
        made._me = Owner(mine.host, mine.boot, next(_pids), "0")
        return made

    def work(self) -> None:
        self.conductor().run()

    def work_and_die(self, after: int) -> bool:
        """Work until so many writes have been made; return whether the sweep was finished before."""
        assert isinstance(self.storage, Mortal)
        self.storage.live(after)
        try:
            self.work()
        except Killed:
            return False
        finally:
            self.storage.live(None)
        return True

    def figure(self, directory: Any, metric: str, *, until: int | None = None) -> float | None:
        """Stand in for `earlier.figure`: the best figure so far."""
        stretch = self.disk.stretches[directory.path]
        found = [self.figures(stretch, e) for e in range(1, min(until or EPOCHS, self.disk.epochs[directory.path]) + 1)]
        return min(each for each in found if each is not None)

    def table(self) -> list[Any]:
        """Return everything that came out, without names and numbers of tickets."""
        from dnntrain.sweep.results import rows

        configurations = self.board.configurations()
        told = [
            (c.number, dict(c.labels), c.ready, c.finished, c.value, c.pruned, dict(c.rungs)) for c in configurations
        ]
        runs = [{k: v for k, v in row.items() if k != "run"} for row in rows(configurations, self.board.tickets())]
        return [told, runs]


def noise(*what: Any) -> float:
    """Return a number of [0, 1) that follows from what it is asked for."""
    return zlib.crc32(repr(what).encode()) / 2**32


def smooth(stretch: Stretch, epoch: int) -> float:
    """Return a loss that goes down, to an end of each configuration's own."""
    end = noise(stretch.configuration)
    return end + (1.0 + noise(stretch.configuration, stretch.seed, epoch)) / epoch
