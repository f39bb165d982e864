from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from tinyparts import make_mlp

from dnntrain.parts.architectures import architectures


def names(**options: Any) -> list[str]:
    return list(dict(make_mlp(**options).named_children()))


def test_layers_are_named_and_ordered_as_they_are_applied() -> None:
    assert names(
        hidden=(5, 4),
        normalization={"name": "batch", "input": True},
        dropout=({"name": "dropout", "rate": 0.1, "layers": "all"},),
    ) == [
        *("flatten", "input_norm", "input_dropout"),
        *("dense1", "norm1", "activation1", "dropout1"),
        *("dense2", "norm2", "activation2", "dropout2"),
        "output",
    ]


def test_the_forward_pass_is_the_equation() -> None:
    model = make_mlp((2, 3), 4, (5, 3), activation="tanh").double()
    weights = {name: value.detach().numpy() for name, value in model.named_parameters()}
    draws = np.random.default_rng(0)
    for name, value in weights.items():
        if name.endswith("bias"):
            assert not value.any(), "biases start at zero"
            value[...] = draws.normal(size=value.shape)
    x = draws.normal(size=(7, 2, 3))

    h = x.reshape(7, 6)
    for i in (1, 2):
        h = np.tanh(h @ weights[f"dense{i}.weight"].T + weights[f"dense{i}.bias"])
    expected = h @ weights["output.weight"].T + weights["output.bias"]

    np.testing.assert_allclose(model(torch.from_numpy(x)).detach().numpy(), expected, rtol=1e-12)


@pytest.mark.parametrize("shape", [(6,), (2, 3), (1, 2, 3)])
@pytest.mark.parametrize("outputs", [1, 4])
def test_any_input_shape_becomes_logits(shape: tuple[int, ...], outputs: int) -> None:
    model = make_mlp(shape, outputs)
    assert model(torch.zeros(5, *shape)).shape == (5, outputs)
    assert model.dense1.in_features == math.prod(shape)


def test_without_hidden_layers_it_is_linear() -> None:
    assert names(hidden=()) == ["flatten", "output"]
    model, x = make_mlp(hidden=()), torch.randn(2, 6)
    torch.testing.assert_close(model(x[:1] + x[1:]), model(x[:1]) + model(x[1:]))


def test_a_mapping_equals_the_list_it_stands_for() -> None:
    listed, mapped = make_mlp(hidden=(4, 4, 4)), make_mlp(hidden={"layers": 3, "units": 4})
    assert str(listed) == str(mapped)
    for ours, theirs in zip(listed.parameters(), mapped.parameters(), strict=True):
        assert torch.equal(ours, theirs)


@pytest.mark.parametrize(
    ("hidden", "depth"), [([], 0), ([300], 1), ([300, 100], 2), ({"layers": 20, "units": 100}, 20)]
)
def test_depth_is_the_number_of_hidden_layers(hidden: Any, depth: int) -> None:
    choice = architectures.choose({"name": "mlp", "hidden": hidden})
    assert choice.entry.traits["depth"](choice.options) == depth


def test_hidden_and_output_layers_have_initializers_of_their_own() -> None:
    model = make_mlp((400,), 400, (500, 300), initializer="lecun_normal", output_initializer="he_normal")
    assert model.dense1.weight.var().item() == pytest.approx(1 / 400, rel=0.02)
    assert model.dense2.weight.var().item() == pytest.approx(1 / 500, rel=0.02)
    assert model.output.weight.var().item() == pytest.approx(2 / 300, rel=0.02)


def test_glorot_sees_both_fans_of_a_layer() -> None:
    model = make_mlp((1000,), 10, (200,), initializer="glorot_normal")
    assert model.dense1.weight.var().item() == pytest.approx(2 / 1200, rel=0.02)


def test_no_two_layers_share_their_weights() -> None:
    model = make_mlp((4,), 4, (4, 4))
    assert not torch.equal(model.dense1.weight, model.dense2.weight)


def test_each_layer_has_an_activation_of_its_own() -> None:
    model = make_mlp(hidden=(4, 4), activation={"name": "swish", "learnable": True})
    assert model.activation1.beta is not model.activation2.beta
    assert sum(1 for name, _ in model.named_parameters() if name.endswith("beta")) == 2
