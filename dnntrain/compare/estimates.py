"""What one group of runs shows: its mean or median, how sure that is, and how far luck alone reaches."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import fmean, median, stdev
from typing import TYPE_CHECKING, Final

from dnntrain.errors import UsageError

if TYPE_CHECKING:
    import numpy as np

ROUNDING: Final = 1e-12
"""Values that differ by less than this part of their size differ by rounding only."""


@dataclass(frozen=True)
class Estimate:
    """A mean or a median over seeds, and how sure it is.

    Attributes:
        value: mean or median of the runs that have a figure; None if none has.
        low: lower end of the interval; None where there is no interval.
        high: its upper end.
        deviation: sample deviation (divisor n - 1) between the runs; None with fewer than two figures.
        count: runs that have a figure.
        failed: runs that have none (failed or diverged): they are not in the value, so they must be told beside it.
    """

    value: float | None
    low: float | None
    high: float | None
    deviation: float | None
    count: int
    failed: int = 0


def estimate(values: Iterable[float | None], *, confidence: float = 0.95) -> Estimate:
    """Estimate the mean over seeds with Student's t interval.

    mean +- t s / sqrt(n), where t is the (1 + confidence) / 2 quantile of Student's distribution with n - 1 degrees of
    freedom and s the sample deviation. It says where the mean over *all* seeds may lie, not where the next run will.

    Assumes independent runs and means that are about normal, which few seeds cannot show. No interval is given for one
    value, nor where all values are equal: then nothing is known of the spread, and an interval of no width would claim
    certainty. Some tools use the normal quantile 1.96 whatever n is; for n = 3 the right factor is 4.30.

    Source: Student 1908, doi:10.2307/2331554.

    Args:
        values: one for each seed; None, NaN and infinite ones are runs that failed or diverged.
        confidence: probability that such intervals cover the mean.

    Raises:
        UsageError: the confidence is not between 0 and 1.
    """
    check_confidence(confidence)
    figures, failed = _finished(values)
    if not figures:
        return Estimate(None, None, None, None, 0, failed)
    mean = fmean(figures)
    if len(figures) < 2:
        return Estimate(mean, None, None, None, 1, failed)
    if same(figures):
        return Estimate(mean, None, None, 0.0, len(figures), failed)
    deviation = stdev(figures)
    half = t_quantile(len(figures) - 1, 1 - confidence) * deviation / math.sqrt(len(figures))
    return Estimate(mean, mean - half, mean + half, deviation, len(figures), failed)


def median_interval(
    values: Iterable[float | None],
    *,
    generator: np.random.Generator,
    confidence: float = 0.95,
    resamples: int = 9_999,
) -> Estimate:
    """Estimate the median over seeds with a percentile bootstrap interval.

    The median of n values drawn with replacement, `resamples` times; the interval lies between the (1 - confidence) / 2
    and (1 + confidence) / 2 quantiles of these medians.

    Percentile, not BCa, SciPy's default: BCa estimates its acceleration by the jackknife, which does not work for the
    median, since leaving one value out moves it by one of two or three steps only.

    Assumes independent runs. No interval made of the values themselves can cover the median more often than
    1 - 2^(1 - n): 75 % for 3 seeds, 94 % for 5, whatever confidence is asked for. From 6 seeds on 95 % can be reached.

    Source: Efron 1979, doi:10.1214/aos/1176344552; Efron and Tibshirani, An Introduction to the Bootstrap, 1993,
    chapters 11 and 13.

    Args:
        values: one for each seed; None, NaN and infinite ones are runs that failed or diverged.
        generator: where the draws come from.
        confidence: see above.
        resamples: how often to draw.

    Raises:
        UsageError: the confidence is not between 0 and 1.
    """
    check_confidence(confidence)
    figures, failed = _finished(values)
    if not figures:
        return Estimate(None, None, None, None, 0, failed)
    middle = median(figures)
    if len(figures) < 2 or same(figures):
        return Estimate(middle, None, None, None if len(figures) < 2 else 0.0, len(figures), failed)
    import numpy as np

    medians = np.median(generator.choice(figures, size=(resamples, len(figures))), axis=1)
    low, high = np.quantile(medians, [(1 - confidence) / 2, (1 + confidence) / 2])
    return Estimate(middle, float(low), float(high), stdev(figures), len(figures), failed)


def best_of(count: int, deviation: float) -> float:
    """Return by how much the best of some equal runs is expected to exceed their mean, by luck alone.

    s E[max(z_1 ... z_n)] = s n integral of z phi(z) Phi(z)^(n - 1) dz, with z standard normal: 0.56 s for 2, 1.16 s for
    5, 1.54 s for 10, 2.51 s for 100. Whoever reports the best of n configurations or epochs reports that much too good
    a figure, if they did not differ at all; compare on figures that took no part in the choice.

    Assumes independent normal values. Epochs of one run are not independent, and then it is an upper bound.
    The common estimate s sqrt(2 ln n) is too large: 1.79 s for 5.

    Source: Tippett 1925, doi:10.2307/2332087.

    Args:
        count: how many there were to choose from; at least 1.
        deviation: standard deviation between equal runs; not negative.
    """
    if count < 1 or deviation < 0:
        raise ValueError(f"the best of {count} with deviation {deviation:g} has no meaning")
    import numpy as np
    from scipy.special import log_ndtr

    # The integrand is smooth and vanishes at both ends, so that the trapezoidal rule is exact to rounding.
    z, step = np.linspace(-12.0, 12.0, 4_801, retstep=True)
    density = np.exp(math.log(count) - z**2 / 2 + (count - 1) * log_ndtr(z)) / math.sqrt(2 * math.pi)
    return deviation * float(np.sum(z * density) * step)


def _finished(values: Iterable[float | None]) -> tuple[list[float], int]:
    """Return the finite values, and how many others there are."""
    given = list(values)
    figures = [float(value) for value in given if value is not None and math.isfinite(value)]
    return figures, len(given) - len(figures)


def same(values: Sequence[float], size: float | None = None) -> bool:
    """Tell whether values differ by no more than their rounding.

    Args:
        values: finite numbers; not empty.
        size: magnitude of the numbers that they were computed from, where those were larger.
    """
    largest = max(abs(value) for value in values) if size is None else size
    return max(values) - min(values) <= ROUNDING * largest


def t_quantile(freedom: float, alpha: float) -> float:
    """Return the number that |t| exceeds with probability alpha.

    Args:
        freedom: degrees of freedom.
        alpha: probability of both tails together.
    """
    from scipy.special import stdtrit

    return -float(stdtrit(freedom, alpha / 2))


def check_confidence(confidence: float) -> None:
    """Refuse a confidence that is no probability.

    Raises:
        UsageError: it is not between 0 and 1.
    """
    if not 0 < confidence < 1:
        raise UsageError(f"a confidence of {confidence:g} cannot be: it lies between 0 and 1, like 0.95")
