from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from dnntrain.errors import DataError
from dnntrain.parts.losses import losses

COUNTS = torch.tensor([6, 3, 0, 1])
BALANCED = [10 / (4 * 6), 10 / (4 * 3), 10 / 4, 10 / 4]


def loss(written: Any, counts: Tensor = COUNTS) -> nn.Module:
    made: nn.Module = losses.choose(written).build(class_counts=counts)
    return made


def logits(n: int, k: int, *, seed: int = 0, scale: float = 3.0) -> np.ndarray:
    return np.random.default_rng(seed).normal(scale=scale, size=(n, k))


def labels(n: int, k: int, *, seed: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, k, size=n)


def reference(z: np.ndarray, y: np.ndarray, weights: Any) -> float:
    log_sum = np.log(np.exp(z).sum(axis=1))
    return float(np.mean(np.asarray(weights)[y] * (log_sum - z[np.arange(len(y)), y])))


@pytest.mark.parametrize(
    ("written", "weights"),
    [
        ("cross_entropy", [1, 1, 1, 1]),
        ({"name": "cross_entropy", "class_weights": "none"}, [1, 1, 1, 1]),
        ({"name": "cross_entropy", "class_weights": "balanced"}, BALANCED),
        ({"name": "cross_entropy", "class_weights": [1, 0.5, 2, 4.0]}, [1, 0.5, 2, 4]),
    ],
    ids=str,
)
def test_cross_entropy_is_the_mean_weighted_surprise(written: Any, weights: list[float]) -> None:
    z, y = logits(20, 4), labels(20, 4)
    outputs = torch.from_numpy(z).requires_grad_()
    value = loss(written).double()(outputs, torch.from_numpy(y))
    assert value.item() == pytest.approx(reference(z, y, weights), rel=1e-7)

    value.backward()
    softmax = np.exp(z) / np.exp(z).sum(axis=1, keepdims=True)
    slope = np.asarray(weights)[y][:, None] * (softmax - np.eye(4)[y]) / 20
    np.testing.assert_allclose(outputs.grad.numpy(), slope, rtol=1e-6, atol=1e-9)


def test_balanced_weights_give_each_class_the_same_share() -> None:
    counts = torch.tensor([70, 20, 10])
    y = torch.repeat_interleave(torch.arange(3), counts)
    shares = [
        loss({"name": "cross_entropy", "class_weights": "balanced"}, counts)(torch.zeros(len(y), 3)[y == k], y[y == k])
        * counts[k]
        for k in range(3)
    ]
    torch.testing.assert_close(shares[0], shares[1])
    torch.testing.assert_close(shares[0], shares[2])


def test_a_list_of_the_wrong_length_is_explained() -> None:
    with pytest.raises(DataError, match=r"loss\.class_weights has 3 entries, but the data has 4 classes"):
        loss({"name": "cross_entropy", "class_weights": [1.0, 2.0, 3.0]})


def test_binary_cross_entropy_of_one_logit() -> None:
    z, y = logits(30, 1), labels(30, 2)
    outputs = torch.from_numpy(z).requires_grad_()
    value = loss("binary_cross_entropy")(outputs, torch.from_numpy(y))
    p = 1 / (1 + np.exp(-z[:, 0]))
    assert value.item() == pytest.approx(-np.mean(y * np.log(p) + (1 - y) * np.log(1 - p)), rel=1e-12)
    value.backward()
    np.testing.assert_allclose(outputs.grad.numpy()[:, 0], (p - y) / 30, rtol=1e-9)


def test_binary_cross_entropy_equals_cross_entropy_of_two_logits() -> None:
    z, y = torch.from_numpy(logits(30, 1)), torch.from_numpy(labels(30, 2))
    both = torch.cat([torch.zeros_like(z), z], dim=1)
    torch.testing.assert_close(loss("binary_cross_entropy")(z, y), loss("cross_entropy")(both, y))


@pytest.mark.parametrize("outputs", [1, 3])
def test_mse_is_the_mean_over_samples_and_outputs(outputs: int) -> None:
    z, y = logits(20, outputs), logits(20, outputs, seed=9)
    value = loss("mse")(torch.from_numpy(z), torch.from_numpy(y))
    assert value.item() == pytest.approx(((z - y) ** 2).sum() / (20 * outputs), rel=1e-12)


def test_sure_and_wrong_logits_do_not_overflow() -> None:
    assert loss("cross_entropy", torch.ones(2))(torch.tensor([[1e4, -1e4]]), torch.tensor([1])).item() == 2e4
    assert loss("binary_cross_entropy")(torch.tensor([[1e4]]), torch.tensor([0])).item() == 1e4
    assert loss("binary_cross_entropy")(torch.tensor([[-1e4]]), torch.tensor([0])).item() == 0.0


WRITTEN = [
    "cross_entropy",
    {"name": "cross_entropy", "class_weights": "balanced"},
    {"name": "cross_entropy", "class_weights": [1.0, 5.0, 0.1, 2.0]},
    "binary_cross_entropy",
    "mse",
]


def test_additivity_is_checked_for_every_loss() -> None:
    assert {each if isinstance(each, str) else each["name"] for each in WRITTEN} == set(losses.names())


@pytest.mark.parametrize("written", WRITTEN, ids=str)
@settings(max_examples=20, deadline=None)
@given(cuts=st.lists(st.integers(1, 23), max_size=6))
def test_batches_add_up_to_the_whole(written: Any, cuts: list[int]) -> None:
    choice = losses.choose(written)
    targets = choice.entry.traits["targets"]
    z = torch.from_numpy(logits(24, 1 if targets == "binary" else 4))
    y = torch.from_numpy(logits(24, 4, seed=3) if targets == "values" else labels(24, 2 if targets == "binary" else 4))
    measure = loss(written).double()
    edges = sorted({0, 24, *cuts})
    pieces = [(measure(z[a:b], y[a:b]), b - a) for a, b in zip(edges, edges[1:], strict=False)]
    whole = sum(value * size for value, size in pieces) / 24
    torch.testing.assert_close(whole, measure(z, y), rtol=1e-12, atol=1e-12)
