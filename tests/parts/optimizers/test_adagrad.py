"""Adagrad, Adadelta and RMSprop beside torch's and Keras's."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import optimizer_references as references
import pytest
import torch
from torch import nn

from dnntrain.parts.optimizers import optimizers

START = [1.0, -0.5, 1e-4]
CURVATURE = np.array([1.0, 4.0, 0.3])


def descend(
    name: str, options: dict[str, Any], steps: int = 30, lr: Callable[[int], float] | None = None
) -> np.ndarray:
    w = nn.Parameter(torch.tensor(START, dtype=torch.float64))
    optimizer = optimizers.choose({"name": name, **options}).build(groups=[{"params": [w]}])
    for t in range(steps):
        if lr is not None:
            optimizer.param_groups[0]["lr"] = lr(t)
        w.grad = w.detach() * torch.from_numpy(CURVATURE)
        optimizer.step()
    return w.detach().numpy()


def refer(step: references.Step, steps: int = 30) -> np.ndarray:
    w = [np.array(START)]
    for _ in range(steps):
        w = step(w, [CURVATURE * w[0]])
    return w[0]


def test_adagrad_starts_at_zero_where_keras_starts_at_a_tenth() -> None:
    keras = references.adagrad_keras(lr=0.1, start=0.1, eps=1e-7)
    first = np.array(START) - descend("adagrad", {"lr": 0.1}, steps=1)
    assert np.abs(first) == pytest.approx([0.1] * 3, rel=1e-4), "the first step has the same length everywhere"
    held_back = np.array(START) - refer(keras, steps=1)
    assert abs(held_back[2]) < 1e-4, "Keras's accumulator holds back the step along a small gradient"
    keras = references.adagrad_keras(lr=0.1, start=0.1, eps=1e-7)
    same = descend("adagrad", {"lr": 0.1, "initial_accumulator_value": 0.1, "eps": 1e-12})
    np.testing.assert_allclose(same, refer(keras), rtol=1e-5)


def test_adagrads_eps_stands_outside_the_root_and_keras_inside() -> None:
    outside = descend("adagrad", {"lr": 0.1, "eps": 1e-2}, steps=1)
    inside = refer(references.adagrad_keras(lr=0.1, start=0.0, eps=1e-2), steps=1)
    gradient = CURVATURE * np.array(START)
    np.testing.assert_allclose(np.array(START) - outside, 0.1 * gradient / (np.abs(gradient) + 1e-2), rtol=1e-9)
    np.testing.assert_allclose(np.array(START) - inside, 0.1 * gradient / np.sqrt(gradient**2 + 1e-2), rtol=1e-9)
    assert abs(outside[2] - inside[2]) > 1e-5


def test_lr_decay_of_torchs_adagrad_is_the_schedule_power() -> None:
    w = nn.Parameter(torch.tensor(START, dtype=torch.float64))
    torchs = torch.optim.Adagrad([w], lr=0.1, lr_decay=0.25)
    for _ in range(20):
        w.grad = w.detach() * torch.from_numpy(CURVATURE)
        torchs.step()
    ours = descend("adagrad", {}, steps=20, lr=lambda t: 0.1 / (1 + t / 4))
    np.testing.assert_allclose(ours, w.detach().numpy(), rtol=1e-12)


def test_adadelta_is_the_same_everywhere_but_for_defaults() -> None:
    keras = references.adadelta(lr=0.001, rho=0.95, eps=1e-7)
    np.testing.assert_allclose(descend("adadelta", {"lr": 0.001, "rho": 0.95, "eps": 1e-7}), refer(keras), rtol=1e-12)
    assert np.abs(np.array(START) - refer(keras)).max() < 1e-4, "with Keras's lr it hardly moves"


@pytest.mark.parametrize("centered", [False, True])
@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_rmsprops_eps_stands_outside_the_root_and_keras_inside(centered: bool, momentum: float) -> None:
    options = {"lr": 0.01, "alpha": 0.9, "momentum": momentum, "centered": centered}
    rest = {"rho": 0.9, "momentum": momentum, "centered": centered}
    tiny = descend("rmsprop", {**options, "eps": 1e-14}, steps=5)
    also = refer(references.rmsprop_keras(lr=lambda t: 0.01, eps=1e-28, **rest), steps=5)
    np.testing.assert_allclose(tiny, also, rtol=1e-6)
    ours = descend("rmsprop", {**options, "eps": 1e-3}, steps=5)
    keras = refer(references.rmsprop_keras(lr=lambda t: 0.01, eps=1e-3, **rest), steps=5)
    assert abs(ours[2] - keras[2]) > 1e-4


def test_rmsprops_rate_multiplies_the_velocity_and_keras_what_goes_into_it() -> None:
    def lr(t: int) -> float:
        return 0.01 if t < 10 else 0.001

    def moved(after: np.ndarray, before: np.ndarray) -> np.ndarray:
        return np.abs(after - before)

    def keras(steps: int) -> np.ndarray:
        return refer(references.rmsprop_keras(lr=lr, rho=0.99, eps=1e-28, momentum=0.9, centered=False), steps)

    def ours(steps: int) -> np.ndarray:
        return descend("rmsprop", {"momentum": 0.9, "eps": 1e-14}, steps, lr)

    np.testing.assert_allclose(ours(10), keras(10), rtol=1e-5)
    assert (moved(ours(11), ours(10)) < 0.3 * moved(keras(11), keras(10))).all()


@pytest.mark.parametrize(
    ("name", "torchs", "options"),
    [
        ("adadelta", torch.optim.Adadelta, {"lr": 0.7, "rho": 0.8, "eps": 1e-4}),
        ("rmsprop", torch.optim.RMSprop, {"lr": 0.02}),
        ("rmsprop", torch.optim.RMSprop, {"lr": 0.02, "alpha": 0.9, "momentum": 0.6, "centered": True}),
    ],
)
def test_what_is_written_here_is_torchs(name: str, torchs: Any, options: dict[str, Any]) -> None:
    mine, theirs = (nn.Parameter(torch.linspace(-2, 2, 9, dtype=torch.float64)) for _ in range(2))
    ours, other = (
        optimizers.choose({"name": name, **options}).build(groups=[{"params": [mine]}]),
        torchs([theirs], **options),
    )
    draws = torch.Generator().manual_seed(0)
    for _ in range(60):
        mine.grad = torch.randn(9, dtype=torch.float64, generator=draws)
        theirs.grad = mine.grad.clone()
        ours.step()
        other.step()
    torch.testing.assert_close(mine, theirs, rtol=1e-12, atol=1e-14)


def test_a_steady_gradient_leaves_the_centered_form_finite() -> None:
    steady = torch.rand(5000, generator=torch.Generator().manual_seed(0))

    def train(optimizer: torch.optim.Optimizer, w: nn.Parameter) -> torch.Tensor:
        for _ in range(1600):
            w.grad = steady
            optimizer.step()
        return w.detach()

    mine, theirs = nn.Parameter(torch.zeros(5000)), nn.Parameter(torch.zeros(5000))
    ours = optimizers.choose({"name": "rmsprop", "centered": True}).build(groups=[{"params": [mine]}])
    assert train(ours, mine).isfinite().all()
    assert train(torch.optim.RMSprop([theirs], centered=True), theirs).isnan().any(), "torch has mended it: so can we"


@pytest.mark.parametrize("momenta", [(0.9, 0.0, 0.5, 0.9), (0.0, 0.9, 0.5)])
def test_a_schedule_may_take_the_momentum_to_zero_and_back(momenta: tuple[float, ...]) -> None:
    w = nn.Parameter(torch.tensor(START, dtype=torch.float64))
    optimizer = optimizers.choose("rmsprop").build(groups=[{"params": [w]}])
    expected, velocity, square = np.array(START), np.zeros(3), np.zeros(3)
    for t, momentum in enumerate(momenta):
        optimizer.param_groups[0]["momentum"] = momentum
        w.grad = w.detach() * torch.from_numpy(CURVATURE)
        optimizer.step()
        gradient = CURVATURE * expected
        square = 0.99 * square + 0.01 * gradient**2
        move = gradient / (np.sqrt(square) + 1e-8)
        velocity = momentum * velocity + move
        expected = expected - 0.01 * velocity
        if momentum == 0.0 and t == 0:
            velocity = np.zeros(3)  # a velocity is kept from the first step with momentum on
    np.testing.assert_allclose(w.detach().numpy(), expected, rtol=1e-9)
