"""Figures of each class, calibration and residuals, beside scikit-learn and the equations written out."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from sklearn.metrics import brier_score_loss, confusion_matrix, log_loss, precision_recall_fscore_support

from dnntrain.trained.figures import BINS, calibration, classified, residuals

NAMES = ("a", "b", "c", "d")


def outputs(n: int = 300, classes: int = 4) -> tuple[torch.Tensor, torch.Tensor]:
    draws = torch.Generator().manual_seed(1)
    logits = 2 * torch.randn(n, classes, generator=draws)
    targets = torch.where(
        torch.rand(n, generator=draws) < 0.6, logits.argmax(1), torch.randint(classes, (n,), generator=draws)
    )
    return logits.double().softmax(1), targets


def test_each_class_as_scikit_learn_has_it() -> None:
    probabilities, targets = outputs()
    found = classified(probabilities, targets, NAMES)
    expected = precision_recall_fscore_support(targets, probabilities.argmax(1))
    mine = [[each.precision, each.recall, each.f1, each.support] for each in found.classes]
    np.testing.assert_allclose(np.array(mine, dtype=float), np.array(expected).T)
    assert [each.name for each in found.classes] == list(NAMES)
    assert found.confusion == confusion_matrix(targets, probabilities.argmax(1)).tolist()
    for average, row in (("macro", found.macro), ("weighted", found.weighted)):
        *rates, _ = precision_recall_fscore_support(targets, probabilities.argmax(1), average=average)
        np.testing.assert_allclose([row.precision, row.recall, row.f1], rates)
        assert row.support == 300


def test_a_class_that_is_neither_there_nor_predicted_has_no_figures() -> None:
    probabilities = torch.tensor([[0.9, 0.1, 0.0], [0.8, 0.2, 0.0], [0.7, 0.3, 0.0]])
    found = classified(probabilities, torch.tensor([0, 0, 1]), ("a", "b", "c"))
    assert (found.classes[2].precision, found.classes[2].recall, found.classes[2].f1) == (None, None, None)
    assert (found.classes[1].precision, found.classes[1].recall, found.classes[1].f1) == (0.0, 0.0, 0.0)
    assert found.macro.recall == pytest.approx(0.5)


def test_calibration_is_the_sum_over_bins_of_the_equation() -> None:
    probabilities, targets = outputs()
    found = calibration(probabilities, targets)
    error = 0.0
    rows = [(float(p.max()), int(p.argmax()) == int(y)) for p, y in zip(probabilities, targets, strict=True)]
    for b in range(BINS):
        inside = [(c, hit) for c, hit in rows if b / BINS < c <= (b + 1) / BINS]
        assert found.bins[b].samples == len(inside)
        if inside:
            confidence = sum(c for c, _ in inside) / len(inside)
            accuracy = sum(hit for _, hit in inside) / len(inside)
            assert found.bins[b].confidence == pytest.approx(confidence)
            assert found.bins[b].accuracy == pytest.approx(accuracy)
            error += len(inside) / len(rows) * abs(accuracy - confidence)
        else:
            assert (found.bins[b].confidence, found.bins[b].accuracy) == (None, None)
    assert found.error == pytest.approx(error)
    assert found.nll == pytest.approx(log_loss(targets, probabilities))
    brier = sum(
        ((k == int(y)) - float(p[k])) ** 2 for p, y in zip(probabilities, targets, strict=True) for k in range(4)
    )
    assert found.brier == pytest.approx(brier / 300)


def test_the_brier_score_of_two_classes_is_twice_that_of_one() -> None:
    probabilities, targets = outputs(classes=2)
    assert calibration(probabilities, targets).brier == pytest.approx(
        2 * brier_score_loss(targets, probabilities[:, 1])
    )


@pytest.mark.parametrize(("sure", "error"), [(1.0, 0.0), (0.8, 0.2)])
def test_certainty_that_is_right_and_certainty_that_is_too_low(sure: float, error: float) -> None:
    probabilities = torch.tensor([[sure, 1 - sure]] * 7)
    found = calibration(probabilities, torch.zeros(7, dtype=torch.int64))
    assert found.error == pytest.approx(error, abs=1e-6)
    assert found.bins[-1].samples == (7 if sure == 1.0 else 0)


def test_numbers_that_are_none_are_told_as_such() -> None:
    found = calibration(torch.tensor([[math.nan, math.nan], [0.5, 0.5]]), torch.tensor([0, 1]))
    assert math.isnan(found.error)
    assert math.isnan(found.brier)


def test_residuals_of_each_output() -> None:
    rng = np.random.default_rng(0)
    y, z = rng.normal(size=(101, 2)), rng.normal(size=(101, 2)) * [1, 3]
    for k, row in enumerate(residuals(torch.tensor(z), torch.tensor(y))):
        each = z[:, k] - y[:, k]
        assert row.output == k
        assert row.mean == pytest.approx(each.mean())
        assert row.deviation == pytest.approx(each.std())
        assert row.mae == pytest.approx(np.abs(each).mean())
        assert row.rmse == pytest.approx(np.sqrt((each**2).mean()))
        # At 101 values, the quantiles are values themselves.
        np.testing.assert_allclose(row.quantiles, np.quantile(np.abs(each), [0.5, 0.9, 0.99]))
        assert row.largest == np.abs(each).max()


def test_a_bin_holds_its_upper_edge_and_not_its_lower_one() -> None:
    found = calibration(torch.tensor([[0.6, 0.4]], dtype=torch.float64), torch.tensor([0]))
    assert [each.samples for each in found.bins].index(1) == 8
    assert found.bins[8].high == 0.6
