from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score, mean_absolute_error, mean_squared_error, r2_score
from torch import Tensor

from dnntrain.parts.metrics import metrics


def measured(name: str, outputs: Tensor, targets: Tensor, cuts: list[int] | None = None) -> float:
    metric = metrics.choose(name).build()
    edges = sorted({0, len(targets), *(cuts or [])})
    spans = list(zip(edges, edges[1:], strict=False))
    sums = sum(metric.sums(outputs[a:b], targets[a:b]).double() for a, b in spans)
    value: float = metric.value(sums, len(targets))
    return value


def values(n: int, k: int, seed: int = 0) -> Tensor:
    return torch.randn(n, k, generator=torch.Generator().manual_seed(seed))


def case(kind: str) -> tuple[str, Tensor, Tensor, float]:
    """A metric's name, 40 outputs, 40 targets, and what scikit-learn says."""
    if kind == "accuracy of classes":
        z, y = values(40, 5), torch.from_numpy(np.random.default_rng(0).integers(0, 5, 40))
        return "accuracy", z, y, accuracy_score(y, z.argmax(1))
    if kind == "accuracy of one logit":
        z, y = values(40, 1), torch.from_numpy(np.random.default_rng(0).integers(0, 2, 40))
        return "accuracy", z, y, accuracy_score(y, (1 / (1 + np.exp(-z.numpy()[:, 0])) > 0.5).astype(int))
    name, outputs = kind.split(" of ")
    z, y = values(40, int(outputs), 1), 3 * values(40, int(outputs), 2) + 1
    reference = {"mae": mean_absolute_error, "mse": mean_squared_error, "r2": r2_score}[name]
    return name, z, y, float(reference(y.double(), z.double()))


KINDS = ["accuracy of classes", "accuracy of one logit"] + [f"{m} of {k}" for m in ("mae", "mse", "r2") for k in (1, 3)]


def test_every_metric_has_a_reference() -> None:
    assert {kind.split(" of ")[0] for kind in KINDS} == set(metrics.names())


@pytest.mark.parametrize("kind", KINDS)
def test_figures_agree_with_scikit_learn(kind: str) -> None:
    name, z, y, expected = case(kind)
    assert measured(name, z, y) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=20, deadline=None)
@given(cuts=st.lists(st.integers(1, 39), max_size=8))
def test_any_cut_into_batches_gives_the_same_figure(kind: str, cuts: list[int]) -> None:
    name, z, y, _ = case(kind)
    assert measured(name, z, y, cuts) == pytest.approx(measured(name, z, y), rel=1e-6)


@pytest.mark.parametrize(("name", "mode"), [("accuracy", "max"), ("mae", "min"), ("mse", "min"), ("r2", "max")])
def test_which_way_is_better(name: str, mode: str) -> None:
    assert metrics[name].traits["mode"] == mode
    assert metrics[name].traits["targets"] == ("classes" if name == "accuracy" else "values")


def test_r2_of_a_perfect_model_and_of_the_mean() -> None:
    y = values(50, 1)
    assert measured("r2", y, y) == 1.0
    assert measured("r2", y.mean().expand(50, 1), y) == pytest.approx(0.0, abs=1e-6)


@pytest.mark.parametrize("level", [0.0, 0.1, 3.14159, 1e6])
def test_r2_is_zero_where_the_targets_do_not_vary(level: float) -> None:
    # Sums over many equal numbers do not cancel to the last digit, which must not pass for variation.
    y = torch.full((50_003, 1), level)
    z = y + values(50_003, 1)
    assert measured("r2", z, y, list(range(640, 50_003, 640))) == 0.0


def test_r2_is_right_for_targets_far_from_zero() -> None:
    y = 1000 + values(400, 1).double()
    z = y + 0.5 * values(400, 1, 1)
    assert measured("r2", z, y) == pytest.approx(r2_score(y, z), rel=1e-6)


def test_sums_over_many_samples_keep_their_digits() -> None:
    y = torch.zeros(3_000_000, 1)
    assert measured("mae", y + 0.1, y) == pytest.approx(float(np.float32(0.1)), rel=1e-9)
