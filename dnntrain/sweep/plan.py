"""What a sweep is to do, as its file says it: configurations, runs, rungs. Everything here is a pure function of it."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

from dnntrain import build
from dnntrain import identity as identities
from dnntrain.errors import UsageError
from dnntrain.parts.plugins import loaded_files
from dnntrain.parts.pruners import Pruner
from dnntrain.registry import plain
from dnntrain.spec import Draft, Spec, drafts, seconds
from dnntrain.spec.sweeping import SweepSpec
from dnntrain.sweep.board import Configuration, Stretch
from dnntrain.sweep.configurations import Repetition, configuration, repetitions
from dnntrain.sweep.measured import check_measured
from dnntrain.sweep.space import Point, Space

if TYPE_CHECKING:
    from optuna.samplers import BaseSampler

_MOST_WITHOUT_TRIALS: Final = 100_000


class Plan:
    """Everything that a sweep is to do.

    Args:
        draft: of an experiment file with a section `sweep`.
        runs: the folder in which runs whose layers are reused are looked for by name.

    Raises:
        SpecError: the file is wrong.
        UsageError: the sweep has no end.
    """

    def __init__(self, draft: Draft, *, runs: Path = Path("runs")) -> None:
        self.draft = draft
        self.reused_from = runs
        self.base = draft.spec()
        self.sweep = self.base.sweep or SweepSpec()
        self.space = Space(self.base)
        self.method = self.sweep.method
        self.listed = self.method in ("grid", "random", "qmc")
        self.retries = self.sweep.retries
        self.patience = self.sweep.patience
        self.timeout = None if self.sweep.timeout is None else seconds(self.sweep.timeout)
        self.plugins: Mapping[str, str] = loaded_files()
        self._repetitions = repetitions(self.base)
        self._data: dict[str, build.Data] = {}
        if self.sweep.prune is not None and any(axis.name == "training.epochs" for axis in self.space.axes):
            raise UsageError("configurations of different length cannot be compared at rungs: leave out sweep.prune")

    @classmethod
    def read(cls, text: str, *, source: str, folder: Path, runs: Path = Path("runs")) -> Plan:
        """Read the plan of a sweep that was begun.

        Raises:
            SpecError: its file is wrong.
        """
        return cls(drafts(text, source=source, folder=folder), runs=runs)

    @cached_property
    def wanted(self) -> int:
        """How many configurations there are to be.

        Raises:
            UsageError: there is no end of them.
        """
        trials, size = self.sweep.trials, self.space.size if self.listed else None
        if self.method == "grid":
            return (size or 1) if trials is None else min(trials, size or 1)
        if trials is None and self.timeout is None and self.patience is None:
            raise UsageError(
                f"search {self.method} has no end: say how many configurations with --trials, or --timeout"
            )
        wanted = trials or _MOST_WITHOUT_TRIALS
        return wanted if size is None or self.method == "qmc" else min(wanted, size)

    @property
    def endless(self) -> bool:
        """Whether nothing but time or patience ends the search, so that `wanted` says nothing."""
        counted = self.listed and self.method != "qmc" and self.space.finite
        return self.sweep.trials is None and not counted

    @property
    def runs(self) -> int:
        """How many runs that makes, if none is given up."""
        return self.wanted * len(self._repetitions)

    def points(self) -> Iterator[Point]:
        """Yield the configurations that follow from their numbers alone, in order."""
        for number in range(self.wanted):
            yield self.space.sample(self.method, self.sweep.seed, number)

    def point(self, of: Configuration) -> Point:
        """Return what a configuration sets.

        Raises:
            UsageError: it is not of this space.
        """
        found = self.space.labelled(of.labels)
        if found is None:
            raise UsageError(f"configuration {of.number + 1} is excluded")
        return found

    def sampler(self, asked: int) -> BaseSampler:
        """Return Optuna's sampler, its random state made of the sweep's seed and the number of configurations."""
        from optuna.samplers import GPSampler, TPESampler

        digest = hashlib.sha256(f"{self.sweep.seed} {asked}".encode()).digest()
        seed = int.from_bytes(digest[:4], "big")
        return GPSampler(seed=seed) if self.method == "gp" else TPESampler(seed=seed, constant_liar=True)

    @cached_property
    def metric(self) -> str:
        """What is searched for."""
        return self._monitor[0]

    @cached_property
    def better(self) -> Literal["min", "max"]:
        """Whether lower or higher figures of it are better."""
        return self._monitor[1]

    @cached_property
    def _monitor(self) -> tuple[str, Literal["min", "max"]]:
        training = self.base.training
        if self.sweep.metric != "auto":
            wanted: Any = self.sweep.metric
            resolved = build.resolve(self.base, self._open(self.base), runs=self.reused_from)
            check_measured(resolved, wanted.metric)
            update: dict[str, Any] = {"training": training.model_copy(update={"monitor": self.sweep.metric})}
            spec = self.base.model_copy(update=update)
        else:
            spec = self.base
        monitor: Any = build.resolve(spec, self._open(spec), runs=self.reused_from).training.monitor
        return monitor.metric, monitor.mode

    @cached_property
    def pruner(self) -> Pruner | None:
        """What decides who is trained on at a rung."""
        choice = self.sweep.prune
        if choice is None:
            return None
        made: Pruner = choice.build(epochs=self.base.training.epochs, better=self.better)
        return made

    def rungs(self, number: int) -> tuple[int | None, ...]:
        """Return the epochs after which a configuration is judged; None is its end."""
        return (None,) if self.pruner is None else (*self.pruner.rungs(number)[:-1], None)

    def stretches(self, number: int, rung: int) -> list[Stretch]:
        """Return what is to be trained of a configuration to bring it to a rung."""
        return [Stretch(rung, number, each.seed, each.fold) for each in self._repetitions]

    def experiment(self, point: Point, repetition: Repetition | None = None) -> Spec:
        """Return the experiment of a run, or of a configuration.

        Raises:
            SpecError: it is wrong.
        """
        return configuration(self.draft, point, repetition, folds=self.sweep.folds)

    def run(self, of: Configuration, stretch: Stretch) -> tuple[Spec, str]:
        """Return the resolved experiment of a run, and what makes it the same as another.

        Raises:
            SpecError: it is wrong.
            DataError: its data cannot be used.
        """
        spec = self.experiment(self.point(of), Repetition(stretch.seed, stretch.fold))
        data = self._open(spec)
        resolved = build.resolve(spec, data, runs=self.reused_from)
        found = identities.identity(
            resolved, fingerprint=data.arrays.fingerprint, plugins=self.plugins, reused=build.digest(resolved)
        )
        return resolved, found

    def _open(self, spec: Spec) -> build.Data:
        """Open the data of an experiment; each data set once."""
        key = repr(plain(spec.data))
        if key not in self._data:
            self._data[key] = build.open_data(spec)
        return self._data[key]
