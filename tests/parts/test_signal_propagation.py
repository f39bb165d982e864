"""Signals and gradients through many layers: what initializers promise of activations, measured and computed.

The mean-field limit of wide layers: where the inputs of a layer of fan_in = fan_out have the mean square m, and its
weights the variance s / fan_in, a unit's sum is normal with variance q = s m, so that its outputs have the mean square
E[phi(sqrt(q) x)^2] with x ~ N(0, 1). The mean square of a gradient is multiplied by s E[phi'(sqrt(q) x)^2].
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from activation_references import FORMULAS, Function, written_name
from torch import Tensor, nn

from dnntrain.parts.activations import activations, learn_channels
from dnntrain.parts.initializers import fans_of, initializers

WIDTH, DEPTH, SAMPLES = 1000, 20, 64

# s of the schemes, in layers as wide as their inputs.
SCALES = {"glorot_normal": 1.0, "he_normal": 2.0, "lecun_normal": 1.0}

NODES, WEIGHTS = np.polynomial.hermite_e.hermegauss(200)
WEIGHTS = WEIGHTS / WEIGHTS.sum()

AUTO = [
    (written, value, slope, activations[written_name(written)].traits["initializer"])
    for written, value, slope in FORMULAS
    if isinstance(written, str)
]
NAMES = [row[0] for row in AUTO]


def expectation(function: Function, q: float) -> float:
    """Return E[function(sqrt(q) x)^2] by Gauss-Hermite quadrature."""
    return float((WEIGHTS * function(np.sqrt(q) * NODES) ** 2).sum())


def mean_field(value: Function, scale: float, depth: int = DEPTH) -> list[float]:
    """Return the mean square of the outputs of each layer, for inputs of mean square 1."""
    squares = [1.0]
    for _ in range(depth):
        squares.append(expectation(value, scale * squares[-1]))
    return squares[1:]


@cache
def weights(initializer: str, width: int = WIDTH, depth: int = DEPTH) -> Tensor:
    drawn = torch.empty(depth, width, width)
    generator, choice = torch.Generator().manual_seed(0), initializers.choose(initializer)
    for weight in drawn:
        choice.build(weight=weight, fans=fans_of(weight.shape, "dense"), generator=generator)
    return drawn


@pytest.fixture(scope="module", autouse=True)
def forget_weights() -> Iterator[None]:
    """Give the memory of a hundred million weights back."""
    yield
    weights.cache_clear()


def inputs(width: int = WIDTH, samples: int = SAMPLES) -> Tensor:
    return torch.randn(samples, width, generator=torch.Generator().manual_seed(1))


def forward(initializer: str, activation: nn.Module, x: Tensor, width: int = WIDTH, depth: int = DEPTH) -> list[Tensor]:
    """Return the outputs of each layer of a plain network without biases."""
    outputs = []
    for weight in weights(initializer, width, depth):
        x = activation(x @ weight.T)
        outputs.append(x)
    return outputs


def made(written: Any) -> nn.Module:
    layer: nn.Module = activations.choose(written).build()
    return layer.eval()


@pytest.mark.parametrize(
    ("activation", "initializer"),
    [("identity", "glorot_normal"), ("relu", "he_normal"), ("selu", "lecun_normal")],
)
def test_matched_pairs_keep_the_variance_through_twenty_layers(activation: str, initializer: str) -> None:
    with torch.no_grad():
        outputs = forward(initializer, made(activation), inputs())
    assert len(outputs) == 20
    for out in outputs:
        assert 0.5 <= out.var().item() <= 2
        assert 0.5 <= out.square().mean().item() <= 2


@pytest.mark.parametrize(("written", "value", "_slope", "initializer"), AUTO, ids=NAMES)
def test_with_its_auto_initializer_it_follows_the_mean_field(
    written: str, value: Function, _slope: Function, initializer: str
) -> None:
    # Samples that go through one network share its luck, which the layers pile up. With signs of its own on the
    # columns of every weight, which is as likely a draw, each sample has a network of its own, at the price of one.
    x, generator = inputs(), torch.Generator().manual_seed(3)
    squares = [x.square().mean(1).double().numpy()]
    with torch.no_grad():
        for weight in weights(initializer):
            signs = torch.randint(0, 2, x.shape, generator=generator) * 2 - 1
            x = made(written)((x * signs) @ weight.T)
            squares.append(x.square().mean(1).double().numpy())
    scale = SCALES[initializer]
    # Where signals shrink ever faster (gelu, swish, mish), so does what a finite width moves, hence the median sample
    # and the wide tolerance here; from one layer to the next, the integral is met closely.
    medians = [np.median(each) for each in squares[1:]]
    np.testing.assert_allclose(np.log(medians), np.log(mean_field(value, scale)), atol=0.2)
    steps = [each / [expectation(value, scale * m) for m in before] for before, each in pairwise(squares)]
    np.testing.assert_allclose(np.mean(steps, axis=1), 1, atol=0.03)
    assert np.mean(steps) == pytest.approx(1, abs=0.005)


NARROW, LAYERS, NETWORKS = 256, 6, 256


@pytest.mark.parametrize("initializer", SCALES)
@pytest.mark.parametrize(("written", "value", "_slope"), FORMULAS, ids=[str(row[0]) for row in FORMULAS])
def test_every_pair_follows_the_mean_field(written: Any, value: Function, _slope: Function, initializer: str) -> None:
    x, generator = inputs(NARROW, NETWORKS), torch.Generator().manual_seed(3)
    squares = [x.square().mean(1).double().numpy()]
    layer = made(written)
    learn_channels(layer, x)
    with torch.no_grad():
        for weight in weights(initializer, NARROW, LAYERS):
            signs = torch.randint(0, 2, x.shape, generator=generator) * 2 - 1
            x = layer((x * signs) @ weight.T)
            squares.append(x.square().mean(1).double().numpy())
    scale = SCALES[initializer]
    # Layer by layer: the integral for the mean square that each sample really has in front of the layer.
    for before, after in pairwise(squares):
        ratio = after / [expectation(value, scale * m) for m in before]
        assert np.mean(ratio) == pytest.approx(1, abs=0.06)
    # And through all layers at once, from the mean square of the inputs alone.
    through = mean_field(value, scale, LAYERS)[-1]
    assert np.log(np.median(squares[-1])) == pytest.approx(np.log(through), abs=0.15)


def test_a_softmax_of_many_channels_leaves_next_to_no_signal() -> None:
    # With C channels and q = 1: E[exp(2 z)] / (C E[exp(z)])^2 = e / C^2, then exp(q) / C^2 with q all but 0.
    with torch.no_grad():
        outputs = forward("glorot_normal", made("softmax"), inputs())
    assert outputs[0].square().mean().item() == pytest.approx(np.e / WIDTH**2, rel=0.03)
    assert outputs[-1].square().mean().item() == pytest.approx(1 / WIDTH**2, rel=0.01)
    assert outputs[-1].std(dim=0).max().item() < 1e-6 / WIDTH, "samples can be told apart"


@pytest.mark.parametrize(
    ("activation", "remains"),
    [("relu", 1.0), ("elu", 6.8), ("mish", 0.11), ("gelu", 1.4e-3), ("swish", 1.1e-5), ("hardswish", 5.4e-6)],
)
def test_what_the_docstring_of_he_says(activation: str, remains: float) -> None:
    value = next(row[1] for row in AUTO if row[0] == activation)
    assert mean_field(value, 2.0)[-1] == pytest.approx(remains, rel=0.05)


def test_a_small_signal_is_halved_by_swish_and_he_at_each_layer() -> None:
    value = next(row[1] for row in AUTO if row[0] == "swish")
    assert expectation(value, 2e-6) == pytest.approx(0.5e-6, rel=1e-4)


def test_rrelu_in_training_follows_the_mean_field_of_its_random_slopes() -> None:
    with torch.no_grad():
        out = forward("he_normal", made("rrelu").train(), inputs())[0]
    low, high = 1 / 8, 1 / 3
    slope_square = (low**2 + low * high + high**2) / 3
    assert out.square().mean().item() == pytest.approx(1 + slope_square, rel=0.03)


def test_sigmoid_saturates_under_normal_weights_of_deviation_one() -> None:
    with torch.no_grad():
        wild = forward("normal", made("sigmoid"), inputs(samples=16), depth=5)[-1]
        tame = forward("glorot_normal", made("sigmoid"), inputs(samples=16))[-1]

    def saturated(out: Tensor) -> float:
        return ((out < 0.01) | (out > 0.99)).double().mean().item()

    # A unit's sum has the deviation sqrt(1000 E[phi^2]), about 22; beyond 4.6 a sigmoid is within 0.01 of an end.
    assert saturated(wild) > 0.75
    assert saturated(tame) == 0


def gradients(initializer: str, activation: nn.Module) -> list[float]:
    """Return the mean square of the gradient with respect to each layer's sums, from the first layer to the last."""
    x, sums = inputs(samples=16), []
    for weight in weights(initializer):
        z = x @ weight.T
        z.requires_grad_()
        z.retain_grad()
        sums.append(z)
        x = activation(z)
    (x * torch.randn(x.shape, generator=torch.Generator().manual_seed(2))).sum().backward()
    return [z.grad.double().square().mean().item() for z in sums if z.grad is not None]


