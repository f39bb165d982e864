"""The exact test for two small groups of scores: every other way to label the runs is tried."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from itertools import chain, combinations
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    import numpy as np

MOST_LABELLINGS: Final = 13_000
"""With more ways than this to label the runs (8 against 8 have 12,870), the normal approximation is good enough."""


def permutation_p(ours: Sequence[float], baseline: Sequence[float]) -> float:
    """Return the two-sided p value of the sum of one group's scores, if the labels meant nothing.

    Let S be the sum of the scores of `ours`, k runs of n. If both groups come from one distribution, each of the
    C(n, k) choices of k scores was equally likely, so p = 2 min(P(sum <= S), P(sum >= S)), at most 1. This holds for
    any number of runs and any ties, but p cannot fall below 2 / C(n, k): 0.1 for 3 against 3, 0.03 for 4 against 4.

    Beyond `MOST_LABELLINGS`, S is taken as normal with the mean and variance that it has over all labellings,
    k m and k (n - k) / (n (n - 1)) sum_i (a_i - m)^2, where m is the mean score.

    Fed with ranks, this is the Mann-Whitney test, and with log-rank scores the log-rank test in its permutation form.
    Tools disagree: SciPy's `mannwhitneyu` becomes exact by other rules and corrects for continuity, which is not done
    here; SciPy's `logrank` has no exact form and uses the hypergeometric variance.

    Assumes that runs are independent of each other. With runs that share seeds it errs on the side of no verdict.

    Source: Fisher, The Design of Experiments, 1935; Pitman 1937, doi:10.2307/2984124.

    Args:
        ours: finite scores of one group; not empty.
        baseline: finite scores of the other; not empty.
    """
    scores = [*ours, *baseline]
    total, mean = math.fsum(ours), math.fsum(scores) / len(scores)
    spread = math.fsum((score - mean) ** 2 for score in scores)
    tolerance = 1e-12 * math.fsum(abs(score) for score in scores)  # sums of equal scores differ by their rounding
    if math.comb(len(scores), len(ours)) > MOST_LABELLINGS:
        return _normal_p(total - len(ours) * mean, spread, len(ours), len(baseline), tolerance)
    import numpy as np

    sums = np.asarray(scores)[_labellings(len(scores), len(ours))].sum(axis=1)
    lower, upper = np.mean(sums <= total + tolerance), np.mean(sums >= total - tolerance)
    return min(1.0, 2 * float(min(lower, upper)))


def _normal_p(excess: float, spread: float, ours: int, baseline: int, tolerance: float) -> float:
    """Return the p value of the sum by its normal approximation; see `permutation_p`."""
    if abs(excess) <= tolerance:
        return 1.0
    from scipy.special import ndtr

    count = ours + baseline
    deviation = math.sqrt(ours * baseline / (count * (count - 1)) * spread)
    return 2 * float(ndtr(-abs(excess) / deviation))


@lru_cache(maxsize=8)
def _labellings(count: int, chosen: int) -> np.ndarray[Any, np.dtype[np.intp]]:
    """Return every choice of so many indices, one a row; kept, since most comparisons have the same sizes."""
    import numpy as np

    flat = chain.from_iterable(combinations(range(count), chosen))
    return np.fromiter(flat, dtype=np.intp).reshape(-1, chosen)


def midranks(values: Sequence[float]) -> list[float]:
    """Return the rank of each value from 1, the lowest; equal values share the mean of their ranks.

    Args:
        values: numbers, infinite ones included.
    """
    first: dict[float, int] = {}
    count: dict[float, int] = {}
    for rank, value in enumerate(sorted(values), start=1):
        first.setdefault(value, rank)
        count[value] = count.get(value, 0) + 1
    return [first[value] + (count[value] - 1) / 2 for value in values]
