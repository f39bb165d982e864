from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dnntrain.errors import DataError
from dnntrain.parts.datasets import Arrays, Holdout, Parts, Split, partition, splits

quiet = settings(deadline=None, max_examples=60)
NAMES = ("airplane", "bird", "cat", "dog", "boat")


def arrays(labels: Any, *, names: tuple[str, ...] | None = NAMES, grouped: bool = False, test: Any = None) -> Arrays:
    """Features that hold each sample's own row number."""
    y = np.asarray(labels)
    y_test = None if test is None else np.asarray(test)
    return Arrays(
        x_train=np.arange(len(y), dtype=np.float32)[:, np.newaxis],
        y_train=y,
        x_test=None if y_test is None else np.arange(len(y_test), dtype=np.float32)[:, np.newaxis],
        y_test=y_test,
        layout="features",
        classes=names,
        grouped=grouped,
        fingerprint="",
    )


def divide(data: Arrays, *, classes: Any = None, limit: int | None = None, **holdout: Any) -> Parts:
    return partition(data, classes=classes, validation=Holdout(**holdout) if holdout else None, limit=limit)


def rows(split: Split | None) -> list[int]:
    assert split is not None
    assert split.index.dtype == np.int64
    return split.index.tolist()


EVEN = arrays(np.arange(100) % 5)
REGRESSION = arrays(np.linspace(0, 1, 50, dtype=np.float32), names=None)


def test_without_validation_everything_trains() -> None:
    parts = divide(arrays([0, 1, 2], test=[1, 1]))
    assert rows(parts.train) == [0, 1, 2] and rows(parts.test) == [0, 1]
    assert parts.valid is None and parts.classes == NAMES
    assert divide(EVEN).test is None


def test_first_and_last_follow_the_file() -> None:
    parts = divide(EVEN, size=30, origin="first")
    assert rows(parts.valid) == list(range(30)) and rows(parts.train) == list(range(30, 100))
    parts = divide(EVEN, fraction=0.3, origin="last")
    assert rows(parts.valid) == list(range(70, 100)) and rows(parts.train) == list(range(70))


def test_auto_is_stratified_for_classes_and_random_for_regression() -> None:
    assert rows(divide(EVEN, size=20).valid) == rows(divide(EVEN, size=20, origin="stratified").valid)
    assert rows(divide(EVEN, size=20).valid) != rows(divide(EVEN, size=20, origin="random").valid)
    assert rows(divide(REGRESSION, size=9).valid) == rows(divide(REGRESSION, size=9, origin="random").valid)
    folds = {"folds": 5, "fold": 1}
    assert rows(divide(EVEN, **folds).valid) == rows(divide(EVEN, **folds, origin="stratified").valid)
    assert rows(divide(REGRESSION, **folds).valid) == rows(divide(REGRESSION, **folds, origin="random").valid)
    with pytest.raises(DataError, match="'from: stratified' needs classes"):
        divide(REGRESSION, size=9, origin="stratified")


labels = st.lists(st.integers(0, 4), min_size=12, max_size=90).map(
    lambda drawn: np.array([*drawn, *(list(range(5)) * 4)])
)
origins = st.sampled_from(["first", "last", "random", "stratified", "auto"])


def check_division(y: np.ndarray, parts: Parts, size: int | None = None) -> None:
    """Disjoint, complete, sorted, of the right size; classes in proportion is checked by the caller."""
    train, valid = rows(parts.train), rows(parts.valid)
    assert sorted(train + valid) == list(range(len(y)))
    assert train == sorted(train) and valid == sorted(valid)
    assert train and valid
    assert size is None or len(valid) == size


@quiet
@given(labels, origins, st.integers(1, 15), st.integers(0, 99))
def test_a_split_is_disjoint_and_complete(y: np.ndarray, origin: str, size: int, seed: int) -> None:
    parts = divide(arrays(y), size=size, origin=origin, seed=seed)
    check_division(y, parts, size)
    if origin in ("stratified", "auto"):
        share = np.bincount(y) * size / len(y)
        assert np.all(np.abs(np.bincount(y[rows(parts.valid)], minlength=5) - share) < 1)


@quiet
@given(labels, st.floats(0.02, 0.6), origins)
def test_a_fraction_is_rounded_to_the_nearest_sample(y: np.ndarray, fraction: float, origin: str) -> None:
    parts = divide(arrays(y), fraction=fraction, origin=origin)
    assert abs(len(rows(parts.valid)) - fraction * len(y)) <= 0.5
    check_division(y, parts)


@quiet
@given(labels, origins, st.integers(2, 4), st.integers(0, 99))
def test_folds_partition_everything(y: np.ndarray, origin: str, folds: int, seed: int) -> None:
    data = arrays(y)
    valid = []
    for fold in range(folds):
        parts = divide(data, folds=folds, fold=fold, origin=origin, seed=seed)
        check_division(y, parts)
        valid.append(rows(parts.valid))
    assert sorted(sum(valid, [])) == list(range(len(y)))
    assert np.ptp([len(part) for part in valid]) <= 1
    if origin in ("stratified", "auto"):
        counts = np.array([np.bincount(y[part], minlength=5) for part in valid])
        assert np.all(np.ptp(counts, axis=0) <= 1)


