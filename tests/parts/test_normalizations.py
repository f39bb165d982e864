from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from tinyparts import make_mlp
from torch import nn

from dnntrain.diagnostics.model_summary import count, summarize
from dnntrain.errors import UsageError
from dnntrain.parts.normalizations import Normalization, normalizations


def layer(features: int, **options: Any) -> nn.Module:
    made = normalizations.choose({"name": "batch", **options}).build()
    assert made.make is not None
    norm: nn.Module = made.make(features, 0)
    return norm.double()


EPS = {"batch": 1e-5, "layer": 1e-5, "rms": 1e-6, "group": 1e-5, "instance": 1e-5}
OTHERS = [("layer", {}), ("rms", {}), ("group", {"groups": 3}), ("group", {"groups": 1}), ("instance", {})]
SHAPES = [(5, 6), (5, 6, 4), (5, 6, 4, 3)]
FITTING = [
    (name, options, shape)
    for name, options in [("batch", {}), *OTHERS]
    for shape in SHAPES
    if name != "instance" or len(shape) > 2  # it needs positions
]


def normalize(name: str, options: dict[str, Any], z: np.ndarray, eps: float) -> np.ndarray:
    """Normalize (N, C, ...) as the equations have it, without gamma and beta."""
    positions = tuple(range(2, z.ndim))
    if name == "rms":
        scaled: np.ndarray = z / np.sqrt((z**2).mean(axis=1, keepdims=True) + eps)
        return scaled
    if name == "group":
        parts = z.reshape(len(z), options["groups"], -1)
        centred = parts - parts.mean(axis=2, keepdims=True)
        grouped: np.ndarray = centred / np.sqrt((centred**2).mean(axis=2, keepdims=True) + eps)
        return grouped.reshape(z.shape)
    axes = {"layer": (1,), "instance": positions, "batch": (0, *positions)}[name]
    centred = z - z.mean(axis=axes, keepdims=True)
    standardized: np.ndarray = centred / np.sqrt((centred**2).mean(axis=axes, keepdims=True) + eps)
    return standardized


def build_norm(name: str, options: dict[str, Any], features: int, dims: int) -> nn.Module:
    made: Normalization = normalizations.choose({"name": name, **options}).build()
    assert made.make is not None
    return made.make(features, dims)


