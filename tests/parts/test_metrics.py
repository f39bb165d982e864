from __future__ import annotations

import inspect
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.calibration import calibration_curve
from sklearn.metrics import (
    accuracy_score,
    confusion_matrix,
    f1_score,
    mean_absolute_error,
    mean_squared_error,
    precision_score,
    r2_score,
    recall_score,
    top_k_accuracy_score,
)
from torch import Tensor

from dnntrain.errors import DataError
from dnntrain.parts.metrics import metrics


def measured(written: Any, outputs: Tensor, targets: Tensor, cuts: list[int] | None = None) -> Any:
    metric = metrics.choose(written).build(classes=max(2, outputs.shape[1]))
    edges = sorted({0, len(targets), *(cuts or [])})
    spans = list(zip(edges, edges[1:], strict=False))
    sums = sum(metric.sums(outputs[a:b], targets[a:b]).double() for a, b in spans)
    return metric.value(sums, len(targets))


def values(n: int, k: int, seed: int = 0) -> Tensor:
    return torch.randn(n, k, generator=torch.Generator().manual_seed(seed))


def labelled(logits: int, *, absent: int | None = None) -> tuple[Tensor, Tensor]:
    """40 outputs and labels that they are often right about; one class may neither be given nor occur."""
    classes = max(2, logits)
    y = torch.from_numpy(np.random.default_rng(0).integers(0, classes, 40))
    z = 2 * values(40, logits)
    if logits == 1:
        return z + 2.0 * (2 * y.unsqueeze(1) - 1), y
    z = z + 2.0 * torch.nn.functional.one_hot(y, classes)
    if absent is not None:
        y = torch.where(y == absent, 0, y)
        z[:, absent] = -100.0
    return z, y


def probabilities(z: Tensor) -> np.ndarray:
    z = torch.cat([torch.zeros_like(z), z], dim=1) if z.shape[1] == 1 else z
    p: np.ndarray = z.double().softmax(dim=1).numpy()
    return p


def calibration(z: Tensor, y: Tensor, bins: int) -> float:
    """Put scikit-learn's reliability curve together: how often the predicted class is right, by its probability."""
    p = probabilities(z)
    right, confidence = (p.argmax(axis=1) == y.numpy()).astype(int), p.max(axis=1)
    accuracies, confidences = calibration_curve(right, confidence, n_bins=bins)
    counts = np.histogram(confidence, bins=bins, range=(0, 1))[0]
    return float((counts[counts > 0] / len(y) * np.abs(accuracies - confidences)).sum())


SCORES = {"precision": precision_score, "recall": recall_score, "f1": f1_score}

Case = tuple[Any, Tensor, Tensor, Any]


def class_cases() -> dict[str, Case]:
    """What is measured, 40 outputs, 40 targets, and what scikit-learn says."""
    found: dict[str, Case] = {}
    for kind, (z, y) in {
        "5 classes": labelled(5),
        "one logit": labelled(1),
        "a class absent": labelled(5, absent=2),
    }.items():
        p = probabilities(z)
        guess, classes = p.argmax(axis=1), p.shape[1]
        found[f"accuracy of {kind}"] = "accuracy", z, y, accuracy_score(y, guess)
        found[f"confusion of {kind}"] = "confusion", z, y, confusion_matrix(y, guess, labels=range(classes)).tolist()
        for k in range(1, classes + 1 if classes == 2 else 4):
            expected = (
                top_k_accuracy_score(y, p, k=k, labels=range(5))
                if classes > 2
                else [accuracy_score(y, guess), 1.0][k - 1]
            )
            found[f"top_k {k} of {kind}"] = {"name": "top_k", "k": k}, z, y, expected
        for name, score in SCORES.items():
            for average in ("macro", "micro", "weighted", *(["binary"] if classes == 2 else [])):
                expected = score(y, guess, average=average, zero_division=0)
                found[f"{name} {average} of {kind}"] = {"name": name, "average": average}, z, y, float(expected)
        for bins in (1, 7, 15):
            written = {"name": "calibration_error", "bins": bins}
            found[f"calibration_error {bins} of {kind}"] = written, z, y, calibration(z, y, bins)
    return found


def value_cases() -> dict[str, Case]:
    found: dict[str, Case] = {}
    for name, reference in {"mae": mean_absolute_error, "mse": mean_squared_error, "r2": r2_score}.items():
        for k in (1, 3):
            z, y = values(40, k, 1), 3 * values(40, k, 2) + 1
            found[f"{name} of {k}"] = name, z, y, float(reference(y.double(), z.double()))
    return found


CASES = {**class_cases(), **value_cases()}


