"""Configurations between two experiments: the keys that differ, and a sweep that trains those that are asked for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Final

from dnntrain import build, interruption, yamltext
from dnntrain import spec as specs
from dnntrain.errors import DataError, SpecError, UsageError
from dnntrain.registry import plain
from dnntrain.spec import Draft, Spec
from dnntrain.store import SweepDirectory, find
from dnntrain.sweep.bisection import Moved, Runs
from dnntrain.sweep.board import LED_BY, Board, Configuration
from dnntrain.sweep.conductor import Conductor, Observer
from dnntrain.sweep.earlier import Earlier
from dnntrain.sweep.engines.base import Engine
from dnntrain.sweep.leases import FileBeats
from dnntrain.sweep.measured import check_measured
from dnntrain.sweep.plan import Plan
from dnntrain.sweep.results import Result, result
from dnntrain.sweep.space import Point
from dnntrain.sweep.storage import open_storage

_SECTIONS: Final = ("data", "model", "training")
_BESIDE: Final = frozenset({"name", "seed", "sweep", "training.device", "training.threads", "training.checkpoint"})
"""What figures do not follow from, and the seed, which both have in common here."""


def differing(one: Spec, other: Spec) -> dict[str, tuple[Any, Any]]:
    """Return the keys that differ between two resolved experiments, with both values, in the order of the file.

    A key is as much as can be moved by itself: a part with all its options where the parts are different ones, and each
    option where the same part has other options.
    """
    here, there = plain(one), plain(other)
    pairs = [(key, here.get(key), there.get(key)) for key in here if key not in _SECTIONS]
    pairs += [(f"{each}.{key}", here[each][key], there[each][key]) for each in _SECTIONS for key in here[each]]
    order = {key: place for place, key in enumerate(here)}
    pairs.sort(key=lambda pair: order[pair[0].partition(".")[0]])
    found = [each for key, a, b in pairs if key not in _BESIDE and a != b for each in _taken_apart(key, a, b)]
    return {key: (a, b) for key, a, b in found}


def _taken_apart(key: str, one: Any, other: Any) -> Iterator[tuple[str, Any, Any]]:
    """Yield the options that differ, where both values are the same part and have the same options; else the key."""
    parts = isinstance(one, Mapping) and isinstance(other, Mapping) and "name" in one and set(one) == set(other)
    if not parts or one["name"] != other["name"]:
        yield key, one, other
        return
    yield from ((f"{key}.{option}", one[option], other[option]) for option in one if one[option] != other[option])


def open_experiment(query: str, *, runs: Path, overrides: Sequence[str] = ()) -> Spec:
    """Return the resolved experiment of a file, or of a run.

    Args:
        query: a file, or a run by its path, its name, a unique prefix, or `last`.
        runs: where runs are looked for.
        overrides: `K=V` settings that have the last word.

    Raises:
        UsageError: there is no such file or run.
        SpecError: the experiment is wrong.
        DataError: its data cannot be used.
    """
    path = Path(query).expanduser()
    if path.is_file() or path.suffix in (".yaml", ".yml"):
        spec = specs.load(path, overrides)
    else:
        directory = find(query, runs)
        source = str(directory.path / directory.SPEC)
        spec = specs.loads(directory.spec_text(), source=source, folder=directory.path, overrides=overrides)
    spec = specs.without_sweep(spec)
    return build.resolve(spec, build.open_data(spec), runs=runs)


def draft_between(one: Spec, other: Spec, *, seeds: int = 3, metric: str | None = None) -> Draft:
    """Return an experiment with a sweep that has an axis for each key that differs, of A's value and B's.

    No grid is asked for: of its 2^n configurations, a bisection tries a few, which are added one by one. The seeds are
    those of A, or such that A's and B's are among them.

    Args:
        one: A, resolved.
        other: B, resolved.
        seeds: runs of each configuration.
        metric: what is looked at; what both monitor unless given.

    Raises:
        UsageError: nothing differs, or the metric is not measured by both.
    """
    found = differing(one, other)
    if not found:
        raise UsageError("the two are the same experiment, so there is no gap to explain")
    if metric is None:
        metrics = [_monitored(each) for each in (one, other)]
        if metrics[0] != metrics[1]:
            raise UsageError(f"A monitors {metrics[0]} and B {metrics[1]}: say which one counts with --metric")
    else:
        check_measured(one, metric)
        check_measured(other, metric)
    first = min(one.seed, other.seed)
    content = plain(one)
    content["name"] = (
        f"{one.name[:90]}_bisection" if one.name == other.name else f"{one.name[:48]}_to_{other.name[:48]}"
    )
    content["seed"] = first if max(one.seed, other.seed) < first + seeds else one.seed
    content["sweep"] = {
        "space": {key: {"choice": [a, b]} for key, (a, b) in found.items()},
        "search": "tpe",
        "trials": 1,
        "seeds": seeds,
        **({} if metric is None else {"metric": metric}),
    }
    return specs.drafts(yamltext.dump(content), source="the experiments between the two")


def _monitored(spec: Spec) -> str:
    monitor: Any = spec.training.monitor
    return str(monitor.metric)


class Between:
    """Trains configurations between two experiments, all in the directory of one sweep.

    Finished runs are found again by what they are, in this sweep or elsewhere among the runs; so a bisection that was
    interrupted is gone on with by beginning it again.

    Args:
        plan: of the sweep that `draft_between` makes.
        runs: the folder in which the sweep's directory is made.
        engine: trains.
        observer: is told what happens.

    Attributes:
        plan: as above.
        keys: that differ, in order.
        asked: the configurations in the order of their numbers.

    Raises:
        SpecError: one of the two experiments is wrong.
    """

    def __init__(self, plan: Plan, *, runs: Path, engine: Engine, observer: Observer) -> None:
        self.plan = plan
        self.keys = tuple(axis.name for axis in self.plan.space.axes)
        self.asked: list[Moved] = []
        for end in (frozenset[str](), frozenset(self.keys)):
            self._runs(end)
        self._earlier = Earlier(runs)
        self._folder, self._engine, self._observer = runs, engine, observer

    @cached_property
    def directory(self) -> SweepDirectory:
        """The directory of the sweep, which is made when it is first asked for.

        Raises:
            StoreError: it cannot be made.
        """
        made = SweepDirectory.create(self._folder, self.plan.base.name)
        made.write_sweep(specs.dump(self.plan.base))
        return made

    @cached_property
    def _board(self) -> Board:
        board = Board(open_storage(self.directory.journal), self.directory.name, better=self.plan.better)
        board.note(LED_BY, "bisect")
        return board

    def refusal(self, moved: Moved) -> str:
        """Return why there can be no such configuration; empty if there can."""
        try:
            self._runs(moved)
        except SpecError as error:
            return "; ".join(problem.message for problem in error.problems)
        except DataError as error:
            return str(error)
        return ""

    def cost(self, moved: Moved) -> int:
        """Return how many runs must be trained for a configuration."""
        return sum(self._earlier.find(identity) is None for identity in self._runs(moved))

    def train(self, moved: Sequence[Moved]) -> list[Runs]:
        """Train configurations, and return the figures of each by seed.

        Raises:
            Interrupted: a signal asked for the end.
            StoreError: the sweep's state cannot be read or written.
        """
        distributions = self.plan.space.distributions()
        for number, each in enumerate(moved, start=len(self.asked)):
            self._board.add_configuration(number, self._point(each).labels, distributions)
        self.asked += moved
        conductor = Conductor(
            self.plan,
            self.directory,
            self._board,
            self._engine,
            FileBeats(self.directory.leases),
            earlier=self._earlier,
            observer=self._observer,
        )
        with interruption.listening():
            conductor.run()
        figures: dict[int, dict[int, float | None]] = {}
        for run in self.result().runs:
            figures.setdefault(run["configuration"], {})[run["seed"]] = run["value"]
        return [figures[len(self.asked) - len(moved) + i] for i in range(len(moved))]

    def result(self) -> Result:
        """Return the sweep's ranking and runs, and write the best configuration down."""
        found = result(self.plan, self._board.configurations(), self._board.tickets())
        if found.best is not None:
            self.directory.write_best(found.best)
        return found

    def _point(self, moved: Moved) -> Point:
        values = {axis.name: axis.listed[axis.name in moved] for axis in self.plan.space.axes}
        point = self.plan.space.labelled({name: value.label for name, value in values.items()})
        if point is None:
            raise ValueError("a space without exclusions holds every point")
        return point

    def _runs(self, moved: Moved) -> list[str]:
        """Return what the runs of a configuration are.

        Raises:
            SpecError: there can be no such configuration.
        """
        made = Configuration(-1, -1, self._point(moved).labels, True, False, None, False, {})
        return [self.plan.run(made, stretch)[1] for stretch in self.plan.stretches(-1, 0)]
