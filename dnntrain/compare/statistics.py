"""Is one group of runs better than another, by how much, and is it more than luck."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, stdev
from typing import Final, Literal

from dnntrain.compare.estimates import check_confidence, same, t_quantile
from dnntrain.compare.permutation import midranks, permutation_p

Runs = Mapping[int, float | None]
"""Seed -> figure; None, NaN and infinite ones are runs that failed or diverged."""
Direction = Literal["min", "max"]
Verdict = Literal["better", "worse", "not distinguishable", "one seed: no verdict"]
Method = Literal["paired t", "Welch t", "signs", "ranks", "none"]

FEWEST_PAIRS: Final = 3
"""Runs are paired from so many on. Two pairs leave one degree of freedom, where t must exceed 12.7; Welch's test of two
against two has up to two (4.3), and errs on the safe side there: of equal normal groups it calls 2 % different at 95 %.
Pairs that go up and down together make it safer still."""

POWER: Final = 0.8
"""`seeds_to_settle` is the number that finds the difference with this probability."""

MOST_SEEDS: Final = 10_000
"""Beyond this, no number of seeds is named."""


@dataclass(frozen=True)
class Difference:
    """How one group of runs differs from the baseline.

    Attributes:
        value: mean of ours less mean of the baseline, in the metric's units; over the pairs where runs are paired, and
            over the runs that have a figure where some failed. None if a group has no figure at all.
        low: lower end of the interval of that difference; None where there is no t test.
        high: its upper end.
        confidence: level of this interval; in `compare_all` it is higher than asked for.
        p: probability of a difference at least as large if there were none; None for one seed.
        adjusted_p: the same, corrected for the number of comparisons; the verdict is made of this.
        comparisons: how many were corrected for.
        method: the test; see `compare`.
        pairs: pairs of equal seed; 0 where runs are not paired.
        runs: how many runs there are, ours and the baseline's, failed ones included.
        failed: how many of them failed or diverged.
        better: whether lower or higher figures are better.
        verdict: what may be said.
        seeds_to_settle: how many seeds a side would probably give a verdict; None where there is one already, and
            where it cannot be said.
    """

    value: float | None
    low: float | None
    high: float | None
    confidence: float
    p: float | None
    adjusted_p: float | None
    comparisons: int
    method: Method
    pairs: int
    runs: tuple[int, int]
    failed: tuple[int, int]
    better: Direction
    verdict: Verdict
    seeds_to_settle: int | None


@dataclass(frozen=True)
class _Test:
    """What was measured, before anything is concluded. `deviations`: of the pairs, or of each side."""

    method: Method
    value: float | None
    advantage: float
    p: float | None
    runs: tuple[int, int]
    failed: tuple[int, int]
    pairs: int = 0
    deviations: tuple[float, ...] = ()
    error: float = 0.0
    freedom: float = 0.0


def compare(ours: Runs, baseline: Runs, *, better: Direction, confidence: float = 0.95) -> Difference:
    """Compare two groups of runs, one figure for each seed.

    The test depends on the design and not on which gives the nicer answer:

    - **one seed** on either side: no verdict. One run shows nothing of what another seed would have given.
    - **paired t** where the seeds of one side are all among those of the other and at least `FEWEST_PAIRS` match: with
      d_i = ours_i - baseline_i, t = mean(d) / (s_d / sqrt(n)) with n - 1 degrees of freedom. Equal seeds share the
      order of the data and often the first weights, and what they share cancels. Runs without a partner are left out.
    - **Welch t** otherwise: e^2 = s_1^2 / n_1 + s_2^2 / n_2, t = (mean_1 - mean_2) / e, degrees of freedom
      e^4 / (sum_i (s_i^2 / n_i)^2 / (n_i - 1)). The pooled test, the default of SciPy's `ttest_ind`, supposes equal
      deviations; for 3 seeds with deviations of 1 and 5 it finds differences where there are none in 9 % of cases.
    - **signs** where all pairs differ by exactly the same amount, and a t test would divide by zero and be certain:
      each of 2^n ways to swap ours and baseline was equally likely, so p = 2^(1 - n).
    - **ranks** where unpaired runs of a side are all equal, so that nothing is known of their spread, and where any run
      failed. A failed run counts as the worst of all, for leaving it out would reward a configuration that diverges
      half of the time; the test is the exact Mann-Whitney test of `permutation_p`, and there is no interval. `value`
      is of the other runs, so it may well contradict the verdict, and the failures must be told beside it.

    Assumes independent seeds, and for the t tests figures that are about normal over seeds. Figures that chose their
    own best epoch on the same data are too good on both sides (`best_of`).

    Source: Welch 1947, doi:10.2307/2332510; Lachin 1999, doi:10.1016/S0197-2456(99)00022-7, on failures as worst ranks.

    Args:
        ours: seed -> figure.
        baseline: seed -> figure.
        better: whether lower or higher figures are better.
        confidence: of the interval; a verdict falls where p is below 1 - confidence.

    Raises:
        UsageError: the confidence is not between 0 and 1.
    """
    check_confidence(confidence)
    test = _test(ours, baseline, better)
    alpha = 1 - confidence
    return _judge(test, better, adjusted_p=test.p, comparisons=1, alpha=alpha, level=alpha)


def compare_all(
    groups: Mapping[str, Runs], baseline: Runs, *, better: Direction, confidence: float = 0.95
) -> dict[str, Difference]:
    """Compare many groups with one baseline, so that all verdicts together are wrong in 5 % of cases only.

    Each is compared as in `compare`; p values are corrected by `holm`, and verdicts use the corrected ones. Comparisons
    without a p value (one seed) do not count.

    Intervals agree with the verdicts: that of the k-th smallest p value (from 0) has level 1 - alpha / (m - k), and
    from the first group that is not distinguishable on, all have that group's level. So an interval lacks zero exactly
    where there is a verdict, and `Difference.confidence` names its level. They are not simultaneous: for all of them to
    hold together in 95 % of cases, Bonferroni's 1 - alpha / m would be needed, and that could hold zero where Holm
    finds a difference.

    Args:
        groups: name -> runs; the baseline is not among them.
        baseline: what each is compared with.
        better: whether lower or higher figures are better.
        confidence: see above.

    Raises:
        UsageError: the confidence is not between 0 and 1.
    """
    check_confidence(confidence)
    alpha = 1 - confidence
    tests = {name: _test(runs, baseline, better) for name, runs in groups.items()}
    p_values = {name: test.p for name, test in tests.items() if test.p is not None}
    adjusted = dict(zip(p_values, holm(list(p_values.values())), strict=True))
    rejected = sum(p < alpha for p in adjusted.values())
    places = {name: place for place, name in enumerate(sorted(p_values, key=p_values.__getitem__))}
    found = {}
    for name, test in tests.items():
        level = alpha / (len(places) - min(places[name], rejected)) if name in places else alpha
        comparisons = max(len(places), 1)
        found[name] = _judge(
            test, better, adjusted_p=adjusted.get(name), comparisons=comparisons, alpha=alpha, level=level
        )
    return found


def holm(p_values: Sequence[float]) -> list[float]:
    """Correct p values for their number, in the order given.

    The k-th smallest of m (from 0) becomes the largest of (m - j) p_j for j <= k, at most 1. Calling those below alpha
    different is wrong about any of them with probability alpha at most, however they depend on each other. Bonferroni's
    m p is never smaller; Benjamini and Hochberg's correction bounds another thing, the part of the findings that is
    wrong.

    Source: Holm 1979, Scandinavian Journal of Statistics 6, 65-70.

    Args:
        p_values: each between 0 and 1.
    """
    if not all(0 <= p <= 1 for p in p_values):
        raise ValueError(f"p values lie between 0 and 1: {list(p_values)}")
    adjusted = [0.0] * len(p_values)
    highest = 0.0
    for place, index in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        highest = max(highest, min(1.0, (len(p_values) - place) * p_values[index]))
        adjusted[index] = highest
    return adjusted


def seeds_to_settle(
    difference: float, deviations: Sequence[float], *, alpha: float = 0.05, power: float = POWER, fewest: int = 2
) -> int | None:
    """Return how many seeds a side would find a difference with the wanted probability, if it is what it seems.

    The smallest n with P(t > c) >= power, where t is noncentral with noncentrality |difference| sqrt(n) / s,
    s^2 = sum_i s_i^2, degrees of freedom (n - 1) s^4 / sum_i s_i^4 (Welch's for equal n; n - 1 for pairs) and c the
    two-sided critical value. A verdict the wrong way round does not count.

    A rough guide: difference and deviations are themselves estimates from few seeds, and the number goes with the
    square of their ratio.

    Source: Cohen, Statistical Power Analysis for the Behavioral Sciences, 1988, chapter 2.

    Args:
        difference: the true difference.
        deviations: one, of the differences within pairs; or two, of each side.
        alpha: the verdict falls where p is below it.
        power: the wanted probability.
        fewest: the smallest number to name.

    Returns:
        The number; None for no difference, for no deviation, or where more than `MOST_SEEDS` are needed.
    """
    from scipy.special import nctdtr

    total = math.hypot(*deviations)
    if difference == 0 or total == 0:
        return None
    shape = math.fsum((deviation / total) ** 4 for deviation in deviations)

    def enough(count: int) -> bool:
        freedom = (count - 1) / shape
        noncentrality = abs(difference) / total * math.sqrt(count)
        return 1 - float(nctdtr(freedom, noncentrality, t_quantile(freedom, alpha))) >= power

    high = fewest
    while not enough(high):
        if high >= MOST_SEEDS:
            return None
        high = min(2 * high, MOST_SEEDS)
    low = max(fewest - 1, high // 2)  # not enough, or below the fewest
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle, high)
    return high


def _test(ours: Runs, baseline: Runs, better: Direction) -> _Test:
    """Choose the test and do it; see `compare`."""
    if not ours or not baseline:
        raise ValueError("a group without a run cannot be compared")
    mine, theirs = _figures(ours), _figures(baseline)
    runs = (len(ours), len(baseline))
    failed = (len(ours) - len(mine), len(baseline) - len(theirs))
    value = fmean(mine.values()) - fmean(theirs.values()) if mine and theirs else None
    if min(runs) < 2:
        return _Test("none", value, 0.0, None, runs, failed)
    if any(failed) or value is None:
        return _rank_test(ours, baseline, better, value, failed)
    common = sorted(mine.keys() & theirs.keys())
    if len(common) == min(runs) and len(common) >= FEWEST_PAIRS:
        return _paired_test([(mine[seed], theirs[seed]) for seed in common], better, runs)
    if same([*mine.values()]) or same([*theirs.values()]):
        return _rank_test(ours, baseline, better, value, failed)
    deviations = (stdev(mine.values()), stdev(theirs.values()))
    errors = [deviation / math.sqrt(count) for deviation, count in zip(deviations, runs, strict=True)]
    error = math.hypot(*errors)
    shares = [(part / error) ** 4 / (count - 1) for part, count in zip(errors, runs, strict=True)]
    return _t_test("Welch t", value, error, 1 / math.fsum(shares), better, runs, deviations=deviations)


def _figures(runs: Runs) -> dict[int, float]:
    """Return the figures of the runs that neither failed nor diverged."""
    return {seed: float(figure) for seed, figure in runs.items() if figure is not None and math.isfinite(figure)}


def _paired_test(pairs: Sequence[tuple[float, float]], better: Direction, runs: tuple[int, int]) -> _Test:
    """Test the differences within pairs; see `compare`."""
    differences = [mine - theirs for mine, theirs in pairs]
    size = max(abs(figure) for pair in pairs for figure in pair)
    value, count = fmean(differences), len(pairs)
    if same(differences, size):
        value = 0.0 if same([0.0, *differences], size) else value
        p = 1.0 if value == 0 else 2.0 ** (1 - count)
        return _Test("signs", value, _advantage(value, better), p, runs, (0, 0), pairs=count)
    deviation = stdev(differences)
    error = deviation / math.sqrt(count)
    return _t_test("paired t", value, error, count - 1, better, runs, deviations=(deviation,), pairs=count)


def _t_test(
    method: Method,
    value: float,
    error: float,
    freedom: float,
    better: Direction,
    runs: tuple[int, int],
    *,
    deviations: tuple[float, ...],
    pairs: int = 0,
) -> _Test:
    """Return the two-sided t test of a difference with a standard error."""
    from scipy.special import stdtr

    p = 2 * float(stdtr(freedom, -abs(value) / error))
    return _Test(method, value, _advantage(value, better), p, runs, (0, 0), pairs, deviations, error, freedom)


def _rank_test(ours: Runs, baseline: Runs, better: Direction, value: float | None, failed: tuple[int, int]) -> _Test:
    """Test the ranks, a failed run being the worst; see `compare`."""
    goodness = [
        -math.inf if seed not in figures else _advantage(float(f"{figures[seed]:.11e}"), better)  # rounding is a tie
        for side, figures in ((ours, _figures(ours)), (baseline, _figures(baseline)))
        for seed in side
    ]
    ranks = midranks(goodness)
    p = permutation_p(ranks[: len(ours)], ranks[len(ours) :])
    advantage = fmean(ranks[: len(ours)]) - fmean(ranks[len(ours) :])
    return _Test("ranks", value, advantage, p, (len(ours), len(baseline)), failed)


def _advantage(value: float, better: Direction) -> float:
    """Turn a figure so that higher is better."""
    return value if better == "max" else -value


def _judge(
    test: _Test, better: Direction, *, adjusted_p: float | None, comparisons: int, alpha: float, level: float
) -> Difference:
    """Conclude: a verdict at `alpha` by the corrected p value, and an interval at 1 - `level`."""
    verdict: Verdict = "not distinguishable"
    if adjusted_p is None:
        verdict = "one seed: no verdict"
    elif adjusted_p < alpha:
        verdict = "better" if test.advantage > 0 else "worse"
    low = high = needed = None
    if test.value is not None and test.deviations:
        half = t_quantile(test.freedom, level) * test.error
        low, high = test.value - half, test.value + half
        if verdict == "not distinguishable":
            fewest = FEWEST_PAIRS if test.pairs else 2
            needed = seeds_to_settle(test.value, test.deviations, alpha=level, fewest=fewest)
    return Difference(
        value=test.value,
        low=low,
        high=high,
        confidence=1 - level,
        p=test.p,
        adjusted_p=adjusted_p,
        comparisons=comparisons,
        method=test.method,
        pairs=test.pairs,
        runs=test.runs,
        failed=test.failed,
        better=better,
        verdict=verdict,
        seeds_to_settle=needed,
    )
