"""From the points of a space to experiments, and the mistakes of all of them before anything trains."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from dnntrain import build
from dnntrain.errors import DataError, Mark, Problem, SpecError
from dnntrain.registry import plain
from dnntrain.spec import Draft, Spec
from dnntrain.spec.forms import flow
from dnntrain.spec.load import in_order
from dnntrain.spec.merge import Node, planted
from dnntrain.sweep.space import Point, Space

MOST_CHECKED: Final = 10_000
"""So many configurations are checked before anything trains; each takes about a millisecond."""


@dataclass(frozen=True)
class Repetition:
    """One of the runs of a configuration.

    Attributes:
        seed: the experiment's seed.
        fold: which of the folds is set aside for validation; None where the sweep has no folds.
    """

    seed: int
    fold: int | None = None


def repetitions(spec: Spec) -> list[Repetition]:
    """Return the runs of each configuration of an experiment's sweep: every fold with the first seed, then the next."""
    seeds = 1 if spec.sweep is None else spec.sweep.seeds
    folds = None if spec.sweep is None else spec.sweep.folds
    each: Iterable[int | None] = [None] if folds is None else range(folds)
    return [Repetition(spec.seed + i, fold) for i in range(seeds) for fold in each]


def configuration(
    draft: Draft, point: Point, repetition: Repetition | None = None, *, folds: int | None = None
) -> Spec:
    """Return the experiment that one run trains: the file, then the point, then the seed and the fold.

    Args:
        draft: the file and the settings of the command line.
        point: what the sweep sets.
        repetition: which run of the configuration; without it the file's own seed and validation.
        folds: how many folds the sweep has.

    Returns:
        The experiment, without its sweep.

    Raises:
        SpecError: every mistake in it, at once.
    """
    draft = draft.without("sweep")
    for key, node in point.nodes.items():
        draft = draft.put(key, node)
    if repetition is not None:
        draft = draft.put("seed", _node("seed", repetition.seed))
        if repetition.fold is not None:
            draft = draft.put("data.validation", _node("folds", {"folds": folds, "fold": repetition.fold}))
    return draft.spec()


def _node(key: str, value: Any) -> Node:
    text = f"{key}: {flow(value)}"
    return planted(value, {}, (), Mark("sweep", 1, 1, len(text), text))


def check_space(draft: Draft, space: Space, *, runs: Path = Path("runs")) -> int:
    """Check the configurations of a space, and that their data can serve them, before anything trains.

    Of a space without ranges every point is checked, else every combination of listed values with both ends of each
    range; where that is more than `MOST_CHECKED`, so many of these combinations, drawn at random.

    Args:
        draft: the file and the settings of the command line.
        space: of its sweep.
        runs: the folder in which runs whose layers are reused are looked for by name.

    Returns:
        How many were checked.

    Raises:
        SpecError: every mistake of every configuration at once, each told with the values that lead to it. The same
            mistake of many configurations is told once.
    """
    few = space.finite and space.combinations <= MOST_CHECKED
    points = list(space.points() if few else space.corners(MOST_CHECKED))
    found: dict[Problem, list[Point]] = {}
    data = _Data(runs)
    for point in points:
        try:
            data.check(configuration(draft, point))
        except SpecError as error:
            for problem in error.problems:
                found.setdefault(problem, []).append(point)
    if found:
        raise SpecError(in_order(_told(problem, where, len(points)) for problem, where in found.items()))
    return len(points)


def _told(problem: Problem, where: list[Point], total: int) -> Problem:
    if len(where) == total:
        return problem if total == 1 else replace(problem, message=f"{problem.message} (in every configuration)")
    count = f"in {len(where):,} of {total:,} configurations, such as" if len(where) > 1 else "with"
    return replace(problem, message=f"{problem.message} ({count} {where[0].describe()})")


class _Data:
    """Opened data sets, so that each is opened once."""

    def __init__(self, runs: Path) -> None:
        self._runs = runs
        self._opened: dict[str, build.Data | Problem] = {}

    def check(self, spec: Spec) -> None:
        """See whether an experiment's data can serve it.

        Raises:
            SpecError: it cannot.
        """
        section = spec.data
        key = flow(plain([section.dataset, section.classes, section.validation, section.limit]))
        if key not in self._opened:
            try:
                self._opened[key] = build.open_data(spec)
            except DataError as error:
                self._opened[key] = spec.problem("data.dataset", str(error).replace("\n", " "))
        data = self._opened[key]
        if isinstance(data, Problem):
            raise SpecError([data])
        build.resolve(spec, data, runs=self._runs)
