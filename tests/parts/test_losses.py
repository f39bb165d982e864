from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import hinge_loss, log_loss
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


def smoothed(y: np.ndarray, k: int, share: float) -> np.ndarray:
    """The distribution that smoothed labels stand for, written out."""
    q = np.full((len(y), k), share / k)
    q[np.arange(len(y)), y] += 1 - share
    return q


def surprise(z: np.ndarray, q: np.ndarray, weights: Any = 1.0) -> float:
    log_p = z - np.log(np.exp(z).sum(axis=1, keepdims=True))
    return float(np.mean(-(np.asarray(weights) * q * log_p).sum(axis=1)))


@pytest.mark.parametrize("share", [0.0, 0.1, 0.7])
@pytest.mark.parametrize("weights", [None, [1, 0.5, 2, 4.0]], ids=str)
@pytest.mark.parametrize("soft", [False, True], ids=["indices", "probabilities"])
def test_label_smoothing_spreads_the_target_over_all_classes(share: float, weights: Any, soft: bool) -> None:
    z, y = logits(20, 4), labels(20, 4)
    written = {"name": "cross_entropy", "label_smoothing": share, "class_weights": weights or "none"}
    targets = torch.from_numpy(np.eye(4, dtype=np.float32)[y] if soft else y)
    value = loss(written).double()(torch.from_numpy(z), targets)
    assert value.item() == pytest.approx(surprise(z, smoothed(y, 4, share), weights or 1.0), rel=1e-7)


def test_smoothed_labels_ask_for_a_finite_gap() -> None:
    # The minimum over logits is where softmax equals the smoothed target: a gap of log((1 - 3 s / 4) / (s / 4)).
    share = 0.2
    gap = np.log((1 - 0.75 * share) / (share / 4))
    z = torch.tensor([[gap, 0.0, 0.0, 0.0]], dtype=torch.float64, requires_grad=True)
    loss({"name": "cross_entropy", "label_smoothing": share})(z, torch.tensor([0])).backward()
    torch.testing.assert_close(z.grad, torch.zeros_like(z), atol=1e-12, rtol=0.0)


@pytest.mark.parametrize("share", [0.0, 0.1])
@pytest.mark.parametrize("weights", [None, [1, 0.5, 2, 4.0]], ids=str)
def test_cross_entropy_takes_probabilities(share: float, weights: Any) -> None:
    z, y = logits(20, 4), labels(20, 4)
    q = np.random.default_rng(5).dirichlet(np.ones(4), 20)
    written = {"name": "cross_entropy", "label_smoothing": share, "class_weights": weights or "none"}
    value = loss(written).double()(torch.from_numpy(z), torch.from_numpy(q))
    assert value.item() == pytest.approx(surprise(z, (1 - share) * q + share / 4, weights or 1.0), rel=1e-7)
    assert surprise(z, q) != pytest.approx(reference(z, y, np.ones(4)))


def test_unsmoothed_cross_entropy_agrees_with_scikit_learn() -> None:
    z, y = logits(50, 4), labels(50, 4)
    p = np.exp(z) / np.exp(z).sum(axis=1, keepdims=True)
    value = loss("cross_entropy")(torch.from_numpy(z), torch.from_numpy(y))
    assert value.item() == pytest.approx(log_loss(y, p, labels=range(4)), rel=1e-12)


@pytest.mark.parametrize("share", [0.0, 0.1])
@pytest.mark.parametrize("weight", [1.0, 3.0])
def test_binary_cross_entropy_with_smoothing_and_a_weight(share: float, weight: float) -> None:
    z, y = logits(30, 1), labels(30, 2)
    p = 1 / (1 + np.exp(-z[:, 0]))
    q = (1 - share) * y + share / 2
    written = {"name": "binary_cross_entropy", "label_smoothing": share, "positive_weight": weight}
    value = loss(written)(torch.from_numpy(z), torch.from_numpy(y))
    assert value.item() == pytest.approx(-np.mean(weight * q * np.log(p) + (1 - q) * np.log(1 - p)), rel=1e-9)


def test_binary_cross_entropy_takes_the_probabilities_of_both_classes() -> None:
    z, q = torch.from_numpy(logits(30, 1)), torch.from_numpy(np.random.default_rng(5).dirichlet(np.ones(2), 30))
    both = torch.cat([torch.zeros_like(z), z], dim=1)
    written = {"label_smoothing": 0.1}
    torch.testing.assert_close(
        loss({"name": "binary_cross_entropy", **written})(z, q), loss({"name": "cross_entropy", **written})(both, q)
    )
    y = torch.from_numpy(labels(30, 2))
    torch.testing.assert_close(
        loss("binary_cross_entropy")(z, y.unsqueeze(1).double()), loss("binary_cross_entropy")(z, y)
    )


