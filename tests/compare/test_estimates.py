from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.integrate
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st

from dnntrain.compare.estimates import Estimate, best_of, estimate, median_interval
from dnntrain.errors import UsageError

TENTHS = st.integers(-10_000, 10_000).map(lambda number: number / 10)
SAMPLES = st.lists(TENTHS, min_size=2, max_size=9, unique=True)


def test_the_interval_of_a_mean_by_hand() -> None:
    found = estimate([1, 2, 3])
    assert (found.value, found.deviation, found.count, found.failed) == (2, 1, 3, 0)
    assert found.low == pytest.approx(2 - 4.302653 / math.sqrt(3), rel=1e-6)
    assert found.high == pytest.approx(2 + 4.302653 / math.sqrt(3), rel=1e-6)


@given(SAMPLES, st.sampled_from([0.5, 0.9, 0.95, 0.999]))
def test_the_interval_of_a_mean_is_that_of_scipy(values: list[float], confidence: float) -> None:
    found = estimate(values, confidence=confidence)
    expected = scipy.stats.ttest_1samp(values, 0).confidence_interval(confidence)
    assert found.low == pytest.approx(expected.low, rel=1e-6, abs=1e-6)
    assert found.high == pytest.approx(expected.high, rel=1e-6, abs=1e-6)
    assert found.deviation == pytest.approx(np.std(values, ddof=1))


@given(SAMPLES, TENTHS, st.sampled_from([-3.0, 0.5, 7.0]))
def test_the_interval_of_a_mean_moves_and_grows_with_the_values(
    values: list[float], shift: float, factor: float
) -> None:
    found, moved = estimate(values), estimate([factor * value + shift for value in values])
    assert found.low is not None and found.high is not None
    ends = sorted((factor * found.low + shift, factor * found.high + shift))
    assert [moved.low, moved.high] == pytest.approx(ends, rel=1e-6, abs=1e-6)


@pytest.mark.parametrize("interval", ["mean", "median"])
def test_where_there_is_no_interval(interval: str) -> None:
    def of(*values: float | None) -> Estimate:
        generator = np.random.default_rng(0)
        return estimate(values) if interval == "mean" else median_interval(values, generator=generator)

    assert of(0.5) == Estimate(0.5, None, None, None, 1)
    assert of(0.1 + 0.2, 0.3, 0.3) == Estimate(pytest.approx(0.3), None, None, 0.0, 3)
    assert of() == Estimate(None, None, None, None, 0)
    assert of(None, math.nan) == Estimate(None, None, None, None, 0, 2)


def test_failed_runs_are_told() -> None:
    found = estimate([1, None, 2, math.nan, 3, math.inf])
    assert (found.value, found.count, found.failed) == (2, 3, 3)
    assert median_interval([1, None, 5], generator=np.random.default_rng(0)).failed == 1


@pytest.mark.parametrize("confidence", [0, 1, 95, -0.1, math.nan])
def test_a_confidence_that_cannot_be(confidence: float) -> None:
    with pytest.raises(UsageError, match="lies between 0 and 1"):
        estimate([1, 2], confidence=confidence)
    with pytest.raises(UsageError, match="lies between 0 and 1"):
        median_interval([1, 2], generator=np.random.default_rng(0), confidence=confidence)


def test_the_interval_of_a_median_is_that_of_scipy() -> None:
    values = np.random.default_rng(3).gamma(2.0, size=25)
    found = median_interval(values.tolist(), generator=np.random.default_rng(1), confidence=0.9)
    expected = scipy.stats.bootstrap(
        (values,), np.median, confidence_level=0.9, method="percentile", rng=np.random.default_rng(2)
    ).confidence_interval
    assert found.value == np.median(values)
    assert [found.low, found.high] == pytest.approx([expected.low, expected.high], abs=0.02)


def test_the_interval_of_a_median_repeats_with_its_generator_and_does_not_touch_the_global_one() -> None:
    before = np.random.get_state()[1].copy()  # type: ignore[index,union-attr]
    one, other = (median_interval(range(9), generator=np.random.default_rng(5)) for _ in range(2))
    assert one == other
    assert (before == np.random.get_state()[1]).all()  # type: ignore[index]


def test_the_interval_of_a_median_covers_as_often_as_said() -> None:
    """95 % where the seeds allow it, and 1 - 2^(1 - n) where they do not."""
    generator = np.random.default_rng(0)
    for count, expected in ((3, 0.75), (5, 0.9375), (15, 0.95)):
        covered = 0
        for _ in range(400):
            found = median_interval(generator.normal(size=count), generator=generator, resamples=499)
            assert found.low is not None and found.high is not None
            covered += found.low <= 0 <= found.high
        assert covered / 400 == pytest.approx(expected, abs=0.045)


def test_the_best_of_some_by_hand() -> None:
    assert best_of(1, 1) == pytest.approx(0, abs=1e-12)
    assert best_of(2, 1) == pytest.approx(1 / math.sqrt(math.pi), rel=1e-12)
    assert best_of(3, 1) == pytest.approx(1.5 / math.sqrt(math.pi), rel=1e-12)
    assert best_of(5, 1) == pytest.approx(1.1629644736, rel=1e-10)
    assert best_of(7, 0) == 0


@pytest.mark.parametrize("count", [2, 4, 10, 100, 5_000])
def test_the_best_of_some_is_that_of_quadrature(count: int) -> None:
    """Another form of the same expectation, by another rule: the integral of 1 - F^n above zero, less F^n below."""
    above = scipy.integrate.quad(lambda z: -np.expm1(count * scipy.stats.norm.logcdf(z)), 0, 12, limit=200)[0]
    below = scipy.integrate.quad(lambda z: scipy.stats.norm.cdf(z) ** count, -12, 0, limit=200)[0]
    assert best_of(count, 2.5) == pytest.approx(2.5 * (above - below), rel=1e-7)


def test_the_best_of_some_is_what_happens() -> None:
    bests = np.random.default_rng(0).normal(0.9, 0.01, size=(20_000, 8)).max(axis=1)
    assert bests.mean() == pytest.approx(0.9 + best_of(8, 0.01), abs=2e-4)


@pytest.mark.parametrize(("count", "deviation"), [(0, 1.0), (3, -1.0)])
def test_the_best_of_what_cannot_be(count: int, deviation: float) -> None:
    with pytest.raises(ValueError, match="no meaning"):
        best_of(count, deviation)
