from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from tinyparts import make_mlp
from torch import nn

from dnntrain.diagnostics.model_summary import count, summarize
from dnntrain.parts.normalizations import normalizations


def layer(features: int, **options: Any) -> nn.Module:
    made = normalizations.choose({"name": "batch", **options}).build()
    assert made.make is not None
    norm: nn.Module = made.make(features, 0)
    return norm.double()


def batches(k: int, size: int, features: int) -> list[np.ndarray]:
    draws = np.random.default_rng(5)
    return [draws.normal(loc=3.0, scale=[1.0, 2.0, 0.1][:features], size=(size, features)) for _ in range(k)]


def test_a_training_step_follows_the_four_steps_of_the_paper() -> None:
    norm = layer(3, eps=1e-3)
    gamma, beta = np.array([0.5, -2.0, 1.5]), np.array([0.1, 0.2, -0.3])
    norm.weight.data, norm.bias.data = torch.from_numpy(gamma), torch.from_numpy(beta)
    (x,) = batches(1, 10, 3)

    mean = x.sum(axis=0) / 10
    variance = ((x - mean) ** 2).sum(axis=0) / 10
    normalized = (x - mean) / np.sqrt(variance + 1e-3)
    expected = gamma * normalized + beta

    np.testing.assert_allclose(norm(torch.from_numpy(x)).detach().numpy(), expected, rtol=1e-12)


@pytest.mark.parametrize("momentum", [0.1, 0.35, 1.0])
def test_running_statistics_after_several_batches(momentum: float) -> None:
    norm = layer(3, momentum=momentum)
    mean, variance = np.zeros(3), np.ones(3)
    for x in batches(7, 5, 3):
        norm(torch.from_numpy(x))
        mean = (1 - momentum) * mean + momentum * x.mean(axis=0)
        variance = (1 - momentum) * variance + momentum * x.var(axis=0, ddof=1)  # unbiased, as PyTorch has it
    np.testing.assert_allclose(norm.running_mean.numpy(), mean, rtol=1e-12)
    np.testing.assert_allclose(norm.running_var.numpy(), variance, rtol=1e-12)

    norm.eval()
    (x,) = batches(1, 4, 3)
    expected = (x - mean) / np.sqrt(variance + 1e-5)
    np.testing.assert_allclose(norm(torch.from_numpy(x)).detach().numpy(), expected, rtol=1e-12)
    np.testing.assert_allclose(norm.running_mean.numpy(), mean, rtol=1e-12, err_msg="evaluation changed the statistics")


def test_a_feature_that_does_not_vary_becomes_beta() -> None:
    norm = layer(1)
    outputs = norm(torch.full((8, 1), 42.0, dtype=torch.float64))
    torch.testing.assert_close(outputs, torch.zeros_like(outputs), rtol=0, atol=1e-9)


def test_without_affine_there_is_nothing_to_learn() -> None:
    assert count(layer(3, affine=False)) == (0, 6)
    assert count(layer(3)) == (6, 6)


def test_parameters_of_the_textbooks_network() -> None:
    model = make_mlp((28, 28), 10, (300, 100), normalization={"name": "batch", "input": True})
    summary = summarize(model, (28, 28))
    norms = {row.name: (row.trainable, row.fixed) for row in summary.layers if "norm" in row.name}
    assert norms == {"input_norm": (1568, 1568), "norm1": (600, 600), "norm2": (200, 200)}
    assert [sum(both) for both in norms.values()] == [3136, 1200, 400]
    assert summary.fixed == 2368
    # Kernels 784 x 300, 300 x 100 and 100 x 10, a bias at the output alone, and half of the norms' parameters.
    assert summary.trainable == 235_200 + 30_000 + 1_000 + 10 + 2368


@pytest.mark.parametrize("position", ["before", "after"])
@pytest.mark.parametrize("affine", [True, False])
def test_a_bias_is_dropped_only_where_it_has_no_effect(position: str, affine: bool) -> None:
    model = make_mlp(normalization={"name": "batch", "position": position, "affine": affine})
    redundant = position == "before" and affine
    assert (model.dense1.bias is None) == (model.dense2.bias is None) == redundant
    assert model.output.bias is not None


def test_a_bias_before_batch_norm_really_has_no_effect() -> None:
    norm, x = layer(3), torch.from_numpy(batches(1, 9, 3)[0])
    torch.testing.assert_close(norm(x + torch.tensor([1.0, -7.0, 0.5])), norm(x), rtol=1e-9, atol=1e-9)


def test_position_decides_the_order_of_the_layers() -> None:
    before = list(dict(make_mlp(normalization={"name": "batch"}).named_children()))
    after = list(dict(make_mlp(normalization={"name": "batch", "position": "after"}).named_children()))
    assert before[1:4] == ["dense1", "norm1", "activation1"]
    assert after[1:4] == ["dense1", "activation1", "norm1"]


def test_input_puts_one_in_front_of_everything() -> None:
    model = make_mlp(
        (2, 3),
        normalization={"name": "batch", "input": True},
        dropout=({"name": "dropout", "rate": 0.1, "layers": "all"},),
    )
    assert list(dict(model.named_children()))[:3] == ["flatten", "input_norm", "input_dropout"]
    assert model.input_norm.num_features == 6
    assert model.dense1.bias is None


def test_none_builds_nothing() -> None:
    made = normalizations.choose(None).build()
    assert made.make is None
    assert not any(isinstance(m, nn.BatchNorm1d) for m in make_mlp().modules())
    assert not made.needs_batch
    assert normalizations.choose("batch").build().needs_batch