def randomize(norm: nn.Module, shape: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Give a norm a gamma and a beta of its own, and return them, shaped to stand beside inputs."""
    draws = np.random.default_rng(3)
    gamma, beta = draws.normal(size=shape[1]), draws.normal(size=shape[1])
    norm.weight.data = torch.from_numpy(gamma.copy())
    if getattr(norm, "bias", None) is not None:
        norm.bias.data = torch.from_numpy(beta.copy())
    else:
        beta = np.zeros_like(beta)
    aside = (1, -1, *(1,) * (len(shape) - 2))
    return gamma.reshape(aside), beta.reshape(aside)


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


def test_every_normalization_is_tested() -> None:
    assert {"none", "batch"} | {name for name, _ in OTHERS} == set(normalizations.names())
    assert set(EPS) == set(normalizations.names()) - {"none"}


@pytest.mark.parametrize(("name", "options", "shape"), FITTING, ids=str)
@pytest.mark.parametrize("affine", [True, False])
@pytest.mark.parametrize("eps", [None, 0.3])
def test_outputs_and_gradients_follow_the_equation(
    name: str, options: dict[str, Any], shape: tuple[int, ...], affine: bool, eps: float | None
) -> None:
    options = options | {"affine": affine} | ({} if eps is None else {"eps": eps})
    norm = build_norm(name, options, shape[1], len(shape) - 2).double()
    gamma, beta = randomize(norm, shape) if affine else (np.ones(1), np.zeros(1))
    assert affine or not list(norm.parameters())
    # Channels differ in size and place, so that it matters what is averaged over.
    draws, aside = np.random.default_rng(4), (1, -1, *(1,) * (len(shape) - 2))
    z = draws.normal(size=shape) * np.geomspace(0.1, 10, shape[1]).reshape(aside) + draws.normal(size=shape)

    inputs = torch.from_numpy(z).requires_grad_()
    outputs = norm(inputs)
    assert outputs.shape == inputs.shape

    def reference(at: np.ndarray) -> np.ndarray:
        return gamma * normalize(name, options, at, EPS[name] if eps is None else eps) + beta

    np.testing.assert_allclose(outputs.detach().numpy(), reference(z), rtol=1e-10, atol=1e-12)

    weights, direction = draws.normal(size=shape), draws.normal(size=shape)
    (outputs * torch.from_numpy(weights)).sum().backward()
    assert inputs.grad is not None
    h = 1e-6
    slope = ((reference(z + h * direction) - reference(z - h * direction)) * weights).sum() / (2 * h)
    assert (inputs.grad.numpy() * direction).sum() == pytest.approx(slope, rel=1e-5, abs=1e-6)


@pytest.mark.parametrize(("name", "options"), OTHERS, ids=str)
def test_all_but_batch_are_the_same_in_evaluation_and_for_a_sample_alone(name: str, options: dict[str, Any]) -> None:
    norm = build_norm(name, options, 6, 2)
    z = torch.randn(5, 6, 4, 3) * 3 + 1
    outputs = norm(z)
    assert not dict(norm.named_buffers())
    torch.testing.assert_close(norm.eval()(z), outputs)
    torch.testing.assert_close(norm(z[2:3]), outputs[2:3])
    assert not normalizations.choose({"name": name, **options}).build().needs_batch


@pytest.mark.parametrize("affine", [True, False])
@pytest.mark.parametrize(("name", "options"), [("batch", {}), *OTHERS, ("group", {"groups": 6})], ids=str)
def test_a_bias_is_dropped_exactly_where_it_is_redundant(name: str, options: dict[str, Any], affine: bool) -> None:
    options = {**options, "affine": affine}
    norm, z = build_norm(name, options, 6, 2).double(), torch.randn(5, 6, 4, 3, dtype=torch.float64)
    bias = torch.tensor([3.0, -1.0, 0.5, 2.0, 0.0, -4.0], dtype=torch.float64).reshape(6, 1, 1)
    no_effect = torch.allclose(norm(z + bias), norm(z), rtol=1e-9, atol=1e-9)
    assert normalizations.choose({"name": name, **options}).build().drops_bias(6) == no_effect
    assert no_effect == (name in ("batch", "instance") or options.get("groups") == 6)


@pytest.mark.parametrize("name", ["layer", "rms", "group"])
def test_where_the_bias_has_an_effect_the_layer_keeps_it(name: str) -> None:
    options = {"groups": 1} if name == "group" else {}
    model = make_mlp(normalization={"name": name, "input": True, **options})
    assert list(dict(model.named_children()))[:4] == ["flatten", "input_norm", "dense1", "norm1"]
    assert model.dense1.bias is not None
    after = make_mlp(normalization={"name": name, "position": "after", **options})
    assert list(dict(after.named_children()))[1:4] == ["dense1", "activation1", "norm1"]


@pytest.mark.parametrize(
    ("name", "options", "parameters"),
    [("layer", {}, 12), ("rms", {}, 6), ("group", {"groups": 3}, 12), ("instance", {}, 12)],
)
def test_parameters_belong_to_channels(name: str, options: dict[str, Any], parameters: int) -> None:
    assert count(build_norm(name, options, 6, 2)) == (parameters, 0)
    assert count(build_norm(name, options | {"affine": False}, 6, 2)) == (0, 0)


@pytest.mark.parametrize(("name", "options", "shape"), FITTING, ids=str)
def test_mixed_precision_is_as_good_as_its_numbers(name: str, options: dict[str, Any], shape: tuple[int, ...]) -> None:
    norm, z = build_norm(name, options, 6, len(shape) - 2), (torch.randn(shape) * 3).bfloat16()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        outputs = norm(z)
    outputs.float().sum().backward()
    torch.testing.assert_close(outputs.float(), norm(z.float()), rtol=2**-7, atol=2**-7)


def test_rms_of_large_numbers_in_fp16_does_not_overflow() -> None:
    z = torch.full((1, 4), 1000.0, dtype=torch.float16)
    assert build_norm("rms", {"affine": False}, 4, 0)(z).tolist() == [[1.0] * 4]


def test_what_needs_positions_says_so() -> None:
    with pytest.raises(UsageError, match="a dense layer has none; use layer or batch"):
        make_mlp(normalization="instance")


def test_groups_must_divide_the_features() -> None:
    with pytest.raises(
        UsageError, match=r"cannot part 6 features into 4 equal groups; set groups to one of 1, 2, 3, 6"
    ):
        build_norm("group", {"groups": 4}, 6, 2)


@pytest.mark.parametrize(
    ("name", "options", "features", "dims"),
    [("layer", {}, 1, 2), ("rms", {}, 1, 0), ("group", {"groups": 6}, 6, 0)],
)
def test_a_statistic_of_one_value_is_refused(name: str, options: dict[str, Any], features: int, dims: int) -> None:
    with pytest.raises(UsageError, match=f"normalization {name} would take its statistics over a single value"):
        build_norm(name, options, features, dims)


def test_a_group_of_one_channel_is_instance_normalization() -> None:
    z = torch.randn(3, 6, 4, 4)
    torch.testing.assert_close(build_norm("group", {"groups": 6}, 6, 2)(z), build_norm("instance", {}, 6, 2)(z))


def test_a_picture_of_one_pixel_has_no_statistics() -> None:
    with pytest.raises(UsageError, match="feature map of one position"):
        build_norm("instance", {}, 6, 2)(torch.randn(3, 6, 1, 1))


@pytest.mark.parametrize("position", ["before", "after"])
@pytest.mark.parametrize("affine", [True, False])
def test_a_bias_is_dropped_only_where_it_has_no_effect(position: str, affine: bool) -> None:
    model = make_mlp(normalization={"name": "batch", "position": position, "affine": affine})
    redundant = position == "before"
    assert (model.dense1.bias is None) == (model.dense2.bias is None) == redundant
    assert model.output.bias is not None


@pytest.mark.parametrize("position", ["before", "after"])
@pytest.mark.parametrize("affine", [True, False])
def test_a_bias_that_is_not_there_would_have_changed_nothing(position: str, affine: bool) -> None:
    model = make_mlp(normalization={"name": "batch", "position": position, "affine": affine})
    x, shift = torch.randn(7, 6), torch.tensor([3.0, -1.0, 0.5, 2.0, -4.0])
    expected = model(x)
    model.dense1.register_forward_hook(lambda module, given, out: out + shift)
    assert torch.allclose(model(x), expected, atol=1e-4) == (model.dense1.bias is None)


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