def test_every_metric_has_a_reference() -> None:
    assert {kind.split(" ")[0] for kind in CASES} == set(metrics.names())


@pytest.mark.parametrize("kind", CASES)
def test_figures_agree_with_scikit_learn(kind: str) -> None:
    written, z, y, expected = CASES[kind]
    assert measured(written, z, y) == (expected if isinstance(expected, list) else pytest.approx(expected, rel=1e-6))


@pytest.mark.parametrize("kind", CASES)
@settings(max_examples=8, deadline=None)
@given(cuts=st.lists(st.integers(1, 39), max_size=8))
def test_any_cut_into_batches_gives_the_same_figure(kind: str, cuts: list[int]) -> None:
    written, z, y, expected = CASES[kind]
    whole = measured(written, z, y)
    assert measured(written, z, y, cuts) == (whole if isinstance(expected, list) else pytest.approx(whole, rel=1e-6))


@pytest.mark.parametrize("kind", [kind for kind in CASES if kind.endswith("5 classes")])
def test_of_mixed_targets_the_likeliest_class_counts(kind: str) -> None:
    written, z, y, _ = CASES[kind]
    mixed = 0.6 * torch.nn.functional.one_hot(y, 5) + 0.4 * torch.nn.functional.one_hot((y + 1) % 5, 5)
    assert measured(written, z, mixed) == measured(written, z, y)


LARGER_IS_BETTER = {"accuracy", "top_k", "precision", "recall", "f1", "confusion", "r2"}


@pytest.mark.parametrize("name", metrics.names())
def test_which_way_is_better_and_what_it_is_for(name: str) -> None:
    traits = metrics[name].traits
    assert traits["mode"] == ("max" if name in LARGER_IS_BETTER else "min")
    assert traits["targets"] == ("values" if name in ("mae", "mse", "r2") else "classes")
    assert traits["scalar"] is (name != "confusion")


def test_classes_that_are_never_given_count_as_zero() -> None:
    z, y = torch.tensor([[9.0, 0, 0]] * 4), torch.tensor([0, 0, 1, 1])
    assert measured("precision", z, y) == 0.25
    assert measured("recall", z, y) == 0.5
    assert measured("f1", z, y) == pytest.approx((2 * 2 / 6) / 2)


@pytest.mark.parametrize("name", ["precision", "recall", "f1"])
def test_binary_averages_need_two_classes(name: str) -> None:
    with pytest.raises(DataError, match=f"metric '{name}' has average: binary, but there are 3 classes"):
        metrics.choose({"name": name, "average": "binary"}).build(classes=3)


def test_top_k_needs_as_many_classes() -> None:
    with pytest.raises(DataError, match="the 5 most likely classes, but there are 3; set a smaller k"):
        metrics.choose("top_k").build(classes=3)


def test_a_constant_guess_is_no_better_in_the_top_k() -> None:
    y = torch.arange(100) % 10
    assert measured({"name": "top_k", "k": 3}, torch.zeros(100, 10), y) == pytest.approx(0.3)


def test_a_calibrated_and_an_overconfident_model() -> None:
    draws = torch.Generator().manual_seed(0)
    z = 2 * torch.randn(200_000, 3, generator=draws)
    y = torch.multinomial(z.softmax(dim=1), 1, generator=draws).squeeze(1)
    assert measured("calibration_error", z, y) < 0.005
    assert measured("calibration_error", 4 * z, y) > 0.1


def test_confidences_at_an_edge_belong_to_the_bin_below() -> None:
    # Confidences 0.75 and 1.0 with 4 bins: the third and the fourth. Were 0.75 in the fourth, the errors would cancel.
    z = torch.tensor([[np.log(3.0), 0.0], [200.0, 0.0]], dtype=torch.float64)
    y = torch.tensor([0, 1])
    assert measured({"name": "calibration_error", "bins": 4}, z, y) == pytest.approx((0.25 + 1.0) / 2)
    assert measured({"name": "calibration_error", "bins": 1}, z, y) == pytest.approx((1.75 - 1.0) / 2)


@pytest.mark.parametrize("name", [name for name in metrics.names() if metrics[name].traits["targets"] == "classes"])
def test_outputs_that_are_not_numbers_do_not_stop_the_measuring(name: str) -> None:
    z, y = torch.full((6, 5), torch.nan), torch.arange(6) % 5
    figure = measured(name, z, y)
    if name == "calibration_error":
        assert np.isnan(figure)


def test_only_metrics_that_need_it_ask_for_the_number_of_classes() -> None:
    for entry in metrics:
        assert entry.runtime in ((), ("classes",))
        assert ("classes" in inspect.signature(entry.factory).parameters) == (entry.runtime == ("classes",))


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
