"""Small data sets that come with scikit-learn, so that a first experiment needs no download."""

from __future__ import annotations

from importlib import metadata

import numpy as np

from dnntrain.parts.datasets import sampling
from dnntrain.parts.datasets.base import Decoded, Source, datasets

_TEST_SEED = 0


@datasets.register(
    "digits",
    equation="1,797 pictures of 8 x 8, 10 classes, values 0..16",
    cite="Alpaydin and Kaynak (1998), Optical Recognition of Handwritten Digits, UCI repository",
)
def digits() -> Source:
    """Handwritten digits, small enough for seconds on a CPU; a fixed stratified fifth is the test split."""
    return Source(load=_decode_digits, key={"scikit-learn": metadata.version("scikit-learn")})


@datasets.register(
    "diabetes",
    equation="442 patients, 10 measurements, regression",
    cite="Efron, Hastie, Johnstone and Tibshirani (2004), Least Angle Regression",
)
def diabetes() -> Source:
    """Progression of a disease from ten measurements in their own units; a fixed random fifth is the test split."""
    return Source(load=_decode_diabetes, key={"scikit-learn": metadata.version("scikit-learn")})


def _decode_digits() -> Decoded:
    from sklearn.datasets import load_digits

    bunch = load_digits()
    x = bunch.images.astype(np.uint8)[:, np.newaxis]
    y = bunch.target.astype(np.int64)
    test = np.zeros(len(y), dtype=bool)
    test[sampling.stratified(y, len(y) // 5, _TEST_SEED, sampling.FIXED_TEST)] = True
    return Decoded(
        x_train=x[~test],
        y_train=y[~test],
        x_test=x[test],
        y_test=y[test],
        layout="pictures",
        classes=tuple(str(name) for name in bunch.target_names),
        full_scale=16.0,
    )


def _decode_diabetes() -> Decoded:
    from sklearn.datasets import load_diabetes

    # The scaled form was scaled with the statistics of all patients, the test split's among them.
    bunch = load_diabetes(scaled=False)
    x = bunch.data.astype(np.float32)
    y = bunch.target.astype(np.float32)
    test = np.zeros(len(y), dtype=bool)
    test[sampling.shuffled(len(y), _TEST_SEED, sampling.FIXED_TEST)[: len(y) // 5]] = True
    return Decoded(
        x_train=x[~test],
        y_train=y[~test],
        x_test=x[test],
        y_test=y[test],
        layout="features",
        classes=None,
        feature_names=tuple(bunch.feature_names),
    )
