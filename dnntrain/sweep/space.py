"""The space of a sweep: its axes, its points in order, at random, evenly spread, or as Optuna suggests them.

Whatever the search, a point is made in one way: axis after axis, in the order of the file, a value is picked for each
axis that is there, given the values picked before. So what a condition asks is known when it is asked, and a point
never holds a value that has no effect.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from dnntrain.errors import SpecError, UsageError, shorten
from dnntrain.registry import plain
from dnntrain.spec import Spec
from dnntrain.spec.forms import flow
from dnntrain.spec.merge import Node
from dnntrain.spec.sweeping import Search, SweepSpec, holds
from dnntrain.sweep.axes import Axis, Label, Value, read_axis

if TYPE_CHECKING:
    import optuna
    from optuna.distributions import BaseDistribution

LARGEST_GRID: Final = 1_000_000
"""A grid of more combinations than this is refused: nobody trains so many, and going through them takes minutes."""

MOST_DRAWS: Final = 1_000
"""How often a trial draws another point where exclusions forbid one."""


@dataclass(frozen=True)
class Point:
    """One configuration of a space.

    Attributes:
        settings: dotted keys and their plain values, in the order in which they are laid over the file.
        labels: each axis that is there, with its value as it is shown; what Optuna knows the point by.
        nodes: the settings with the places where they were written.
    """

    settings: Mapping[str, Any]
    labels: Mapping[str, Label]
    nodes: Mapping[str, Node] = field(repr=False, compare=False)

    def overrides(self) -> list[str]:
        """Return the settings as `--set` takes them; a relative path starts then at the current folder."""
        return [f"{key}={flow(value)}" for key, value in self.settings.items()]

    def describe(self) -> str:
        """Return a short text: `optimizer.lr=0.001, model.activation=relu`."""
        return ", ".join(f"{name}={_shown(label)}" for name, label in self.labels.items()) or "the experiment as it is"


def _shown(label: Label) -> str:
    return f"{label:.4g}" if isinstance(label, float) else shorten(str(label), 40)


_Picked = tuple[tuple[Axis, Value], ...]


class Space:
    """All configurations of a sweep.

    Args:
        spec: an experiment with a sweep, as it was read.

    Attributes:
        axes: in the order of the file.
    """

    def __init__(self, spec: Spec) -> None:
        self._sweep = spec.sweep or SweepSpec()
        self._base = plain(spec)
        self._exclusions = functools.partial(spec.problem, "sweep.exclude")
        self.axes = tuple(read_axis(name, each, spec._marks) for name, each in self._sweep.space.items())

    @property
    def finite(self) -> bool:
        """Whether no axis is a range of numbers without end."""
        return all(axis.count is not None for axis in self.axes)

    @functools.cached_property
    def size(self) -> int | None:
        """How many points there are, conditions and exclusions regarded; None if there is no end of them.

        Raises:
            UsageError: there are more combinations than `LARGEST_GRID`.
            SpecError: every point is excluded.
        """
        return len(self._grid) if self.finite else None

    def points(self) -> Iterator[Point]:
        """Yield every point, the values of the last axis changing fastest.

        An axis that is not there under its condition is passed over, so that no point comes twice.

        Raises:
            UsageError: there is no end of points, or there are more than `LARGEST_GRID` combinations.
            SpecError: every point is excluded.
        """
        return iter(self._grid)

    @functools.cached_property
    def _grid(self) -> list[Point]:
        if not self.finite:
            name = next(axis.name for axis in self.axes if axis.count is None)
            raise UsageError(f"{name} is a range, and a grid is made of single values: list them, or search otherwise")
        return self._combinations(lambda axis: [axis.value(i) for i in range(axis.count or 0)], self.combinations)

    @property
    def combinations(self) -> int:
        """How many ways there are to pick a value that can be counted for each axis, conditions disregarded."""
        return math.prod(axis.count or 1 for axis in self.axes)

    def corners(self, most: int) -> Iterator[Point]:
        """Yield every combination of listed values with both ends of the ranges, in the order of `points`.

        Where there are more combinations than `most`, draw so many of them at random, always the same ones.

        Raises:
            SpecError: every point is excluded.
        """
        extremes = {axis.name: axis.extremes() for axis in self.axes}
        combinations = math.prod(map(len, extremes.values()))
        if combinations <= most:
            return iter(self._combinations(Axis.extremes, combinations))
        generator = np.random.default_rng(0)
        drawn = [self._picked(lambda axis: _one_of(extremes[axis.name], generator)) for _ in range(most)]
        found = {tuple(point.labels.items()): point for point in drawn if point is not None}
        if not found:
            raise self._all_excluded()
        return iter(found.values())

    def _combinations(self, values: Callable[[Axis], list[Value]], combinations: int) -> list[Point]:
        if combinations > LARGEST_GRID:
            raise UsageError(
                f"the sweep has {combinations:,} combinations, and more than {LARGEST_GRID:,} cannot be gone through: "
                "list fewer values, or search otherwise"
            )
        points = map(self._point, self._below((), {axis.name: values(axis) for axis in self.axes}))
        found = [point for point in points if point is not None]
        if not found:
            raise self._all_excluded()
        return found

    def _below(self, picked: _Picked, values: Mapping[str, list[Value]], depth: int = 0) -> Iterator[_Picked]:
        """Yield every way to go on picking values, from one axis on."""
        if depth == len(self.axes):
            yield picked
            return
        axis = self.axes[depth]
        if not self._is_there(axis, picked):
            yield from self._below(picked, values, depth + 1)
            return
        for value in values[axis.name]:
            yield from self._below((*picked, (axis, value)), values, depth + 1)

    def at(self, unit: Sequence[float]) -> Point | None:
        """Return the point at a place of the unit cube, a coordinate for each axis; None if it is excluded."""
        coordinates = dict(zip((axis.name for axis in self.axes), unit, strict=True))
        return self._picked(lambda axis: axis.at(coordinates[axis.name]))

    def labelled(self, labels: Mapping[str, Label]) -> Point | None:
        """Return the point of these labels, which those of a `Point` or the parameters of an Optuna trial are.

        Returns:
            None if the point is excluded.

        Raises:
            UsageError: the sweep has no such value, or a label is missing.
        """

        def pick(axis: Axis) -> Value:
            if axis.name not in labels:
                raise UsageError(f"the configuration does not say what {shorten(axis.name)} is")
            return axis.labelled(labels[axis.name])

        return self._picked(pick)

    def sample(self, search: Search, seed: int, number: int) -> Point:
        """Return the point of a trial, which depends on nothing but these arguments and the space.

        - `grid`: the points in order.
        - `random`: where all points can be counted, a permutation of the grid, so that none comes twice; else each
          coordinate is uniform on the unit interval, drawn by a generator of the trial's own.
        - `qmc`: a Sobol sequence, scrambled by the study's seed; its points are spread most evenly where the number of
          trials is a power of two.

        A point that is excluded is replaced by the next one that the trial's generator draws, also under `qmc`.

        Args:
            search: how.
            seed: the study's.
            number: the trial's, from 0.

        Raises:
            UsageError: the grid has no such point, or the search looks at results.
            SpecError: nothing but excluded points was found.
        """
        if search == "grid" or (search == "random" and self.finite and self.combinations <= LARGEST_GRID):
            if number >= len(self._grid):
                message = f"the sweep has {len(self._grid):,} configurations, so there is no number {number + 1:,}"
                raise UsageError(message)
            order = range(len(self._grid)) if search == "grid" else _permutation(seed, len(self._grid))
            return self._grid[order[number]]
        if search not in ("random", "qmc"):
            raise UsageError(f"{search} looks at the results of earlier trials, so its points follow from no number")
        if search == "qmc" and (found := self.at(_sobol(len(self.axes), seed, number))) is not None:
            return found
        generator = np.random.default_rng([seed, number])
        for _ in range(MOST_DRAWS):
            if (found := self.at(generator.random(len(self.axes)).tolist())) is not None:
                return found
        raise self._all_excluded()

    def suggest(self, trial: optuna.Trial) -> Point:
        """Return the point that Optuna's sampler wants to try.

        Each axis is asked for by its name, and only where it is there. Listed values are categories, named by their
        labels.

        Raises:
            optuna.TrialPruned: the point is excluded. Tell the study so and ask again: Optuna keeps a parameter once
                it was suggested, and a sampler learns from such a trial to stay away.
        """
        found = self._picked(lambda axis: axis.suggested(trial))
        if found is None:
            import optuna

            raise optuna.TrialPruned("this combination is excluded")
        return found

    def distributions(self) -> dict[str, BaseDistribution]:
        """Return every axis as Optuna's storages know it."""
        return {axis.name: axis.distribution() for axis in self.axes}

    def _all_excluded(self) -> SpecError:
        return SpecError([self._exclusions("all configurations of the sweep are excluded", "exclude fewer")])

    def _picked(self, pick: Callable[[Axis], Value]) -> Point | None:
        picked: _Picked = ()
        for axis in self.axes:
            if self._is_there(axis, picked):
                picked = (*picked, (axis, pick(axis)))
        return self._point(picked)

    def _is_there(self, axis: Axis, picked: _Picked) -> bool:
        when, unless = axis.spec.when, axis.spec.unless
        if when is None and unless is None:
            return True
        seen = _Seen(self._base, picked)
        return (when is None or seen.meets(when)) and (unless is None or not seen.meets(unless))

    def _point(self, picked: _Picked) -> Point | None:
        """Return the point of some values; None if it is excluded."""
        if self._sweep.exclude:
            seen = _Seen(self._base, picked)
            if any(seen.meets(combination) for combination in self._sweep.exclude):
                return None
        nodes = {key: node for _, value in picked for key, node in value.nodes.items()}
        settings = {key: item for _, value in picked for key, item in value.settings.items()}
        order = sorted(settings, key=_precedence)
        return Point(
            settings={key: settings[key] for key in order},
            labels={axis.name: value.label for axis, value in picked},
            nodes={key: nodes[key] for key in order},
        )