def test_gradients_vanish_through_sigmoids_under_glorot() -> None:
    squares = gradients("glorot_normal", made("sigmoid"))
    assert len(squares) == DEPTH
    value, slope = next((row[1], row[2]) for row in AUTO if row[0] == "sigmoid")
    forward_squares = [1.0, *mean_field(value, 1.0)]
    # Between the first and the last layer's sums lie the slopes of all layers but the last.
    expected = np.prod([expectation(slope, q) for q in forward_squares[: DEPTH - 1]])
    assert squares[0] / squares[-1] < 1e-20
    assert np.log(squares[0] / squares[-1]) == pytest.approx(np.log(expected), abs=0.5)
    assert expectation(slope, forward_squares[-1]) == pytest.approx(1 / 18, rel=0.02), "as its docstring says"


def test_gradients_pass_through_relus_under_he() -> None:
    squares = gradients("he_normal", made("relu"))
    assert 0.5 < squares[0] / squares[-1] < 2


@pytest.mark.parametrize(("mean", "deviation"), [(0.0, 1.0), (0.3, 1.4)])
def test_selu_keeps_mean_zero_and_variance_one_through_fifty_layers(mean: float, deviation: float) -> None:
    x = mean + deviation * inputs(width=500)
    with torch.no_grad():
        outputs = forward("lecun_normal", made("selu"), x, width=500, depth=50)
    assert len(outputs) == 50
    for out in outputs[5:]:
        assert out.mean().item() == pytest.approx(0, abs=0.1)
        assert out.var().item() == pytest.approx(1, abs=0.25)
