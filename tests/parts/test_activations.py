from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from activation_references import FORMULAS, MIXING, Function, gate, written_name
from pydantic import ValidationError
from torch import nn
from torch.nn.parameter import UninitializedParameter

from dnntrain import build, spec
from dnntrain.parts.activations import activations, learn_channels

INITIALIZERS = {
    **dict.fromkeys(("identity", "sigmoid", "tanh", "softmax"), "glorot_normal"),
    **dict.fromkeys(("relu", "leaky_relu", "rrelu", "prelu", "relu6", "elu"), "he_normal"),
    **dict.fromkeys(("gelu", "swish", "mish", "softplus", "hardswish"), "he_normal"),
    "selu": "lecun_normal",
}


def made(written: Any) -> nn.Module:
    layer: nn.Module = activations.choose(written).build()
    return layer


def test_every_activation_has_a_row() -> None:
    assert {written_name(row[0]) for row in FORMULAS} | MIXING == set(activations.names())


@pytest.mark.parametrize(("written", "value", "slope"), FORMULAS, ids=[str(row[0]) for row in FORMULAS])
def test_value_and_gradient_follow_the_formula(written: Any, value: Function, slope: Function) -> None:
    z = np.linspace(-9.0, 9.0, 181) + 0.013
    inputs = torch.from_numpy(z.copy()).reshape(181, 1).requires_grad_()
    layer = made(written).double().eval()
    outputs = layer(inputs)
    assert outputs.shape == inputs.shape
    assert outputs.dtype == torch.float64
    outputs.sum().backward()
    assert inputs.grad is not None
    # Options such as beta are kept in float32 until their module is converted, which costs digits of 1.7 or 0.1.
    np.testing.assert_allclose(outputs.detach().numpy()[:, 0], value(z), rtol=2e-6, atol=1e-12)
    np.testing.assert_allclose(inputs.grad.numpy()[:, 0], slope(z), rtol=2e-6, atol=1e-7)


@pytest.mark.parametrize("shape", [(4, 6), (4, 6, 3), (4, 6, 3, 2)])
def test_softmax_shares_one_among_the_channels(shape: tuple[int, ...]) -> None:
    z = np.random.default_rng(1).normal(scale=3.0, size=shape)
    inputs = torch.from_numpy(z).requires_grad_()
    outputs = made("softmax")(inputs)
    expected = np.exp(z) / np.exp(z).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(outputs.detach().numpy(), expected, rtol=1e-12)

    # d p_c / d z_k = p_c (1[c = k] - p_k), so a cotangent v gives p (v - sum_c p_c v_c).
    v = np.random.default_rng(2).normal(size=shape)
    (outputs * torch.from_numpy(v)).sum().backward()
    assert inputs.grad is not None
    np.testing.assert_allclose(
        inputs.grad.numpy(), expected * (v - (expected * v).sum(axis=1, keepdims=True)), rtol=1e-9, atol=1e-14
    )


@pytest.mark.parametrize("entry", list(activations), ids=lambda entry: entry.name)
@pytest.mark.parametrize("shape", [(2, 3), (2, 3, 4), (2, 3, 4, 5)])
def test_the_shape_is_kept(entry: Any, shape: tuple[int, ...]) -> None:
    layer = made(entry.example)
    assert layer(torch.randn(shape)).shape == shape
    assert layer.eval()(torch.randn(shape)).shape == shape


@pytest.mark.parametrize("entry", list(activations), ids=lambda entry: entry.name)
def test_large_inputs_give_finite_values_and_gradients(entry: Any) -> None:
    z = torch.tensor([[-1e4, -100.0, 0.0, 100.0, 1e4]], requires_grad=True)
    outputs = made(entry.example)(z)
    outputs.sum().backward()
    assert z.grad is not None
    assert outputs.isfinite().all()
    assert z.grad.isfinite().all()


def test_the_initializer_that_auto_picks() -> None:
    assert {entry.name: entry.traits["initializer"] for entry in activations} == INITIALIZERS


