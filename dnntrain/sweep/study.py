"""A sweep from its beginning to its end: begun, gone on with, or joined."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Final

from dnntrain import interruption
from dnntrain.errors import LockedError, UsageError
from dnntrain.spec import Draft, dump
from dnntrain.store import SweepDirectory, lock
from dnntrain.sweep.board import Board
from dnntrain.sweep.conductor import Conductor, Observer
from dnntrain.sweep.configurations import check_space
from dnntrain.sweep.earlier import Earlier
from dnntrain.sweep.engines.base import Engine
from dnntrain.sweep.leases import FileBeats
from dnntrain.sweep.plan import Plan
from dnntrain.sweep.results import Result, result
from dnntrain.sweep.storage import open_storage

_FILLING: Final = "filling"


class Study:
    """A sweep that is kept in a directory.

    Args:
        directory: of the sweep.
        storage: URL of the database that keeps its state; the journal in the directory unless given.

    Raises:
        UsageError: the directory holds no sweep.
        SpecError: its file is wrong.
        StoreError: its state cannot be read.
    """

    def __init__(self, directory: SweepDirectory, *, storage: str | None = None) -> None:
        self.directory = directory
        source = str(directory.path / directory.SWEEP)
        self.plan = Plan.read(directory.sweep_text(), source=source, folder=directory.path)
        self._board = Board(open_storage(directory.journal, storage), directory.name, better=self.plan.better)

    @classmethod
    def begin(cls, draft: Draft, *, runs: Path, storage: str | None = None) -> Study:
        """Make a new sweep, once all of it has been checked.

        Raises:
            SpecError: every mistake of every configuration, at once.
            UsageError: the sweep has no end, or a name that no folder can have.
            StoreError: the directory cannot be made.
        """
        plan = Plan(draft)
        check_space(draft, plan.space)
        plan.wanted  # noqa: B018 - raises where there is no end
        directory = SweepDirectory.create(runs, plan.base.name)
        directory.write_sweep(dump(plan.base))
        return cls(directory, storage=storage)

    def work(self, engine: Engine, *, observer: Observer, fresh: bool = False) -> Result:
        """Work on the sweep until it is finished; others may do so at the same time.

        Args:
            engine: trains.
            observer: is told what happens.
            fresh: train every run anew, also those that are there already.

        Raises:
            Interrupted: a signal asked for the end.
            StoreError: the sweep's state cannot be read or written.
        """
        with interruption.listening():
            self._fill()
            earlier = None if fresh else Earlier(self.directory.path.parent)
            conductor = Conductor(
                self.plan,
                self.directory,
                self._board,
                engine,
                FileBeats(self.directory.leases),
                earlier=earlier,
                observer=observer,
            )
            conductor.run()
            return self.result()

    def result(self) -> Result:
        """Return what has come of the sweep so far, and write the best configuration down."""
        found = result(self.plan, self._board.configurations(), self._board.tickets())
        if found.best is not None:
            self.directory.write_best(found.best)
        return found

    def _fill(self) -> None:
        """Add the configurations that follow from their numbers alone; one worker does, and again if it died."""
        if not self.plan.listed:
            return
        with suppress(LockedError), lock.hold(self.directory.path / _FILLING):
            distributions = self.plan.space.distributions()
            there = len(self._board.configurations())
            for number, point in enumerate(self.plan.points()):
                if number >= there:
                    self._board.add_configuration(point.labels, distributions)


def find(study: str, runs: Path) -> SweepDirectory:
    """Return the sweep that a command names: by its directory, or by its name in the folder of runs.

    Raises:
        UsageError: there is none.
    """
    for path in (Path(study).expanduser(), runs / study):
        with suppress(UsageError):
            return SweepDirectory.find(path)
    raise UsageError(f"there is no sweep {study}: name the directory that dnntrain sweep has made")
