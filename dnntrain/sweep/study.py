"""A sweep from its beginning to its end: begun, gone on with, or joined."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Final

from dnntrain import build, interruption
from dnntrain.errors import StoreError, UsageError, shorten, suggest
from dnntrain.parts.plugins import loaded_files
from dnntrain.spec import Draft, dump
from dnntrain.store import SweepDirectory
from dnntrain.sweep.board import LED_BY, Board
from dnntrain.sweep.conductor import Conductor, Observer
from dnntrain.sweep.configurations import check_space
from dnntrain.sweep.earlier import Earlier
from dnntrain.sweep.engines.base import Engine
from dnntrain.sweep.leases import Beats, FileBeats, StorageBeats
from dnntrain.sweep.plan import Plan
from dnntrain.sweep.results import Result, result
from dnntrain.sweep.storage import explained, open_storage, studies, without_password

_TEXT: Final = "sweep"
_PLUGINS: Final = "plugins"


class Study:
    """A sweep that is kept in a directory.

    Args:
        directory: of the sweep.
        storage: URL of the database that keeps its state; the journal in the directory unless given.

    Raises:
        UsageError: the directory holds no sweep, or one that only its own command can go on with, or its state is
            elsewhere, or a plugin is missing.
        SpecError: its file is wrong.
        StoreError: its state cannot be read.
    """

    def __init__(self, directory: SweepDirectory, *, storage: str | None = None) -> None:
        self.directory = directory
        name = _name(directory, storage)
        source = str(directory.path / directory.SWEEP)
        with explained():
            opened = open_storage(directory.journal, storage)
            there = studies(opened)
            # A directory can be renamed; its journal holds one sweep.
            name = (there[0] if there else directory.name) if name is None else name
            if storage is not None and name not in there:
                raise _unknown(name, there, storage)
            if name in there:
                noted = opened.get_study_user_attrs(opened.get_study_id_from_name(name))
                _refuse_led(noted.get(LED_BY), directory)
                _refuse_missing(noted.get(_PLUGINS, {}), loaded_files())
            self.plan = Plan.read(
                directory.sweep_text(), source=source, folder=directory.path, runs=directory.path.parent
            )
            self.board = Board(opened, name, better=self.plan.better)
        self._beats: Beats = FileBeats(directory.leases) if storage is None else StorageBeats(self.board)

    @classmethod
    def begin(cls, draft: Draft, *, runs: Path, storage: str | None = None) -> Study:
        """Make a new sweep, once all of it has been checked.

        Raises:
            SpecError: every mistake of every configuration, at once.
            UsageError: the sweep has no end, or a name that no folder can have.
            StoreError: the directory cannot be made, or the database cannot be opened.
        """
        plan = Plan(draft, runs=runs)
        check_space(draft, plan.space, runs=runs)
        plan.wanted  # noqa: B018 - raises where there is no end
        better = plan.better
        # Should the run whose layers are reused be trained again meanwhile, its name would mean another.
        text = dump(build.locate(plan.base, runs))
        with explained():
            opened = None if storage is None else open_storage(Path(), storage)
            directory = SweepDirectory.create(runs, plan.base.name)
            board = Board(opened or open_storage(directory.journal), directory.name, better=better)
            board.note(_TEXT, text)
            board.note(_PLUGINS, dict(plan.plugins))
        if storage is not None:
            directory.write_storage(without_password(storage), directory.name)
        directory.write_sweep(text)
        return cls(directory, storage=storage)

    @classmethod
    def join(cls, storage: str, name: str, *, runs: Path) -> Study:
        """Work on a sweep that was begun elsewhere, by its database alone.

        Its runs land in a folder of the sweep's name here. A run that was begun on another machine starts over here,
        as its checkpoints are there.

        Args:
            storage: URL of the database.
            name: of the sweep.
            runs: the folder in which the sweep's directory is made.

        Raises:
            UsageError: there is no such sweep, or a plugin is missing.
            StoreError: the database cannot be read, or the directory cannot be made.
        """
        with explained():
            opened = open_storage(Path(), storage)
            there = studies(opened)
            if name not in there or Path(name).name != name:
                raise _unknown(name, there, storage)
            noted = opened.get_study_user_attrs(opened.get_study_id_from_name(name))
        directory = SweepDirectory(runs / name)
        try:
            directory.runs.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StoreError(f"cannot make {directory.runs}: {error.strerror or error}") from error
        directory.write_storage(without_password(storage), name)
        directory.write_sweep(str(noted[_TEXT]))
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
        with interruption.listening(), explained():
            earlier = None if fresh else Earlier(self.directory.path.parent)
            conductor = Conductor(
                self.plan, self.directory, self.board, engine, self._beats, earlier=earlier, observer=observer
            )
            conductor.run()
            return self.result()

    def result(self) -> Result:
        """Return what has come of the sweep so far, and write the best configuration down.

        Raises:
            StoreError: the sweep's state cannot be read.
        """
        with explained():
            found = result(self.plan, self.board.configurations(), self.board.tickets())
        if found.best is not None:
            self.directory.write_best(found.best)
        return found


def find(study: str, runs: Path) -> SweepDirectory:
    """Return the sweep that a command names: by its directory, or by its name in the folder of runs.

    Raises:
        UsageError: there is none.
    """
    for path in (Path(study).expanduser(), runs / study):
        with suppress(UsageError):
            return SweepDirectory.find(path)
    raise UsageError(f"there is no sweep {study}: name the directory that dnntrain sweep has made")


def _name(directory: SweepDirectory, storage: str | None) -> str | None:
    """Return by which name a database knows a sweep; None where the journal keeps its state.

    Raises:
        UsageError: its state is not where it is looked for.
    """
    kept = directory.storage()
    if kept is None and storage is not None:
        raise UsageError(f"{directory.path} keeps its state itself, in {directory.JOURNAL}: leave out --storage")
    if kept is not None and storage is None:
        raise UsageError(f"the state of {directory.path} is kept in a database: add --storage {kept[0]}")
    return None if kept is None else kept[1]


def _refuse_led(command: str | None, directory: SweepDirectory) -> None:
    """See that a sweep is not one whose next configuration another command decides on.

    Raises:
        UsageError: it is.
    """
    if command is not None:
        raise UsageError(
            f"{directory.path} is of a dnntrain {command}, which alone knows what to train next: begin that again with "
            "the same two experiments, and what has come to its end is found again"
        )


def _unknown(name: str, there: list[str], storage: str) -> UsageError:
    known = [each for each in there if f"{each}/runs" in there]
    return UsageError(f"{without_password(storage)} holds no sweep {shorten(name)}: {suggest(name, known)}")


def _refuse_missing(wanted: Mapping[str, str], loaded: Mapping[str, str]) -> None:
    """See that every local file that registered parts when the sweep was begun does so here.

    Files that a database or a directory names are never loaded for that: whoever starts a worker says which.

    Raises:
        UsageError: one is missing, or is another one here.
    """
    for path, digest in wanted.items():
        if digest not in loaded.values():
            raise UsageError(
                f"the sweep was begun with the plugin {shorten(path)}, which is not loaded here, or changed"
            )
