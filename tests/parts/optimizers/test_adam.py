"""Adam and its kin beside Keras's, and what sets each of them apart."""

from __future__ import annotations

from typing import Any

import numpy as np
import optimizer_references as references
import pytest
import torch
from torch import nn

from dnntrain.parts.optimizers import optimizers

BETAS = (0.9, 0.999)


def fed(name: str, options: dict[str, Any], gradients: list[list[float]]) -> np.ndarray:
    """Start at zero and take a step for each gradient."""
    w = nn.Parameter(torch.zeros(len(gradients[0]), dtype=torch.float64))
    optimizer = optimizers.choose({"name": name, **options}).build(groups=[{"params": [w]}])
    for gradient in gradients:
        w.grad = torch.tensor(gradient, dtype=torch.float64)
        optimizer.step()
    return w.detach().numpy()


def refer(step: references.Step, gradients: list[list[float]]) -> np.ndarray:
    w = [np.zeros(len(gradients[0]))]
    for gradient in gradients:
        w = step(w, [np.array(gradient)])
    return w[0]


GRADIENTS = [[0.1, 1e-3], [0.3, -2e-3], [-0.2, 1e-3], [0.1, 1e-3], [0.4, 5e-4]]


def test_adams_eps_weighs_less_than_keras_in_the_first_steps() -> None:
    lr, eps = 0.1, 1e-2
    np.testing.assert_allclose(fed("adam", {"lr": lr, "eps": eps}, [[0.5]]), [-lr * 0.5 / (0.5 + eps)], rtol=1e-12)
    # The first correction is 1 / sqrt(1 - 0.999) = 31.6, and Keras's eps is as many times as heavy.
    heavier = eps / np.sqrt(1 - BETAS[1])
    assert heavier / eps == pytest.approx(31.6, rel=1e-3)
    keras = refer(references.adam_keras(lr=lr, betas=BETAS, eps=eps), [[0.5]])
    np.testing.assert_allclose(keras, [-lr * 0.5 / (0.5 + heavier)], rtol=1e-12)
    np.testing.assert_allclose(keras, fed("adam", {"lr": lr, "eps": heavier}, [[0.5]]), rtol=1e-12)


@pytest.mark.parametrize("name", ["adam", "adamw"])
def test_without_eps_keras_is_the_same(name: str) -> None:
    options = {"lr": 0.1, "eps": 1e-15} | ({"weight_decay": 0.0} if name == "adamw" else {})
    keras = refer(references.adam_keras(lr=0.1, betas=BETAS, eps=1e-15), GRADIENTS)
    np.testing.assert_allclose(fed(name, options, GRADIENTS), keras, rtol=1e-9)


def test_amsgrad_remembers_the_largest_gradient() -> None:
    burst = [[0.1], [10.0], *[[0.1]] * 40]
    options = {"lr": 0.1, "betas": [0.0, 0.5]}
    plain = fed("adam", options, burst) - fed("adam", options, burst[:-1])
    careful = fed("adam", {**options, "amsgrad": True}, burst) - fed("adam", {**options, "amsgrad": True}, burst[:-1])
    assert plain[0] == pytest.approx(-0.1, rel=1e-3), "the burst is forgotten"
    assert careful[0] == pytest.approx(-0.1 * 0.1 / np.sqrt(50.0), rel=1e-2), "the burst is remembered"


def test_adam_has_no_decay_that_adds_to_the_gradient() -> None:
    for name in ("adam", "adamax", "sgd", "rmsprop", "adagrad", "adadelta"):
        assert "weight_decay" not in optimizers[name].options.model_fields


def test_adamaxs_eps_fades_with_the_maximum_and_keras_is_added_to_it() -> None:
    lr, eps = 0.1, 0.5
    np.testing.assert_allclose(fed("adamax", {"lr": lr, "eps": eps}, [[1.0]]), [-lr / (1.0 + eps)], rtol=1e-12)
    # A large gradient, then none: u = beta2 (|g| + eps) here, beta2 |g| + eps in Keras.
    gradients = [[1.0], [0.0]]
    second = fed("adamax", {"lr": lr, "eps": eps}, gradients) - fed("adamax", {"lr": lr, "eps": eps}, gradients[:1])
    m_hat = 0.9 * 0.1 / (1 - 0.81)
    np.testing.assert_allclose(second, [-lr * m_hat / (0.999 * 1.5)], rtol=1e-12)
    keras = references.adamax_keras(lr=lr, betas=BETAS, eps=eps)
    both = refer(keras, gradients) - refer(references.adamax_keras(lr=lr, betas=BETAS, eps=eps), gradients[:1])
    np.testing.assert_allclose(both, [-lr * m_hat / (0.999 + 0.5)], rtol=1e-12)
    same = refer(references.adamax_keras(lr=lr, betas=BETAS, eps=1e-15), GRADIENTS)
    np.testing.assert_allclose(fed("adamax", {"lr": lr, "eps": 1e-15}, GRADIENTS), same, rtol=1e-9)