def test_a_learnable_beta_is_one_parameter_with_its_own_gradient() -> None:
    layer = made({"name": "swish", "beta": 0.8, "learnable": True})
    ((name, beta),) = layer.named_parameters()
    assert (name, beta.shape, beta.item()) == ("beta", (), pytest.approx(0.8))
    z = torch.linspace(-3, 3, 13)
    layer(z).sum().backward()
    s = gate(z.double().numpy(), 0.8)
    assert beta.grad is not None
    assert beta.grad.item() == pytest.approx((z.double().numpy() ** 2 * s * (1 - s)).sum(), rel=1e-5)


def test_a_fixed_beta_is_no_parameter_and_not_in_a_checkpoint() -> None:
    for written in ("swish", {"name": "swish", "beta": 2.5}):
        layer = made(written)
        assert not list(layer.parameters())
        assert not layer.state_dict()


def test_a_steep_swish_is_relu_and_a_flat_one_is_half_the_line() -> None:
    z = torch.linspace(-5, 5, 101)
    torch.testing.assert_close(made({"name": "swish", "beta": 1e4})(z), z.clamp(min=0), atol=1e-4, rtol=0)
    torch.testing.assert_close(made({"name": "swish", "beta": 1e-6})(z), z / 2, atol=1e-4, rtol=0)


def test_the_tanh_form_of_gelu_is_as_near_as_it_says() -> None:
    z = torch.linspace(-8, 8, 10_001, dtype=torch.float64)
    distance = (made({"name": "gelu", "approximate": "tanh"})(z) - made("gelu")(z)).abs().max().item()
    assert 1e-4 < distance < 5e-4


def test_rrelu_draws_slopes_in_training_from_the_global_generator() -> None:
    layer, z = made({"name": "rrelu", "lower": 0.1, "upper": 0.4}), torch.full((1_000_000,), -2.0)
    outputs = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        outputs.append(layer(z))
    assert torch.equal(outputs[0], outputs[1])
    assert not torch.equal(outputs[0], outputs[2])
    slopes = (outputs[0] / -2.0).double()
    assert 0.1 <= slopes.min() < 0.1001
    assert 0.3999 < slopes.max() <= 0.4 + 1e-7
    assert slopes.mean().item() == pytest.approx(0.25, abs=5 * 0.3 / 12**0.5 / 1000)
    assert slopes.var().item() == pytest.approx(0.3**2 / 12, rel=0.01)
    torch.testing.assert_close(layer(-z), -z, rtol=0, atol=0)


@pytest.mark.parametrize("name", activations.names())
def test_every_activation_works_in_half_precision_on_the_cpu(name: str) -> None:
    z = torch.linspace(-3, 3, 12).reshape(3, 4)
    layer, half = made(name).eval(), z.half().requires_grad_()
    with torch.autocast("cpu", dtype=torch.float16):
        outputs = layer(half)
        layer.train()(z.half())
    torch.testing.assert_close(outputs.float(), layer.eval()(z), rtol=4e-3, atol=4e-3)
    outputs.float().sum().backward()
    assert half.grad is not None


def test_rrelu_is_fixed_in_evaluation() -> None:
    layer, z = made("rrelu").eval(), torch.randn(1000)
    before = torch.get_rng_state()
    assert torch.equal(layer(z), layer(z))
    assert torch.equal(torch.get_rng_state(), before)


def test_rrelu_with_its_bounds_exchanged_is_refused() -> None:
    with pytest.raises(ValidationError, match=r"lower is 0\.5 and upper 0\.2"):
        made({"name": "rrelu", "lower": 0.5, "upper": 0.2})


def test_the_slope_of_prelu_is_one_parameter_with_its_own_gradient() -> None:
    layer, z = made({"name": "prelu", "init": 0.1}), torch.randn(7, 3, 2)
    ((name, slope),) = layer.named_parameters()
    assert (name, slope.shape, slope.item()) == ("slope", (), pytest.approx(0.1))
    layer(z).sum().backward()
    assert slope.grad is not None
    assert slope.grad.item() == pytest.approx(z.clamp(max=0).sum().item(), rel=1e-5)