def test_hinge_of_many_classes_agrees_with_scikit_learn() -> None:
    z, y = logits(40, 5, scale=1.0), labels(40, 5)
    value = loss("hinge")(torch.from_numpy(z), torch.from_numpy(y))
    assert value.item() == pytest.approx(hinge_loss(y, z, labels=range(5)), rel=1e-12)


def test_hinge_of_two_classes_is_that_of_the_difference() -> None:
    z, y = logits(40, 2, scale=1.0), labels(40, 2)
    value = loss("hinge")(torch.from_numpy(z), torch.from_numpy(y))
    assert value.item() == pytest.approx(hinge_loss(y, z[:, 1] - z[:, 0]), rel=1e-12)


@pytest.mark.parametrize("margin", [0.5, 1.0, 2.0])
def test_hinge_by_hand(margin: float) -> None:
    z, y = logits(20, 4, scale=1.0), labels(20, 4)
    rows = [max(0.0, margin + max(np.delete(row, k)) - row[k]) for row, k in zip(z, y, strict=True)]
    measure = loss({"name": "hinge", "margin": margin})
    outputs = torch.from_numpy(z).requires_grad_()
    value = measure(outputs, torch.from_numpy(y))
    assert value.item() == pytest.approx(np.mean(rows), rel=1e-12)

    value.backward()
    slope = np.zeros_like(z)
    for i, (row, k) in enumerate(zip(z, y, strict=True)):
        rival = max((j for j in range(4) if j != k), key=lambda j: row[j])
        if rows[i] > 0:
            slope[i, rival], slope[i, k] = 1 / 20, -1 / 20
    np.testing.assert_allclose(outputs.grad.numpy(), slope, atol=1e-12)


def test_hinge_of_probabilities_is_the_expected_loss() -> None:
    z, measure = torch.from_numpy(logits(20, 4, scale=1.0)), loss("hinge")
    q = np.random.default_rng(5).dirichlet(np.ones(4), 20)
    each = np.array([[measure(z[i : i + 1], torch.tensor([k])).item() for k in range(4)] for i in range(20)])
    assert measure(z, torch.from_numpy(q)).item() == pytest.approx(np.mean((q * each).sum(axis=1)), rel=1e-12)


def test_hinge_counts_a_tied_rival() -> None:
    assert loss("hinge")(torch.tensor([[2.0, 2.0, 0.0]]), torch.tensor([0])).item() == 1.0


@pytest.mark.parametrize("outputs", [1, 3])
def test_mae_and_huber_are_means_over_samples_and_outputs(outputs: int) -> None:
    z, y = logits(20, outputs), logits(20, outputs, seed=9)
    d = np.abs(z - y)
    assert (d < 2).any() and (d > 2).any()
    value = loss("mae")(torch.from_numpy(z), torch.from_numpy(y))
    assert value.item() == pytest.approx(d.sum() / (20 * outputs), rel=1e-12)
    value = loss({"name": "huber", "delta": 2.0})(torch.from_numpy(z), torch.from_numpy(y))
    by_hand = sum(e * e / 2 if e <= 2 else 2 * (e - 1) for e in d.flatten())
    assert value.item() == pytest.approx(by_hand / (20 * outputs), rel=1e-12)


@pytest.mark.parametrize("name", ["cross_entropy", "binary_cross_entropy", "hinge"])
def test_logits_of_half_precision_are_measured_in_single(name: str) -> None:
    z = torch.from_numpy(logits(30, 1 if name.startswith("binary") else 4)).bfloat16()
    y = torch.from_numpy(labels(30, 2))
    value = loss(name)(z, y)
    assert value.dtype == torch.float32
    torch.testing.assert_close(value, loss(name)(z.float(), y), rtol=0.0, atol=0.0)


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
    {"name": "cross_entropy", "label_smoothing": 0.2, "class_weights": "balanced"},
    "binary_cross_entropy",
    {"name": "binary_cross_entropy", "label_smoothing": 0.2, "positive_weight": 2.0},
    "hinge",
    "mse",
    "mae",
    {"name": "huber", "delta": 0.5},
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
