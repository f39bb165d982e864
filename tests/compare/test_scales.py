"""Axes: where numbers lie on them, and the round numbers beside them."""

from __future__ import annotations

import math

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from dnntrain.compare.scales import SMALLEST, Scale, limits, linear_ticks, log_ticks

NUMBERS = st.floats(-1e9, 1e9)


@given(NUMBERS, st.floats(1e-6, 1e9), st.integers(2, 20))
def test_linear_ticks_are_round_even_and_inside(low: float, span: float, most: int) -> None:
    high = low + span
    assume(high - low > 1e-12 * abs(low))
    ticks = [value for value, _ in linear_ticks(low, high, most)]
    assert len(ticks) <= most
    slack = span * 1e-6
    assert all(low - slack <= value <= high + slack for value in ticks)
    for before, after in zip(ticks, ticks[1:], strict=False):
        step = after - before
        mantissa = step / 10 ** math.floor(math.log10(step) + 1e-6)
        assume(step > 1e-9 * abs(after))
        assert min(abs(mantissa - each) for each in (1, 2, 5, 10)) < 1e-3


@pytest.mark.parametrize(
    ("low", "high", "most", "texts"),
    [
        (0, 1, 6, ["0.0", "0.2", "0.4", "0.6", "0.8", "1.0"]),
        (1.37, 2.26, 5, ["1.5", "2.0"]),
        (-3, 97, 5, ["0", "50"]),
        (0, 1, 1, ["0", "1"]),
        (0.00001, 0.00005, 5, ["1e-05", "2e-05", "3e-05", "4e-05", "5e-05"]),
        (1e7, 1.5e7, 6, ["1.0e+07", "1.1e+07", "1.2e+07", "1.3e+07", "1.4e+07", "1.5e+07"]),
    ],
)
def test_linear_ticks_as_they_are_written(low: float, high: float, most: int, texts: list[str]) -> None:
    assert [text for _, text in linear_ticks(low, high, most)] == texts


def test_epochs_are_whole() -> None:
    assert [text for _, text in linear_ticks(1, 3, 8, least_step=1.0)] == ["1", "2", "3"]


@pytest.mark.parametrize(
    ("low", "high", "most", "texts"),
    [
        (0.001, 10, 5, ["0.001", "0.01", "0.1", "1", "10"]),
        (1e-12, 1e12, 5, ["1e-12", "1e-07", "0.01", "1000", "1e+08"]),
        (0.5, 6, 6, ["0.5", "1", "2", "5"]),
        (1.3, 1.9, 5, ["1.4", "1.6", "1.8"]),
    ],
)
def test_log_ticks_as_they_are_written(low: float, high: float, most: int, texts: list[str]) -> None:
    assert [text for _, text in log_ticks(low, high, most)] == texts


def test_a_scale_has_shares() -> None:
    linear, log = Scale(-1.0, 3.0, ()), Scale(0.01, 100.0, (), log=True)
    assert [linear.share(each) for each in (-1, 0, 3)] == [0, 0.25, 1]
    assert [log.share(each) for each in (0.01, 1, 100)] == pytest.approx([0, 0.5, 1])
    assert [log.share(each) for each in (-1, 0, 1e-310, 0.001, 1e9)] == [0, 0, 0, 0, 1]
    assert [linear.share(each) for each in (-7, 7)] == [0, 1]
    assert [linear.has(-1), log.has(-1), log.has(0), log.has(1e-9)] == [True, False, False, True]


@given(st.lists(NUMBERS, min_size=1, max_size=9), st.lists(NUMBERS, min_size=1, max_size=9))
def test_limits_hold_all_lines_and_a_part_of_the_ranges(middles: list[float], edges: list[float]) -> None:
    low, high = limits(middles, edges)
    assert low < high
    assert low <= min(middles)
    assert max(middles) <= high
    span = max(middles) - min(middles)
    if span > max(1e-6 * max(map(abs, (*middles, *edges))), SMALLEST):
        assert high - low <= 2 * span * (1 + 1e-9)
        if min(edges) >= min(middles) - span / 2:
            assert low <= min(edges)


def test_limits_leave_out_one_seed_that_went_astray() -> None:
    assert limits([1.0, 2.0], [0.9, 1000.0]) == (0.9, 2.5)
    assert limits([1.0, 100.0], [0.5, 1e9], log=True) == pytest.approx((0.5, 1000.0))
    assert limits([4.0], [4.0]) == (2.0, 6.0)
    assert limits([0.0], [0.0]) == (-0.5, 0.5)
    assert limits([4.0], [4.0], log=True) == pytest.approx((2.0, 8.0))
    assert limits([1e-310, 0.0], [0.0]) == (-0.5, 0.5)
    assert limits([1.0, 1.0 + 1e-15], [1.0])[0] < 0.6