@pytest.mark.parametrize("shape", [(7, 3), (7, 3, 2), (7, 3, 2, 4)])
def test_per_channel_slopes_belong_to_dimension_one(shape: tuple[int, ...]) -> None:
    layer, z = made({"name": "prelu", "per_channel": True}), torch.randn(shape)
    learn_channels(layer, z)
    ((_, slope),) = layer.named_parameters()
    assert slope.tolist() == [0.25] * 3
    slope.data = torch.tensor([0.1, -0.5, 2.0])
    outputs = layer(z)
    for channel, each in enumerate(slope.tolist()):
        kept = z[:, channel]
        torch.testing.assert_close(outputs[:, channel], torch.where(kept > 0, kept, each * kept))
    outputs.sum().backward()
    others = [dim for dim in range(len(shape)) if dim != 1]
    torch.testing.assert_close(slope.grad, z.clamp(max=0).sum(others))


def test_learning_the_channels_changes_nothing_else() -> None:
    model = nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3), made({"name": "prelu", "per_channel": True}))
    model.append(nn.Dropout(0.5)).append(nn.Linear(3, 2)).append(made({"name": "prelu", "per_channel": True}))
    named = [*model.named_parameters(), *model.named_buffers()]
    state = {name: value.clone() for name, value in named if "slope" not in name}
    before, held = torch.get_rng_state(), list(model.parameters())
    learn_channels(model, torch.ones(1, 4))
    assert torch.equal(torch.get_rng_state(), before)
    assert model.training and all(module.training for module in model.modules())
    assert all(torch.equal(model.state_dict()[name], value) for name, value in state.items())
    assert [p.shape for p in (model[2].slope, model[5].slope)] == [(3,), (2,)]
    assert all(a is b for a, b in zip(held, model.parameters(), strict=True)), "an optimizer would hold another tensor"
    assert not any(isinstance(p, UninitializedParameter) for p in model.parameters())


def test_a_model_that_knows_its_channels_is_not_run() -> None:
    class Unrunnable(nn.Linear):
        def forward(self, input: torch.Tensor) -> torch.Tensor:
            raise AssertionError

    learn_channels(Unrunnable(2, 2), torch.zeros(1, 2))


def test_a_built_experiment_knows_its_channels_before_training() -> None:
    read = spec.loads(
        "data: {dataset: digits}\n"
        "model:\n"
        "  architecture: {name: mlp, hidden: [5, 4]}\n"
        "  activation: {name: prelu, per_channel: true}\n"
    )
    model = build.build_model(build.resolve(read, build.open_data(read)), (1, 8, 8), 10)
    slopes = [p for name, p in model.named_parameters() if name.endswith("slope")]
    assert [tuple(p.shape) for p in slopes] == [(5,), (4,)]
    assert model.training


def test_selu_keeps_mean_zero_and_variance_one() -> None:
    z = torch.randn(1_000_000, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    outputs = made("selu")(z)
    assert outputs.mean().item() == pytest.approx(0, abs=5e-3)
    assert outputs.var().item() == pytest.approx(1, abs=1e-2)


@pytest.mark.parametrize("beta", [0.5, 1.0, 3.0])
def test_softplus_returns_large_inputs_as_they_are_within_what_its_docstring_says(beta: float) -> None:
    z = torch.tensor([(20 + 1e-9) / beta], dtype=torch.float64)
    output = made({"name": "softplus", "beta": beta})(z)
    assert torch.equal(output, z)
    error = np.log1p(np.exp(-beta * z.item())) / beta
    assert 2.0e-9 / beta < error < 2.1e-9 / beta
    assert "within 2.1e-9 / beta" in (activations["softplus"].factory.__doc__ or "")