def test_folds_of_first_and_last_are_contiguous_from_that_end() -> None:
    assert rows(divide(EVEN, folds=3, fold=0, origin="first").valid) == list(range(34))
    assert rows(divide(EVEN, folds=3, fold=2, origin="first").valid) == list(range(67, 100))
    assert rows(divide(EVEN, folds=4, fold=0, origin="last").valid) == list(range(75, 100))


@pytest.mark.parametrize("origin", ["random", "stratified"])
def test_only_the_seed_decides(origin: str) -> None:
    kinds: list[dict[str, Any]] = [{"size": 20}, {"folds": 5, "fold": 2}]
    for kind in kinds:
        np.random.seed(1)
        first = rows(divide(EVEN, **kind, origin=origin, seed=3).valid)
        np.random.seed(2)
        assert rows(divide(EVEN, **kind, origin=origin, seed=3).valid) == first
        assert rows(divide(EVEN, **kind, origin=origin, seed=4).valid) != first
        changed = arrays(EVEN.y_train)
        object.__setattr__(changed, "x_train", EVEN.x_train[::-1])
        assert rows(divide(changed, **kind, origin=origin, seed=3).valid) == first, "the samples play no part"


def test_golden_split() -> None:
    assert rows(divide(arrays(np.arange(20) % 2), size=4).valid) == [0, 3, 14, 19]
    assert rows(divide(arrays(np.arange(20) % 2), size=4, origin="random").valid) == [0, 4, 6, 14]


def test_grouped_data_is_shuffled_once_by_the_seed_of_the_split() -> None:
    y = np.repeat([0, 1, 2, 3, 4], 20)
    first = divide(arrays(y, grouped=True), size=30, origin="first")
    assert sorted(rows(first.valid) + rows(first.train)) == list(range(100))
    assert len(set(y[rows(first.valid)])) == 5, "the first 30 in the order of the file are one class and a half"
    assert rows(first.train) != sorted(rows(first.train))
    last = divide(arrays(y, grouped=True), size=70, origin="last")
    assert rows(last.train) == rows(first.valid), "both see the same shuffled order"
    assert rows(divide(arrays(y, grouped=True), size=30, origin="first", seed=1).valid) != rows(first.valid)
    everything = divide(arrays(y, grouped=True))
    assert rows(everything.train) == rows(first.valid) + rows(first.train)
    some = divide(arrays(y, grouped=True), classes=[0, 4])
    assert rows(some.train) == [row for row in rows(everything.train) if y[row] in (0, 4)]
    stratified = divide(arrays(y, grouped=True), size=10)
    assert np.bincount(y[rows(stratified.valid)]).tolist() == [2] * 5
    order = rows(everything.train)
    assert rows(stratified.train) == sorted(rows(stratified.train), key=order.index)


def test_limit_takes_the_first_of_the_training_part() -> None:
    whole, limited = divide(EVEN, size=20), divide(EVEN, size=20, limit=7)
    assert rows(limited.train) == rows(whole.train)[:7]
    assert rows(limited.valid) == rows(whole.valid)
    assert rows(divide(EVEN, size=20, limit=1000).train) == rows(whole.train)
    with pytest.raises(DataError, match="limit: 0 samples"):
        divide(EVEN, limit=0)


def test_classes_keeps_and_renumbers_in_the_given_order() -> None:
    data = arrays([0, 1, 2, 3, 4, 3, 1], test=[3, 0, 1])
    for classes in ([3, 1], ["dog", "bird"], (3, "bird")):
        parts = divide(data, classes=classes)
        assert parts.classes == ("dog", "bird")
        assert rows(parts.train) == [1, 3, 5, 6]
        assert parts.train.y.tolist() == [-1, 1, -1, 0, -1, 0, 1] and parts.train.y.dtype == np.int64
        assert parts.test is not None and rows(parts.test) == [0, 2] and parts.test.y.tolist() == [0, -1, 1]
    assert data.y_train.tolist() == [0, 1, 2, 3, 4, 3, 1], "the arrays stay as they are"


def test_classes_may_be_grouped() -> None:
    data = arrays([0, 1, 2, 3, 4, 3, 1])
    parts = divide(data, classes={"animal": [1, "cat", 3], "vehicle": "rest"})
    assert parts.classes == ("animal", "vehicle")
    assert parts.train.y[parts.train.index].tolist() == [1, 0, 0, 0, 1, 0, 0]
    parts = divide(data, classes={"other": "rest", "dogs": "dog"})
    assert parts.classes == ("other", "dogs")
    assert parts.train.y.tolist() == [0, 0, 0, 1, 0, 1, 0]
    parts = divide(data, classes={"birds": [1], "dogs": ["dog"]})
    assert parts.classes == ("birds", "dogs") and rows(parts.train) == [1, 3, 5, 6]


