from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from sklearn.datasets import load_diabetes, load_digits

from dnntrain.parts.datasets import Decoded, datasets

Decode = Callable[..., Decoded]


def test_digits_are_all_there_in_file_order(decoded: Decode) -> None:
    digits = decoded("digits")
    assert digits.x_train.shape == (1438, 1, 8, 8)
    assert digits.x_test is not None and digits.x_test.shape == (359, 1, 8, 8)
    assert digits.x_train.dtype == np.uint8 and digits.y_train.dtype == np.int64
    assert (digits.layout, digits.full_scale, digits.grouped) == ("pictures", 16.0, False)
    assert digits.x_train.max() == 16
    assert digits.classes == tuple("0123456789")
    # Walking through the original, each sample is the next of one of the two parts.
    original, trained = load_digits(), 0
    for picture, label in zip(original.images, original.target, strict=True):
        if trained < 1438 and np.array_equal(digits.x_train[trained, 0], picture):
            assert digits.y_train[trained] == label
            trained += 1
    assert trained == 1438


def test_the_test_split_of_digits_is_stratified_and_fixed(decoded: Decode) -> None:
    digits = decoded("digits")
    assert digits.y_test is not None
    shares = np.bincount(load_digits().target) * 359 / 1797
    assert np.all(np.abs(np.bincount(digits.y_test) - shares) < 1)
    assert digits.y_test[:12].tolist() == [8, 9, 0, 5, 6, 7, 6, 9, 7, 2, 2, 0]


def test_diabetes_is_a_regression_in_its_own_units(decoded: Decode) -> None:
    diabetes = decoded("diabetes")
    raw = load_diabetes(scaled=False)
    assert diabetes.classes is None and diabetes.layout == "features"
    assert diabetes.x_test is not None and diabetes.y_test is not None
    assert diabetes.x_train.shape == (354, 10) and diabetes.x_test.shape == (88, 10)
    assert diabetes.x_train.dtype == diabetes.y_train.dtype == np.float32
    assert diabetes.feature_names == tuple(raw.feature_names)
    both = np.concatenate([diabetes.x_train, diabetes.x_test])
    assert np.allclose(both.mean(axis=0), raw.data.mean(axis=0), rtol=1e-5)
    assert np.isclose(np.concatenate([diabetes.y_train, diabetes.y_test]).mean(), raw.target.mean(), rtol=1e-5)
    assert diabetes.y_test[:4].tolist() == [110.0, 310.0, 68.0, 202.0]


@pytest.mark.parametrize("name", ["digits", "diabetes"])
def test_the_version_of_scikit_learn_is_part_of_the_key(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    before = datasets[name].factory().key
    monkeypatch.setattr("importlib.metadata.version", lambda package: "0.0.1")
    assert datasets[name].factory().key != before
