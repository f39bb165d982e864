from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dnntrain.parts.datasets import sampling

quiet = settings(deadline=None, max_examples=60)
labels_of = st.lists(st.integers(0, 5), min_size=1, max_size=80).map(np.array)


def test_golden_order_is_the_same_on_every_machine() -> None:
    assert sampling.shuffled(10, 0, sampling.HOLDOUT).tolist() == [0, 4, 6, 3, 9, 5, 7, 1, 8, 2]
    assert sampling.stratified(np.array([0, 1] * 6), 4, 0, sampling.HOLDOUT).tolist() == [0, 3, 4, 9]


@quiet
@given(st.integers(0, 200), st.integers(0, 2**32))
def test_shuffled_is_a_permutation_that_only_the_seed_decides(count: int, seed: int) -> None:
    order = sampling.shuffled(count, seed, sampling.ORDER)
    assert sorted(order.tolist()) == list(range(count))
    assert np.array_equal(order, sampling.shuffled(count, seed, sampling.ORDER))


def test_seeds_and_streams_differ() -> None:
    base = sampling.shuffled(100, 0, sampling.ORDER)
    assert not np.array_equal(base, sampling.shuffled(100, 1, sampling.ORDER))
    assert not np.array_equal(base, sampling.shuffled(100, 0, sampling.HOLDOUT))


def test_every_position_is_equally_likely_to_come_first() -> None:
    first = np.array([sampling.shuffled(4, seed, sampling.ORDER)[0] for seed in range(2000)])
    assert np.all(np.abs(np.bincount(first, minlength=4) - 500) < 90)


@quiet
@given(labels_of, st.data(), st.integers(0, 1000))
def test_stratified_chooses_the_size_and_every_class_within_one_of_its_share(
    labels: np.ndarray, data: st.DataObject, seed: int
) -> None:
    size = data.draw(st.integers(0, len(labels)))
    chosen = sampling.stratified(labels, size, seed, sampling.HOLDOUT)
    assert len(chosen) == size
    assert np.all(np.diff(chosen) > 0)
    for label in np.unique(labels):
        share = np.sum(labels == label) * size / len(labels)
        assert abs(np.sum(labels[chosen] == label) - share) < 1


def test_the_largest_remainders_are_rounded_up() -> None:
    labels = np.repeat([0, 1, 2], [7, 2, 1])
    # Shares of 5 in 10: 3.5, 1.0 and 0.5; the tie goes to the lower class.
    assert np.bincount(labels[sampling.stratified(labels, 5, 0, sampling.HOLDOUT)]).tolist() == [4, 1]
    # Shares of 4 in 10: 2.8, 0.8 and 0.4.
    assert np.bincount(labels[sampling.stratified(labels, 4, 0, sampling.HOLDOUT)]).tolist() == [3, 1]


def test_within_a_class_the_choice_is_random() -> None:
    labels = np.zeros(50, dtype=int)
    chosen = {tuple(sampling.stratified(labels, 5, seed, sampling.HOLDOUT)) for seed in range(20)}
    assert len(chosen) == 20
    assert {position for group in chosen for position in group} >= set(range(0, 50, 10))


@quiet
@given(labels_of, st.integers(2, 8), st.integers(0, 1000))
def test_folds_differ_by_at_most_one_sample_in_each_class_too(labels: np.ndarray, folds: int, seed: int) -> None:
    fold = sampling.stratified_folds(labels, folds, seed, sampling.HOLDOUT)
    assert np.ptp(np.bincount(fold, minlength=folds)) <= 1
    for label in np.unique(labels):
        assert np.ptp(np.bincount(fold[labels == label], minlength=folds)) <= 1


@pytest.mark.parametrize("labels", [np.array(["b", "a", "b", "a"]), np.array([-3, 7, -3, 7])])
def test_labels_may_be_anything_that_sorts(labels: np.ndarray) -> None:
    chosen = sampling.stratified(labels, 2, 0, sampling.HOLDOUT)
    assert len(set(labels[chosen].tolist())) == 2
