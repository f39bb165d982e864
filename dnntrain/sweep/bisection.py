"""Bisection: which of the keys that differ between two experiments explain the gap between their figures.

The keys are put in a row. The first k of them moved from A's value to B's is a step on a way from A to B, and what the
figure changes between two steps is the share of the keys between them; the shares of a whole way add up to the gap. A
part of the way whose share is more than luck is cut in the middle, the largest share first, down to single keys; so one
key among n is found by log2(n) configurations beside A and B. Where keys work together, the order of the row decides
which of them gets the share; so each key that was found is also tried by itself, on A alone, and if that comes to
something else, the keys before it are searched for those that it works with, in the same way.

Sources: Zeller and Hildebrandt 2002, doi:10.1109/32.988498, on narrowing down differences; Fawcett and Hoos 2016,
doi:10.1007/s10732-014-9275-9, on ways between configurations.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from statistics import fmean
from typing import Any, Final, Protocol

from dnntrain.compare.statistics import FEWEST_PAIRS, Difference, Direction, compare, compare_all
from dnntrain.errors import UsageError

LEAST_SHARE: Final = 0.05
"""Less than so much of the gap explains nothing of it, however certain it is."""

LEAST_OF_ONE_SEED: Final = 0.2
"""The same with one seed, where nothing is known of luck."""

Moved = frozenset[str]
"""The keys that have B's value; all others have A's."""
Runs = Mapping[int, float | None]
"""Seed -> figure; None for a run that failed."""


class Trainer(Protocol):
    """Trains configurations between A and B."""

    def refusal(self, moved: Moved) -> str:
        """Return why there can be no such configuration; empty if there can."""

    def cost(self, moved: Moved) -> int:
        """Return how many runs must be trained for a configuration; those that are there already cost nothing."""

    def train(self, moved: Sequence[Moved]) -> list[Runs]:
        """Train configurations, and return the figures of each."""


@dataclass(frozen=True)
class Share:
    """What some of the keys do to the figure, with those before them moved already.

    Attributes:
        keys: one, unless they were not taken apart.
        difference: what they change; verdicts are corrected for the number of shares.
        part: of the whole gap, 1 for all of it; None where runs failed.
        stands_out: whether it was more than luck to the search.
        whole: why several keys were not taken apart though their share stands out.
    """

    keys: tuple[str, ...]
    difference: Difference
    part: float | None
    stands_out: bool
    whole: str = ""

    @property
    def all_fail(self) -> bool:
        """Whether every run fails with these keys, and none without."""
        failed, before = self.difference.failed
        return failed == self.difference.runs[0] and before == 0

    @property
    def none_fails(self) -> bool:
        """Whether every run fails without these keys, and none with them."""
        failed, before = self.difference.failed
        return before == self.difference.runs[1] and failed == 0


@dataclass(frozen=True)
class Interplay:
    """Keys that do something else by themselves than on the way.

    Attributes:
        keys: which.
        alone: what they change where all other keys have A's values.
        partners: of the keys before them, those that make the difference; empty where none could be made out.
    """

    keys: tuple[str, ...]
    alone: Difference
    partners: tuple[str, ...]


@dataclass(frozen=True)
class Explanation:
    """What explains the gap between two experiments.

    Attributes:
        better: whether lower or higher figures are better.
        ends: the figures of A and of B, by seed.
        gap: B beside A.
        real: whether the gap is more than luck.
        shares: of the keys, in their order; all keys together where the gap is not real.
        interplays: of those that stand out.
        configurations: how many were looked at.
        trained: how many runs were trained for it.
        cut_short: whether runs ran out before all was known.
    """

    better: Direction
    ends: tuple[Runs, Runs]
    gap: Difference
    real: bool
    shares: Sequence[Share]
    interplays: Sequence[Interplay]
    configurations: int
    trained: int
    cut_short: bool

    @property
    def found(self) -> list[Share]:
        """The shares that stand out, the largest first."""
        return sorted((each for each in self.shares if each.stands_out), key=lambda each: -_size(each.part))


def as_json(found: Explanation, values: Mapping[str, tuple[Any, Any]]) -> dict[str, Any]:
    """Return an explanation as plain values.

    Args:
        found: what explains the gap.
        values: of each key, A's and B's.
    """
    return {
        "better": found.better,
        "seeds": sorted(found.ends[0]),
        "a": {str(seed): value for seed, value in found.ends[0].items()},
        "b": {str(seed): value for seed, value in found.ends[1].items()},
        "gap": asdict(found.gap),
        "real": found.real,
        "shares": [
            {
                "keys": [{"key": key, "a": values[key][0], "b": values[key][1]} for key in each.keys],
                "part": each.part,
                "stands_out": each.stands_out,
                "all_fail": each.all_fail,
                "none_fails": each.none_fails,
                "whole": each.whole or None,
                "difference": asdict(each.difference),
            }
            for each in found.shares
        ],
        "interplays": [
            {"keys": list(each.keys), "partners": list(each.partners), "alone": asdict(each.alone)}
            for each in found.interplays
        ],
        "configurations": found.configurations,
        "trained": found.trained,
        "cut_short": found.cut_short,
    }


class _OutOfRunsError(Exception):
    """No more runs may be trained."""


def explain(trainer: Trainer, keys: Sequence[str], *, better: Direction, most_runs: int | None = None) -> Explanation:
    """Find the keys that explain the gap.

    A part of the way is cut further if its share is more than luck:

    - every run of one end fails, and none of the other;
    - or, with two seeds and more, `compare` finds a difference at 95 %, and it makes out `LEAST_SHARE` of the gap. That
      is not corrected for the number of looks, since what the search overlooks is lost; verdicts on the shares that it
      ends with are (Holm). Whoever wants to be sure tries the keys that were found with new seeds;
    - or, with one seed, it makes out `LEAST_OF_ONE_SEED` of the gap.

    Args:
        trainer: makes the figures.
        keys: that differ, in the order of the way.
        better: whether lower or higher figures are better.
        most_runs: train no more than so many.

    Raises:
        UsageError: A and B alone take more runs than that.
    """
    search = _Search(trainer, better, most_runs)
    first, last = search.ends(frozenset(keys))
    way = _Way(search, tuple(keys), search.figures, {0: first, len(keys): last})
    real = search.stands_out(first, last)
    interplays: list[Interplay] = []
    if real:
        try:
            way.cut()
            _interplays(search, way, interplays)
        except _OutOfRunsError:
            search.cut_short = True
    return Explanation(
        better=better,
        ends=(first, last),
        gap=compare(last, first, better=better),
        real=real,
        shares=_shares(way, better, search.gap),
        interplays=interplays,
        configurations=len(search.known),
        trained=search.trained,
        cut_short=search.cut_short,
    )


class _Search:
    """What is known of the configurations between A and B.

    Attributes:
        gap: B's mean less A's; None where one of them has none.
        known: the figures of each configuration.
        trained: how many runs were trained.
        cut_short: whether runs ran out.
    """

    def __init__(self, trainer: Trainer, better: Direction, most_runs: int | None) -> None:
        self.trainer = trainer
        self.better = better
        self.gap: float | None = None
        self.known: dict[Moved, Runs] = {}
        self.trained = 0
        self.cut_short = False
        self._most_runs = math.inf if most_runs is None else most_runs

    def ends(self, everything: Moved) -> tuple[Runs, Runs]:
        """Return the figures of A and B."""
        ends = [frozenset[str](), everything]
        self.trained = sum(self.trainer.cost(moved) for moved in ends)
        if self.trained > self._most_runs:
            raise UsageError(f"A and B alone take {self.trained} runs, and no more than {self._most_runs} are allowed")
        self.known.update(zip(ends, self.trainer.train(ends), strict=True))
        first, last = (self.known[moved] for moved in ends)
        self.gap = _mean_difference(last, first)
        return first, last

    def figures(self, moved: Moved) -> Runs:
        """Return the figures of a configuration, which is trained unless it was before."""
        if moved not in self.known:
            cost = self.trainer.cost(moved)
            if self.trained + cost > self._most_runs:
                raise _OutOfRunsError
            self.trained += cost
            (self.known[moved],) = self.trainer.train([moved])
        return self.known[moved]

    def stands_out(self, before: Runs, after: Runs) -> bool:
        """Whether the difference between two configurations is more than luck; see `explain`."""
        if None in (*before.values(), *after.values()):
            return _all_against_none(before, after)
        one_seed = len(before) == 1
        difference = abs(_mean_difference(after, before) or 0.0)
        least = (LEAST_OF_ONE_SEED if one_seed else LEAST_SHARE) * abs(self.gap or 0.0)
        if difference == 0 or difference < least:
            return False
        return one_seed or compare(after, before, better=self.better).verdict in ("better", "worse")


@dataclass
class _Way:
    """Keys in a row, and a figure after some of them.

    Attributes:
        search: what is known.
        keys: the row.
        measure: returns the figure where these keys have B's value.
        figures: by how many of the keys are moved.
        stuck: parts that cannot be cut, and why.
        together: keys that are moved all along when it is asked whether there can be a configuration.
    """

    search: _Search
    keys: tuple[str, ...]
    measure: Callable[[Moved], Runs]
    figures: dict[int, Runs]
    stuck: dict[tuple[int, int], str] = field(default_factory=dict)
    together: Moved = frozenset()

    def parts(self) -> Iterator[tuple[int, int, bool]]:
        """Yield the parts of the way: where they begin and end, and whether their share stands out."""
        places = sorted(self.figures)
        for start, end in zip(places, places[1:], strict=False):
            yield start, end, self.search.stands_out(self.figures[start], self.figures[end])

    def cut(self) -> None:
        """Cut every part that stands out, the largest share first, until there is nothing more to cut."""
        while wide := [(i, j) for i, j, out in self.parts() if out and j - i > 1 and (i, j) not in self.stuck]:
            start, end = max(wide, key=lambda part: _size(self._change(*part)))
            middle = self._middle(start, end)
            if middle is None:
                continue
            figures = self.measure(frozenset(self.keys[:middle]))
            halves = (self.figures[start], figures), (figures, self.figures[end])
            if any(self.search.stands_out(*half) for half in halves):
                self.figures[middle] = figures
            else:
                self.stuck[start, end] = "neither half of them stands out by itself"

    def _change(self, start: int, end: int) -> float | None:
        return _mean_difference(self.figures[end], self.figures[start])

    def _middle(self, start: int, end: int) -> int | None:
        """Return where to cut: as near the middle as there can be a configuration; None if it is nowhere."""
        why = ""
        for place in sorted(range(start + 1, end), key=lambda place: abs(2 * place - start - end)):
            moved = frozenset(self.keys[:place])
            refused = self.search.trainer.refusal(moved) or self.search.trainer.refusal(moved | self.together)
            if not refused:
                return place
            why = why or refused
        self.stuck[start, end] = why
        return None


def _interplays(search: _Search, way: _Way, found: list[Interplay]) -> None:
    """Try each part that stands out by itself, on A alone, and add those that come to something else to what was found.

    Raises:
        _OutOfRunsError: no more runs may be trained.
    """
    for start, end, stands_out in list(way.parts()):
        keys = frozenset(way.keys[start:end])
        if not stands_out or search.trainer.refusal(keys):
            continue
        before = _beside(search, way, start, end)
        if before is None:
            continue
        try:
            before.cut()
        finally:
            partners = tuple(key for i, j, out in before.parts() if out for key in before.keys[i:j])
            alone = compare(search.figures(keys), search.figures(frozenset()), better=search.better)
            found.append(Interplay(way.keys[start:end], alone, partners))


def _beside(search: _Search, way: _Way, start: int, end: int) -> _Way | None:
    """Return the way on which some keys come to do what they do, over those before them; None if they always do it."""
    keys = frozenset(way.keys[start:end])
    alone, whole = search.figures(keys), way.figures[end]

    def change(moved: Moved) -> Runs:
        return _minus(search.figures(moved | keys), search.figures(moved))

    by_itself, on_the_way = change(frozenset()), _minus(whole, way.figures[start])
    if None not in (*by_itself.values(), *on_the_way.values()):
        if not search.stands_out(by_itself, on_the_way):
            return None
        return _Way(search, way.keys[:start], change, {0: by_itself, start: on_the_way}, together=keys)
    if not _all_against_none(alone, whole):
        return None
    return _Way(
        search, way.keys[:start], lambda moved: search.figures(moved | keys), {0: alone, start: whole}, together=keys
    )


def _shares(way: _Way, better: Direction, gap: float | None) -> list[Share]:
    """Judge the parts of a way, together where each seed has a figure at every step."""
    parts = list(way.parts())
    figures = list(way.figures.values())
    if len(figures[0]) >= FEWEST_PAIRS and all(None not in each.values() for each in figures):
        changes = {str(i): _minus(way.figures[j], way.figures[i]) for i, j, _ in parts}
        judged = compare_all(changes, dict.fromkeys(figures[0], 0.0), better=better)
    else:
        judged = {str(i): compare(way.figures[j], way.figures[i], better=better) for i, j, _ in parts}
    made = []
    for i, j, stands_out in parts:
        difference = judged[str(i)]
        part = None if not gap or any(difference.failed) or difference.value is None else difference.value / gap
        made.append(Share(way.keys[i:j], difference, part, stands_out, way.stuck.get((i, j), "")))
    return made


def _all_against_none(one: Runs, other: Runs) -> bool:
    """Whether all runs of one side failed, and none of the other."""
    failed = [sum(value is None for value in side.values()) / len(side) for side in (one, other)]
    return sorted(failed) == [0.0, 1.0]


def _minus(one: Runs, other: Runs) -> dict[int, float | None]:
    """Return the differences by seed; None where one of them has no figure."""
    pairs: dict[int, Any] = {seed: (one[seed], other[seed]) for seed in one if seed in other}
    return {seed: None if None in pair else pair[0] - pair[1] for seed, pair in pairs.items()}


def _mean_difference(one: Runs, other: Runs) -> float | None:
    if None in (*one.values(), *other.values()):
        return None
    return fmean(value for value in _minus(one, other).values() if value is not None)


def _size(value: float | None) -> float:
    """Return how large a share is; where runs fail, larger than any."""
    return math.inf if value is None else abs(value)
