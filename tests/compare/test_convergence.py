from __future__ import annotations

import math
from itertools import combinations

import numpy as np
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st

from dnntrain.compare.convergence import Reached, faster, faster_all, log_rank_scores, median_time_to_reach
from dnntrain.errors import UsageError

RUNS = st.lists(st.tuples(st.integers(1, 9), st.booleans()), min_size=1, max_size=7)


def runs_of(pairs: list[tuple[int, bool]]) -> Reached:
    return Reached(tuple(float(time) for time, _ in pairs), tuple(reached for _, reached in pairs))


def at(*times: float) -> Reached:
    return Reached(times, (True,) * len(times))


def never(count: int, time: float = math.inf) -> Reached:
    return Reached((time,) * count, (False,) * count)


def censored(runs: Reached) -> scipy.stats.CensoredData:
    return scipy.stats.CensoredData.right_censored(runs.times, [not reached for reached in runs.reached])


def test_the_median_without_censoring_is_the_plain_one() -> None:
    assert median_time_to_reach(at(3, 1, 2)) == 2
    assert median_time_to_reach(at(1, 2, 4, 9)) == 3
    assert median_time_to_reach(at(5)) == 5


def test_the_median_with_censoring_by_hand() -> None:
    # S is 4/5 after 2; the run stopped at 3 leaves; 4/5 2/3 = 8/15 after 4, and 4/15 after 6.
    assert median_time_to_reach(Reached((2, 3, 4, 6, 7), (True, False, True, True, False))) == 6
    # Dropping those that did not reach the target would give 1.5.
    assert median_time_to_reach(Reached((1, 2, 20, 20, 20), (True, True, False, False, False))) is None
    # Half arrive at 2, and nobody later.
    assert median_time_to_reach(Reached((1, 2, 20, 20), (True, True, False, False))) == 2


def test_a_run_that_stops_when_another_arrives_was_still_on_its_way() -> None:
    assert median_time_to_reach(Reached((2, 2, 5), (True, False, False))) is None


def test_nobody_arrives() -> None:
    assert median_time_to_reach(never(3)) is None
    assert median_time_to_reach(never(3, 20)) is None


@given(RUNS)
def test_the_median_lies_where_scipys_curve_crosses_one_half(pairs: list[tuple[int, bool]]) -> None:
    runs = runs_of(pairs)
    curve = scipy.stats.ecdf(censored(runs)).sf
    below = curve.quantiles[curve.probabilities <= 0.5 + 1e-9]
    found = median_time_to_reach(runs)
    if not len(below):
        assert found is None
    else:
        at_half = abs(curve.probabilities - 0.5) < 1e-9
        later = curve.quantiles[curve.probabilities < 0.5 - 1e-9]
        assert found == ((below[0] + later[0]) / 2 if at_half.any() and len(later) else below[0])


def excess(ours: Reached, baseline: Reached) -> float:
    """Return how many more of our runs arrived than expected, from the table of each time."""
    total = 0.0
    for time in {*ours.times, *baseline.times}:
        mine = sum(end == time and reached for end, reached in zip(ours.times, ours.reached, strict=True))
        theirs = sum(end == time and reached for end, reached in zip(baseline.times, baseline.reached, strict=True))
        waiting = [sum(end >= time for end in side.times) for side in (ours, baseline)]
        total += mine - (mine + theirs) * waiting[0] / sum(waiting)
    return total


@given(RUNS, RUNS)
def test_the_scores_sum_to_the_excess_of_arrivals(ours: list[tuple[int, bool]], other: list[tuple[int, bool]]) -> None:
    mine, theirs = log_rank_scores(runs_of(ours), runs_of(other))
    assert sum(mine) == pytest.approx(excess(runs_of(ours), runs_of(other)), abs=1e-9)
    assert sum(mine) + sum(theirs) == pytest.approx(0, abs=1e-9)


def test_the_exact_p_value_from_all_labellings() -> None:
    pairs = [(3, True), (4, True), (4, False), (9, True), (5, True), (9, False), (9, False), (8, True)]
    observed = excess(runs_of(pairs[:4]), runs_of(pairs[4:]))
    sums = [
        excess(runs_of([pairs[i] for i in chosen]), runs_of([pairs[i] for i in range(8) if i not in chosen]))
        for chosen in combinations(range(8), 4)
    ]
    tails = [sum(s <= observed + 1e-9 for s in sums), sum(s >= observed - 1e-9 for s in sums)]
    assert faster(runs_of(pairs[:4]), runs_of(pairs[4:])).p == pytest.approx(min(1, 2 * min(tails) / len(sums)))


