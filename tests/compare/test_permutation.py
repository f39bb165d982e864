from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st

from dnntrain.compare.permutation import midranks, permutation_p

SCORES = st.lists(st.integers(-3, 3), min_size=1, max_size=5)


def test_complete_separation_by_hand() -> None:
    assert permutation_p([1, 2, 3], [4, 5, 6]) == pytest.approx(2 / 20)
    assert permutation_p([4, 5, 6, 7], [0, 1, 2, 3]) == pytest.approx(2 / 70)
    assert permutation_p([1], [2]) == 1


def test_scores_that_are_all_equal_say_nothing() -> None:
    assert permutation_p([0.1 + 0.2, 0.3], [0.3, 0.3, 0.3]) == 1
    assert permutation_p([0.3] * 20, [0.1 + 0.2] * 20) == 1


@given(SCORES, SCORES)
def test_it_is_the_permutation_test_of_scipy(ours: list[int], baseline: list[int]) -> None:
    found = permutation_p(ours, baseline)
    if len(ours) > 1 and len(baseline) > 1:  # SciPy refuses groups of one
        expected = scipy.stats.permutation_test((ours, baseline), lambda mine, _: np.sum(mine), n_resamples=np.inf)
        assert found == pytest.approx(expected.pvalue)
    assert permutation_p(baseline, ours) == pytest.approx(found)
    assert 2 / math.comb(len(ours) + len(baseline), len(ours)) <= found + 1e-12


@given(st.lists(st.floats(-5, 5), min_size=2, max_size=6, unique=True), st.integers(1, 5))
def test_ranks_make_it_the_exact_test_of_mann_and_whitney(values: list[float], cut: int) -> None:
    cut = min(cut, len(values) - 1)
    ranks = midranks(values)
    expected = scipy.stats.mannwhitneyu(values[:cut], values[cut:], method="exact").pvalue
    assert permutation_p(ranks[:cut], ranks[cut:]) == pytest.approx(expected)


def test_many_scores_by_their_normal_approximation() -> None:
    generator = np.random.default_rng(0)
    for shift in (0.0, 0.4, 2.0):
        ours, baseline = (generator.normal(size=20) + shift).round(1), generator.normal(size=30).round(1)
        ranks = midranks([*ours.tolist(), *baseline.tolist()])
        expected = scipy.stats.mannwhitneyu(ours, baseline, method="asymptotic", use_continuity=False).pvalue
        assert permutation_p(ranks[:20], ranks[20:]) == pytest.approx(expected, rel=1e-9)


@given(st.lists(st.sampled_from([-math.inf, -1.0, 0.0, 0.5, 2.0, math.inf]), min_size=1))
def test_midranks_are_those_of_scipy(values: list[float]) -> None:
    assert midranks(values) == scipy.stats.rankdata(values).tolist()
