"""Learning curves: what a group of runs measured over its seeds, by epochs or by time. Nothing is drawn here."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import accumulate
from statistics import median
from typing import Any, Final, Literal, get_args

from dnntrain.compare.records import Group, Run
from dnntrain.errors import UsageError, shorten

Axis = Literal["epoch", "time"]
"""What a curve goes over: the epochs, or the seconds that a run has trained."""

Series = list[tuple[float, float | None]]
"""One run's figures: where on the axis, and the figure; None where there was no number."""

LARGEST: Final = 1e200
"""Greater numbers count as none: their sums and differences need not be finite."""

_NOT_METRICS: Final = ("epoch", "step")


@dataclass(frozen=True)
class Point:
    """A group's figures at one place of the axis; without a run that has a figure there it is a gap.

    Attributes:
        x: the epoch, or the seconds of training.
        middle: the median over the seeds; None in a gap.
        low: the least of them.
        high: the greatest of them.
        runs: how many runs have a figure here.
    """

    x: float
    middle: float | None = None
    low: float | None = None
    high: float | None = None
    runs: int = 0


@dataclass(frozen=True)
class Curve:
    """One metric of one group of runs.

    The middle is the median over the seeds, not their mean: one seed that diverged does not carry it away, it always
    lies within the range, and it is the same curve whether the axis is linear or logarithmic. The range goes from the
    least seed to the greatest. It is no confidence interval; that is what the table of quality has.

    Runs may have different lengths, as early stopping makes them. Each point is over the runs that have a figure there,
    so where a run ends, the curve goes on over the others, and may jump: `Point.runs` says how many they are.

    Attributes:
        label: the group's.
        metric: such as `valid/loss`.
        points: in the order of the axis.
    """

    label: str
    metric: str
    points: tuple[Point, ...]

    @property
    def known(self) -> list[Point]:
        """The points that are no gaps."""
        return [point for point in self.points if point.middle is not None]


def axis(name: str) -> Axis:
    """Return an axis by its name.

    Raises:
        UsageError: there is no such axis.
    """
    axes: dict[str, Axis] = {each: each for each in get_args(Axis)}
    if name in axes:
        return axes[name]
    raise UsageError(f"curves go over 'epoch' or 'time', not over '{shorten(name)}'")


def metrics_of(groups: Iterable[Group]) -> list[str]:
    """Return the names of what was measured at every epoch, in the order of the rows."""
    rows = (row for group in groups for run in group.runs for row in run.rows)
    names = dict.fromkeys(name for row in rows for name, value in row.items() if _number(value) is not None)
    return [name for name in names if name not in _NOT_METRICS]


def make_curve(group: Group, metric: str, *, axis: Axis = "epoch", smoothing: float = 0.0) -> Curve:
    """Put the runs of a group together to a curve.

    Over epochs, each epoch of any run is a point. Over time, each moment at which a run ended an epoch is one, and the
    runs that were in between two epochs then count with the straight line between those two: seeds train at different
    speeds, so hardly two of them have a figure at the same second. Before its first epoch ended and after its last, a
    run has no figure.

    Args:
        group: runs of one configuration.
        metric: what to take; a group that never measured it gives a curve of gaps.
        axis: what the curve goes over.
        smoothing: weight of the past, see `smooth`; every run is smoothed by itself, before runs are put together.

    Raises:
        UsageError: the smoothing is not from 0 to less than 1.
    """
    runs = [_smoothed(_series(run, metric, axis), smoothing) for run in group.runs]
    places = sorted({x for series in runs for x, _ in series})
    columns = [_along(series, places) if axis == "time" else list(map(dict(series).get, places)) for series in runs]
    return Curve(group.label, metric, tuple(map(_point, places, zip(*columns, strict=True))))


def smooth(values: Sequence[float | None], weight: float) -> list[float | None]:
    """Return the exponentially weighted mean of the values so far, as TensorBoard's slider does.

    With weight w and the values x_1 ... x_t so far::

        s_t = sum_i w^(t-i) x_i / sum_i w^(t-i)

    The sum below corrects the bias towards the start: it equals (1 - w^t) / (1 - w), so this is the recursion
    m_t = w m_(t-1) + (1 - w) x_t from m_0 = 0, divided by 1 - w^t. What is not a number stays a gap and does not count.

    Args:
        values: in order; None for a gap.
        weight: of the past, from 0 (nothing is smoothed) to less than 1.

    Raises:
        UsageError: the weight is not in that range.
    """
    if not 0 <= weight < 1:
        raise UsageError(f"the smoothing must be from 0 to less than 1, not {weight:g}; 0.6 is a good start")
    total = count = 0.0
    smoothed: list[float | None] = []
    for value in values:
        if value is not None:
            total = weight * total + value
            count = weight * count + 1.0
        smoothed.append(None if value is None else total / count)
    return smoothed


def _series(run: Run, metric: str, axis: Axis) -> Series:
    """Return a run's figures; on the axis of time, it ends where the time of an epoch is not known."""
    rows = run.rows
    if axis == "epoch":
        epochs = ((_number(row.get("epoch")), row) for row in rows)
        return [(epoch, _number(row.get(metric))) for epoch, row in epochs if epoch is not None]
    spent = [_number(row.get("seconds")) for row in rows]
    timed = [seconds for seconds in spent[: _first_without(spent)] if seconds is not None]
    return [(at, _number(row.get(metric))) for at, row in zip(accumulate(timed), rows, strict=False)]


def _first_without(spent: Sequence[float | None]) -> int:
    return next((i for i, seconds in enumerate(spent) if seconds is None or seconds <= 0), len(spent))


def _smoothed(series: Series, weight: float) -> Series:
    return list(zip((x for x, _ in series), smooth([value for _, value in series], weight), strict=True))


def _along(series: Series, places: Sequence[float]) -> list[float | None]:
    """Return a run's figures at other moments, on the straight lines between its own; None beyond them and in gaps."""
    own = [x for x, _ in series]
    found: list[float | None] = []
    for place in places:
        after = bisect_left(own, place)
        if after < len(own) and own[after] == place:
            found.append(series[after][1])
        elif 0 < after < len(own):
            found.append(_between(series[after - 1], series[after], place))
        else:
            found.append(None)
    return found


def _between(before: tuple[float, float | None], after: tuple[float, float | None], place: float) -> float | None:
    (x0, y0), (x1, y1) = before, after
    return None if y0 is None or y1 is None else y0 + (y1 - y0) * (place - x0) / (x1 - x0)


def _point(x: float, values: Sequence[float | None]) -> Point:
    known = [value for value in values if value is not None]
    return Point(x, median(known), min(known), max(known), len(known)) if known else Point(x)


def _number(value: Any) -> float | None:
    """Return a figure; None for what is no number, or none that can be reckoned with."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if abs(value) <= LARGEST else None
