"""Random choices that are the same on every machine: they depend on a seed and nothing else.

NumPy may change how `Generator.permutation` uses its random bits between versions, but promises that the raw bits
of a bit generator stay. So each sample draws one 64-bit key from the raw bits, and order follows from sorting keys.
"""

from __future__ import annotations

from typing import Final

import numpy as np

# Numbers of the streams: one seed serves several purposes, and each draws its own numbers.
ORDER: Final = 1
HOLDOUT: Final = 2
FIXED_TEST: Final = 3


def shuffled(count: int, seed: int, stream: int) -> np.ndarray:
    """Return the numbers 0..count-1 in a random order.

    Args:
        count: how many.
        seed: what the order depends on.
        stream: which of the seed's streams to draw from.
    """
    return np.argsort(_keys(count, seed, stream), kind="stable")


def stratified(labels: np.ndarray, size: int, seed: int, stream: int) -> np.ndarray:
    """Choose `size` positions at random so that every class is represented in proportion.

    Class c with n_c of the n samples gives n_c size / n of them, rounded by the method of the largest remainder, so
    each class is within one sample of its share.

    Args:
        labels: the class of each sample, shape (N,).
        size: how many to choose, at most N.
        seed: what the choice depends on.
        stream: which of the seed's streams to draw from.

    Returns:
        The chosen positions, sorted.
    """
    order, classes, counts = _by_class(labels, seed, stream)
    shares, remainders = np.divmod(counts * size, len(labels))
    shares[np.argsort(-remainders, kind="stable")[: size - int(shares.sum())]] += 1
    rank_in_class = np.arange(len(labels)) - (np.cumsum(counts) - counts)[classes[order]]
    return np.sort(order[rank_in_class < shares[classes[order]]])


def stratified_folds(labels: np.ndarray, folds: int, seed: int, stream: int) -> np.ndarray:
    """Deal samples out to folds, class after class, so that folds differ by at most one sample, in each class too.

    Args:
        labels: the class of each sample, shape (N,).
        folds: how many folds.
        seed: what the choice depends on.
        stream: which of the seed's streams to draw from.

    Returns:
        The fold of each sample, shape (N,).
    """
    order, _, _ = _by_class(labels, seed, stream)
    fold = np.empty(len(labels), dtype=np.int64)
    fold[order] = np.arange(len(labels)) % folds
    return fold


def _by_class(labels: np.ndarray, seed: int, stream: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return positions ordered by class and at random within it, each sample's class number, and class sizes."""
    _, classes, counts = np.unique(labels, return_inverse=True, return_counts=True)
    order = np.lexsort((_keys(len(labels), seed, stream), classes))
    return order, classes, counts


def _keys(count: int, seed: int, stream: int) -> np.ndarray:
    raw = np.random.default_rng([seed, stream]).bit_generator.random_raw(count)
    return np.asarray(raw, dtype=np.uint64)