def test_classes_come_before_the_split_and_the_limit() -> None:
    parts = divide(EVEN, classes=[2, 4], size=10, origin="first", limit=5)
    assert rows(parts.valid) == [2, 4, 7, 9, 12, 14, 17, 19, 22, 24]
    assert rows(parts.train) == [27, 29, 32, 34, 37]


def test_a_test_split_without_the_chosen_classes_is_none() -> None:
    assert divide(arrays([0, 1, 2], test=[2, 2]), classes=[0, 1]).test is None


@pytest.mark.parametrize(
    ("classes", "said"),
    [
        ([], "the list is empty"),
        ([5], "there is no class 5; indices go from 0 to 4"),
        ([-1], "there is no class -1"),
        (["birds"], r"there is no class 'birds'; did you mean 'bird'\?"),
        ([1, 2, 1], "the class 'bird' is named twice"),
        ([1, "bird"], "the class 'bird' is named twice"),
        ({"a": [1], "b": [2, "bird"]}, "the class 'bird' is named twice"),
        ({"a": [1], "b": []}, "the group 'b' is empty"),
        ({"a": "rest", "b": "rest"}, "two groups take 'rest'"),
        ({"a": [0, 1, 2, 3, 4], "b": "rest"}, "nothing is left for 'rest'"),
        ({"a": [0], "b": "rset"}, "there is no class 'rset'"),
        ([True], "True is neither the index nor the name"),
        ([1.5], "1.5 is neither the index nor the name"),
        ([0, 4], "'boat' has no training samples"),
    ],
)
def test_classes_that_cannot_be(classes: Any, said: str) -> None:
    with pytest.raises(DataError, match=f"classes: .*{said}"):
        divide(arrays([0, 1, 2, 3]), classes=classes)


def test_a_number_that_could_be_a_name_is_asked_about() -> None:
    data = arrays([0, 1, 2], names=("1", "2", "3"))
    with pytest.raises(DataError, match=r"1 could mean the class '2', .* write the name in quotes, as in \['1'\]"):
        divide(data, classes=[1])
    assert divide(data, classes=["1"]).classes == ("1",)
    assert divide(arrays([0, 1, 2], names=("0", "1", "2")), classes=[1]).classes == ("1",)


def test_a_regression_has_no_classes() -> None:
    with pytest.raises(DataError, match="is a regression and has no classes"):
        divide(REGRESSION, classes=[0])


@pytest.mark.parametrize(
    ("holdout", "said"),
    [
        ({"size": 100}, "size 100 of 100 training samples leaves none to train on"),
        ({"size": 5000}, "size 5,000 of 100 training samples leaves none"),
        ({"fraction": 0.999}, r"fraction 0\.999 of 100 training samples leaves none"),
        ({"fraction": 0.001}, r"fraction 0\.001 of 100 training samples is less than one sample"),
        ({"folds": 101, "fold": 0}, "100 training samples cannot be divided into 101 folds"),
        ({"size": 0}, "size 0 cannot be"),
        ({"fraction": 0.0}, "must lie between 0 and 1"),
        ({"fraction": 1.0}, "must lie between 0 and 1"),
        ({"folds": 1, "fold": 0}, "1 folds cannot be"),
        ({"folds": 5, "fold": 5}, "there is no fold 5"),
        ({"folds": 5, "fold": -1}, "there is no fold -1"),
        ({"folds": 5}, "'folds' and 'fold' belong together"),
        ({"size": 5, "fold": 1}, "'folds' and 'fold' belong together"),
        ({"size": 5, "fraction": 0.5}, "exactly one of 'size', 'fraction' and 'folds'"),
        ({"seed": 1}, "exactly one of 'size', 'fraction' and 'folds'"),
    ],
)
def test_holdouts_that_cannot_be(holdout: dict[str, Any], said: str) -> None:
    with pytest.raises(DataError, match=f"validation: .*{said}"):
        divide(EVEN, **holdout)


def test_classes_too_small_to_stratify() -> None:
    data = arrays([0] * 20 + [3])
    with pytest.raises(DataError, match=r"the class 'dog' has too few samples \(1\): .* needs 2 or more; use 'from: r"):
        divide(data, size=5)
    assert len(rows(divide(data, size=5, origin="random").valid)) == 5
    data = arrays([0] * 20 + [3] * 4)
    with pytest.raises(DataError, match=r"'dog' has too few samples \(4\): .* needs 5 or more"):
        divide(data, folds=5, fold=0)
    with pytest.raises(DataError, match=r"'dog' has too few samples \(4\): .* would leave none of them to train on"):
        divide(data, size=23)
    assert divide(data, folds=4, fold=0).valid is not None


def test_the_names_of_dropped_classes_never_reach_a_part() -> None:
    parts = divide(EVEN, classes=[0, 1], size=4)
    for split in (parts.train, parts.valid):
        assert split is not None and split.y[split.index].min() >= 0
        assert len(split) == len(split.index)
    assert splits.REST == "rest"