def _precedence(key: str) -> tuple[int, bool]:
    """Order keys so that what replaces a part comes before what is set inside it."""
    pieces = key.split(".")
    return len(pieces), pieces[-1] != "name"


class _Seen:
    """What conditions see: the file, with the values picked so far laid over it."""

    def __init__(self, base: Mapping[str, Any], picked: _Picked) -> None:
        self._base = base
        self._labels = {axis.name: value.label for axis, value in picked if axis.spec.variants is not None}
        settings = {key: item for _, value in picked for key, item in value.settings.items()}
        self._settings = sorted(settings.items(), key=lambda item: _precedence(item[0]))

    def meets(self, condition: Mapping[str, Any]) -> bool:
        return all(holds(wanted, self._value(key)) for key, wanted in condition.items())

    def _value(self, key: str) -> Any:
        if key in self._labels:
            return self._labels[key]
        for given, value in reversed(self._settings):
            if key == given or given == f"{key}.name":
                return value
            if key.startswith(f"{given}."):
                return _inside(value, key[len(given) + 1 :])
        return _inside(self._base, key)


_ABSENT: Final = object()


def _inside(value: Any, key: str) -> Any:
    """Return what stands under a dotted key of a plain value; of a single part in a list, too."""
    for piece in key.split("."):
        if isinstance(value, list | tuple) and not piece.isdecimal() and len(value) == 1:
            value = value[0]
        if isinstance(value, list | tuple) and piece.isdecimal() and int(piece) < len(value):
            value = value[int(piece)]
        elif isinstance(value, Mapping) and piece in value:
            value = value[piece]
        elif not (isinstance(value, str) and piece == "name"):
            return _ABSENT
    return value


def _one_of(values: list[Value], generator: np.random.Generator) -> Value:
    return values[int(generator.integers(len(values)))]


def _sobol(dimensions: int, seed: int, number: int) -> list[float]:
    """Return one point of a scrambled Sobol sequence."""
    if not dimensions:
        return []
    from scipy.stats import qmc

    engine = qmc.Sobol(dimensions, scramble=True, seed=np.random.default_rng(seed))
    if number:
        engine.fast_forward(number)
    point: list[float] = engine.random(1)[0].tolist()
    return point


def _permutation(seed: int, count: int) -> list[int]:
    return [int(i) for i in np.random.default_rng(seed).permutation(count)]
