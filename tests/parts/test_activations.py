from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from dnntrain.parts.activations import activations

# The constants of the paper, to the digits it gives.
ALPHA, SCALE = 1.6732632423543772848170429916717, 1.0507009873554804934193349852946

Function = Callable[[np.ndarray], np.ndarray]


def gate(z: np.ndarray, beta: float = 1.0) -> np.ndarray:
    return 1 / (1 + np.exp(-beta * z))


def swish_slope(z: np.ndarray, beta: float = 1.0) -> np.ndarray:
    return gate(z, beta) + beta * z * gate(z, beta) * (1 - gate(z, beta))


# Each row: what a file writes, the value, and the derivative, both written from the equation.
FORMULAS: list[tuple[Any, Function, Function]] = [
    ("identity", lambda z: z, np.ones_like),
    ("sigmoid", gate, lambda z: gate(z) * (1 - gate(z))),
    ("tanh", np.tanh, lambda z: 1 - np.tanh(z) ** 2),
    ("relu", lambda z: np.where(z > 0, z, 0.0), lambda z: np.where(z > 0, 1.0, 0.0)),
    ("swish", lambda z: z * gate(z), swish_slope),
    ({"name": "swish", "beta": 1.7}, lambda z: z * gate(z, 1.7), lambda z: swish_slope(z, 1.7)),
    (
        {"name": "swish", "beta": 0.3, "learnable": True},
        lambda z: z * gate(z, 0.3),
        lambda z: swish_slope(z, 0.3),
    ),
    (
        "selu",
        lambda z: SCALE * np.where(z > 0, z, ALPHA * np.expm1(z)),
        lambda z: SCALE * np.where(z > 0, 1.0, ALPHA * np.exp(z)),
    ),
]

INITIALIZERS = {
    "identity": "glorot_normal",
    "sigmoid": "glorot_normal",
    "tanh": "glorot_normal",
    "relu": "he_normal",
    "swish": "he_normal",
    "selu": "lecun_normal",
}


def written_name(written: Any) -> str:
    return written if isinstance(written, str) else str(written["name"])


def test_every_activation_has_a_row() -> None:
    assert {written_name(row[0]) for row in FORMULAS} == set(activations.names())


@pytest.mark.parametrize(("written", "value", "slope"), FORMULAS, ids=[str(row[0]) for row in FORMULAS])
def test_value_and_gradient_follow_the_formula(written: Any, value: Function, slope: Function) -> None:
    z = np.linspace(-9.0, 9.0, 181) + 0.013
    inputs = torch.from_numpy(z.copy()).reshape(181, 1).requires_grad_()
    layer = activations.choose(written).build().double()
    outputs = layer(inputs)
    assert outputs.shape == inputs.shape
    outputs.sum().backward()
    assert inputs.grad is not None
    # Swish keeps beta in float32 until its module is converted, which costs digits of a beta like 1.7.
    np.testing.assert_allclose(outputs.detach().numpy()[:, 0], value(z), rtol=2e-6, atol=1e-12)
    np.testing.assert_allclose(inputs.grad.numpy()[:, 0], slope(z), rtol=2e-6, atol=1e-7)


@pytest.mark.parametrize("entry", list(activations), ids=lambda entry: entry.name)
def test_large_inputs_give_finite_values_and_gradients(entry: Any) -> None:
    z = torch.tensor([-1e4, -100.0, 0.0, 100.0, 1e4], requires_grad=True)
    outputs = activations.choose(entry.example).build()(z)
    outputs.sum().backward()
    assert z.grad is not None
    assert outputs.isfinite().all()
    assert z.grad.isfinite().all()


def test_the_initializer_that_auto_picks() -> None:
    assert {entry.name: entry.traits["initializer"] for entry in activations} == INITIALIZERS


def test_a_learnable_beta_is_one_parameter_with_its_own_gradient() -> None:
    layer = activations.choose({"name": "swish", "beta": 0.8, "learnable": True}).build()
    ((name, beta),) = layer.named_parameters()
    assert (name, beta.shape, beta.item()) == ("beta", (), pytest.approx(0.8))
    z = torch.linspace(-3, 3, 13)
    layer(z).sum().backward()
    s = gate(z.double().numpy(), 0.8)
    assert beta.grad.item() == pytest.approx((z.double().numpy() ** 2 * s * (1 - s)).sum(), rel=1e-5)


def test_a_fixed_beta_is_no_parameter_and_not_in_a_checkpoint() -> None:
    for written in ("swish", {"name": "swish", "beta": 2.5}):
        layer = activations.choose(written).build()
        assert not list(layer.parameters())
        assert not layer.state_dict()


def test_a_steep_swish_is_relu_and_a_flat_one_is_half_the_line() -> None:
    z = torch.linspace(-5, 5, 101)
    steep = activations.choose({"name": "swish", "beta": 1e4}).build()
    flat = activations.choose({"name": "swish", "beta": 1e-6}).build()
    torch.testing.assert_close(steep(z), z.clamp(min=0), atol=1e-4, rtol=0)
    torch.testing.assert_close(flat(z), z / 2, atol=1e-4, rtol=0)


def test_selu_keeps_mean_zero_and_variance_one() -> None:
    z = torch.randn(1_000_000, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    outputs = activations.choose("selu").build()(z)
    assert outputs.mean().item() == pytest.approx(0, abs=5e-3)
    assert outputs.var().item() == pytest.approx(1, abs=1e-2)
