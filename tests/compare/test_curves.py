"""Curves over seeds, against NumPy and against sums written out in full."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from madeupruns import make_run

from dnntrain.compare.curves import LARGEST, Curve, Point, axis, make_curve, metrics_of, smooth
from dnntrain.compare.records import Group, Run, collect, grouped
from dnntrain.errors import UsageError
from dnntrain.store import RunDirectory

FIGURES = st.floats(-1e6, 1e6)
GAPPY = st.lists(st.none() | FIGURES, max_size=12)


def group(*runs: Sequence[dict[str, Any]]) -> Group:
    """Return a group whose runs have these rows."""
    made = []
    for seed, rows in enumerate(runs):
        run = Run(RunDirectory(Path(f"run{seed}")), {"seed": seed}, "completed", (), {})
        run.__dict__["rows"] = list(rows)
        made.append(run)
    return Group(tuple(made), "a group")


def rows(values: Sequence[Any], seconds: Any = 1.0) -> list[dict[str, Any]]:
    return [{"epoch": i, "loss": value, "seconds": seconds} for i, value in enumerate(values, start=1)]


def middles(curve: Curve) -> list[tuple[float, float | None]]:
    return [(point.x, point.middle) for point in curve.points]


@given(GAPPY, st.floats(0, 0.99))
def test_smoothing_is_the_weighted_mean_of_all_before(values: list[float | None], weight: float) -> None:
    for count, (value, smoothed) in enumerate(zip(values, smooth(values, weight), strict=True), start=1):
        if value is None:
            assert smoothed is None
            continue
        past = [each for each in values[:count] if each is not None]
        weights = weight ** np.arange(len(past))[::-1]
        assert smoothed == pytest.approx(np.average(past, weights=weights), rel=1e-9, abs=1e-6)


def test_smoothing_is_that_of_tensorboard() -> None:
    # Its recursion: last = w last + (1 - w) x from 0, shown as last / (1 - w^t).
    values, weight, last = [5.0, 1.0, 4.0, -2.0], 0.6, 0.0
    for count, (value, smoothed) in enumerate(zip(values, smooth(values, weight), strict=True), start=1):
        last = weight * last + (1 - weight) * value
        assert smoothed == pytest.approx(last / (1 - weight**count))
    assert smooth([5.0, None, 1.0], 0.6) == [5.0, None, pytest.approx((0.6 * 5 + 1) / 1.6)]


@given(FIGURES, st.floats(0, 0.99), st.integers(1, 30))
def test_what_is_constant_stays_so(value: float, weight: float, length: int) -> None:
    assert smooth([value] * length, weight) == pytest.approx([value] * length)


@pytest.mark.parametrize("weight", [-0.1, 1.0, 2.0, math.nan, math.inf])
def test_the_weight_of_the_past_has_a_range(weight: float) -> None:
    with pytest.raises(UsageError, match="smoothing must be from 0 to less than 1"):
        smooth([1.0], weight)


@given(st.lists(GAPPY, min_size=1, max_size=5), st.sampled_from([0.0, 0.5]))
def test_over_epochs_the_middle_is_the_median_within_the_range(runs: list[list[float | None]], weight: float) -> None:
    curve = make_curve(group(*map(rows, runs)), "loss", smoothing=weight)
    longest = max(map(len, runs))
    table = np.full((len(runs), longest), np.nan)
    for line, values in zip(table, runs, strict=True):
        line[: len(values)] = [math.nan if each is None else each for each in smooth(values, weight)]
    assert [point.x for point in curve.points] == list(range(1, longest + 1))
    for point, column in zip(curve.points, table.T, strict=True):
        known = column[~np.isnan(column)]
        assert point.runs == len(known)
        expected = (np.median(known), known.min(), known.max()) if len(known) else (None, None, None)
        assert (point.middle, point.low, point.high) == expected


def test_runs_that_ended_early_count_as_far_as_they_went() -> None:
    curve = make_curve(group(rows([5.0, 4.0, 3.0]), rows([7.0]), rows([6.0, None])), "loss")
    assert curve.points == (Point(1, 6, 5, 7, 3), Point(2, 4, 4, 4, 1), Point(3, 3, 3, 3, 1))


@pytest.mark.parametrize("value", [None, "nan", True, math.nan, math.inf, 10**400, 2 * LARGEST, [1.0]])
def test_what_is_no_figure_is_a_gap(value: Any) -> None:
    curve = make_curve(group(rows([1.0, value, 3.0])), "loss")
    assert middles(curve) == [(1, 1.0), (2, None), (3, 3.0)]
    assert [point.x for point in curve.known] == [1, 3]


def test_a_row_without_an_epoch_has_no_place() -> None:
    broken: list[dict[str, Any]] = [{"loss": 1.0}, {"epoch": "two", "loss": 2.0}, {"epoch": 3, "loss": 3.0}]
    assert middles(make_curve(group(broken), "loss")) == [(3, 3.0)]


def test_over_time_runs_meet_on_the_lines_between_their_epochs() -> None:
    quick, slow = rows([10.0, 20.0, 30.0], seconds=2.0), rows([1.0, 3.0], seconds=3.0)
    curve = make_curve(group(quick, slow), "loss", axis="time")
    # The quick one ends its epochs at 2, 4 and 6 s, the slow one at 3 and 6 s.
    assert curve.points == (
        Point(2, 10, 10, 10, 1),
        Point(3, 8, 1, 15, 2),
        Point(4, pytest.approx((20 + 5 / 3) / 2), pytest.approx(5 / 3), 20, 2),
        Point(6, 16.5, 3, 30, 2),
    )


@given(st.lists(st.lists(st.tuples(st.floats(0.01, 9), FIGURES), min_size=2, max_size=8), min_size=1, max_size=4))
def test_over_time_the_curve_is_what_numpy_interpolates(runs: list[list[tuple[float, float]]]) -> None:
    made = [[{"epoch": 1, "loss": value, "seconds": spent} for spent, value in run] for run in runs]
    curve = make_curve(group(*made), "loss", axis="time")
    times = [np.cumsum([spent for spent, _ in run]) for run in runs]
    assert [point.x for point in curve.points] == sorted({float(at) for each in times for at in each})
    for point in curve.points:
        inside = [(t, run) for t, run in zip(times, runs, strict=True) if t[0] <= point.x <= t[-1]]
        known = [np.interp(point.x, t, [value for _, value in run]) for t, run in inside]
        assert point.runs == len(known)
        expected = (np.median(known), min(known), max(known))
        assert (point.middle, point.low, point.high) == pytest.approx(expected, rel=1e-6, abs=1e-6)


def test_a_gap_is_not_bridged_over_time() -> None:
    other = rows([0.0] * 8, seconds=0.5)
    curve = make_curve(group(rows([1.0, None, 3.0, 4.0]), other), "loss", axis="time")
    assert {point.x: point.runs for point in curve.points} == {
        **{0.5: 1, 1.0: 2, 1.5: 1, 2.0: 1, 2.5: 1, 3.0: 2, 3.5: 2, 4.0: 2}
    }  # fmt: skip


@pytest.mark.parametrize("unknown", [None, "soon", 0.0, -1.0, math.nan])
def test_over_time_a_run_ends_where_its_time_is_not_known(unknown: Any) -> None:
    broken = [*rows([1.0, 2.0]), {"epoch": 3, "loss": 3.0, "seconds": unknown}, *rows([4.0])]
    assert middles(make_curve(group(broken), "loss", axis="time")) == [(1.0, 1.0), (2.0, 2.0)]


def test_nothing_measured_gives_no_points_or_gaps() -> None:
    assert make_curve(group([]), "loss").points == ()
    assert make_curve(group([]), "loss", axis="time").points == ()
    assert make_curve(group(rows([1.0])), "accuracy").points == (Point(1),)


def test_curves_and_metrics_of_recorded_runs(tmp_path: Path) -> None:
    make_run(tmp_path, seed=0, losses=[3.0, 2.0])
    make_run(tmp_path, seed=1, losses=[5.0, None], minutes=1)
    (found,) = grouped(collect([str(tmp_path)]).runs)
    assert metrics_of([found]) == ["valid/loss", "valid/accuracy", "seconds", "samples_per_second"]
    assert make_curve(found, "valid/loss").points == (Point(1, 4, 3, 5, 2), Point(2, 2, 2, 2, 1))


def test_an_axis_by_its_name() -> None:
    assert (axis("epoch"), axis("time")) == ("epoch", "time")
    with pytest.raises(UsageError, match=r"'epoch' or 'time', not over 'step\\x1b'"):
        axis("step\x1b")