def test_many_runs_give_about_scipys_p_value() -> None:
    generator = np.random.default_rng(2)
    for factor in (1.0, 0.7, 0.4):
        times = [np.minimum(generator.exponential(scale, 60), 1.5) for scale in (factor, 1.0)]
        ours, baseline = (Reached(tuple(side.tolist()), tuple((side < 1.5).tolist())) for side in times)
        expected = scipy.stats.logrank(censored(ours), censored(baseline))
        found = faster(ours, baseline)
        assert found.p == pytest.approx(expected.pvalue, rel=0.1, abs=1e-4)
        assert sum(log_rank_scores(ours, baseline)[0]) * expected.statistic > 0


def test_verdicts() -> None:
    quick, slow = at(3, 4, 5, 6, 7), at(12, 13, 14, 15, 16)
    found = faster(quick, slow)
    assert (found.verdict, found.median, found.baseline_median) == ("faster", 5, 14)
    assert found.p == found.adjusted_p == pytest.approx(2 / 252)
    assert faster(slow, quick).verdict == "slower"
    assert faster(quick, quick).verdict == "not distinguishable"
    assert faster(quick, quick).p == 1
    assert faster(quick, slow, confidence=0.995).verdict == "not distinguishable"


def test_never_arriving_is_slower_than_arriving_late() -> None:
    late = at(18, 19, 19, 20, 20)
    assert faster(never(5), late).verdict == "slower"
    assert faster(never(5, 20), late).verdict == "slower"
    assert faster(late, never(5)).reached == (5, 0)


def test_a_run_that_diverged_counts_against_its_group_for_ever() -> None:
    """Censored at epoch 1, when it diverged, it would say nothing."""
    others = at(3, 3, 4, 4)
    stopped = faster(Reached((3, 1, 1, 1), (True, False, False, False)), others)
    diverged = faster(Reached((3, math.inf, math.inf, math.inf), (True, False, False, False)), others)
    assert diverged.p is not None and stopped.p is not None
    assert diverged.p < stopped.p
    assert (stopped.median, diverged.median) == (3, None)


def test_nobody_arriving_anywhere_is_not_distinguishable() -> None:
    found = faster(never(4), never(4, 20))
    assert (found.verdict, found.p, found.median) == ("not distinguishable", 1, None)


def test_one_seed_gives_no_verdict() -> None:
    found = faster(at(3), at(10, 11, 12))
    assert (found.verdict, found.p, found.median) == ("one seed: no verdict", None, 3)


def test_many_groups_are_corrected() -> None:
    quick, slow = at(3, 4, 5, 6), at(12, 13, 14, 15)
    found = faster_all({"quick": quick, "same": slow, "single": at(1)}, slow)
    assert faster(quick, slow).verdict == "faster"
    assert found["quick"].adjusted_p == pytest.approx(2 * 2 / 70)
    assert [one.verdict for one in found.values()] == ["not distinguishable"] * 2 + ["one seed: no verdict"]
    assert found["single"].comparisons == 2


def test_equal_groups_are_seldom_called_different() -> None:
    generator = np.random.default_rng(0)
    wrong = 0
    for _ in range(200):
        times = np.minimum(generator.integers(1, 12, size=(2, 5)), 10)
        ours, baseline = (Reached(tuple(side.tolist()), tuple((side < 10).tolist())) for side in times)
        wrong += faster(ours, baseline).verdict != "not distinguishable"
    assert wrong <= 18


@pytest.mark.parametrize(
    ("times", "reached"),
    [((), ()), ((1.0,), (True, False)), ((math.nan,), (False,)), ((-1.0,), (True,)), ((math.inf,), (True,))],
)
def test_times_that_cannot_be(times: tuple[float, ...], reached: tuple[bool, ...]) -> None:
    with pytest.raises(ValueError):
        Reached(times, reached)


def test_a_confidence_that_cannot_be() -> None:
    with pytest.raises(UsageError, match="lies between 0 and 1"):
        faster(at(1, 2), at(1, 2), confidence=95)
