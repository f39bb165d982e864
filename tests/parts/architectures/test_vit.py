from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from tinynetworks import network, parameter_count
from torch import nn

from dnntrain.errors import SpecError
from dnntrain.parts.architectures import architectures
from dnntrain.parts.architectures.vit import Gated

OPTIONS: dict[str, Any] = {"name": "vit", "patch": 4, "width": 12, "heads": 3, "layers": 1, "mlp_ratio": 2.0}


def vit(shape: tuple[int, ...] = (3, 8, 12), **options: Any) -> Any:
    parts = {key: options.pop(key) for key in ("activation", "normalization", "dropout") if key in options}
    return network({**OPTIONS, **options}, shape, **parts)


def normalized(h: np.ndarray) -> np.ndarray:
    return (h - h.mean(-1, keepdims=True)) / np.sqrt(h.var(-1, keepdims=True) + 1e-5)


def test_the_forward_pass_is_the_equation() -> None:
    model = vit().double()
    draws = np.random.default_rng(0)
    w = {name: p.detach().numpy() for name, p in model.named_parameters()}
    for name, value in w.items():
        if name.endswith("bias") and "norm" not in name:
            value[...] = draws.normal(size=value.shape)
    x = draws.normal(size=(2, 3, 8, 12))

    def dense(name: str, h: np.ndarray) -> np.ndarray:
        return h @ w[f"{name}.weight"].T + w[f"{name}.bias"]

    rows = []
    for row in range(2):
        for column in range(3):
            patch = x[:, :, 4 * row : 4 * row + 4, 4 * column : 4 * column + 4].reshape(2, -1)
            rows.append(patch @ w["patches.weight"].reshape(12, -1).T + w["patches.bias"])
    h = np.stack(rows, axis=1) + w["positions.weight"]
    q, k, v = np.split(dense("block1.attend.attention.query_key_value", normalized(h)), 3, axis=-1)
    heads = []
    for i in range(3):
        part = slice(4 * i, 4 * i + 4)
        scores = np.exp(q[..., part] @ k[..., part].transpose(0, 2, 1) / 2)
        heads.append(scores / scores.sum(-1, keepdims=True) @ v[..., part])
    h = h + dense("block1.attend.attention.projection", np.concatenate(heads, axis=-1))
    z = dense("block1.transform.mlp.layer.dense1", normalized(h))
    z = z * (1 + np.vectorize(math.erf)(z / math.sqrt(2))) / 2
    h = h + dense("block1.transform.mlp.layer.dense2", z)
    expected = dense("output", normalized(h).mean(axis=1))

    np.testing.assert_allclose(model(torch.from_numpy(x)).detach().numpy(), expected, rtol=1e-10)


def shuffled(x: torch.Tensor) -> torch.Tensor:
    """Exchange the upper half of a picture, a row of patches, with the lower one."""
    return x.roll(4, dims=2)


def test_patches_are_told_apart_by_their_positions_alone() -> None:
    model, x = vit(layers=2), torch.randn(2, 3, 8, 12)
    assert not torch.allclose(model(shuffled(x)), model(x), atol=1e-5)
    nn.init.zeros_(model.positions.weight)
    torch.testing.assert_close(model(shuffled(x)), model(x), atol=1e-5, rtol=0)


def test_every_patch_attends_to_every_other() -> None:
    model, x = vit(), torch.randn(1, 3, 8, 12, requires_grad=True)
    embedded = nn.Sequential(model.patches, model.positions, model.block1)(x)
    embedded[0, 0].sum().backward()
    assert x.grad is not None
    assert (x.grad.abs().amax(dim=1) > 0).all()


@pytest.mark.parametrize(
    ("gate", "function"),
    [("glu", torch.sigmoid), ("geglu", nn.functional.gelu), ("swiglu", nn.functional.silu)],
)
def test_a_gate_is_one_half_of_the_layer_upon_the_other(gate: str, function: Any) -> None:
    mlp = vit(gate=gate, activation="tanh").block1.transform.mlp.layer
    assert isinstance(mlp.gate, Gated)
    z = torch.randn(5, 32)
    torch.testing.assert_close(mlp.gate(z), function(z[:, :16]) * z[:, 16:])
    assert "activation" not in dict(mlp.named_children())
    assert mlp.dense1.weight.shape == (32, 12)
    assert mlp.dense2.weight.shape == (12, 16)


def test_gates_keep_the_number_of_weights() -> None:
    wide: dict[str, Any] = {"name": "vit", "width": 96, "heads": 3}
    ungated, gated = (
        parameter_count(wide, normalization="layer"),
        parameter_count({**wide, "gate": "swiglu"}, normalization="layer"),
    )
    assert gated == pytest.approx(ungated, rel=0.01)


def test_parameters_are_as_many_as_published() -> None:
    # ViT-Tiny of arXiv:2012.12877, 5.7 M with 1000 classes: here with 10, a mean for its class token, and its patches
    # of 16 pixels of a picture of 224.
    tiny = {"name": "vit", "patch": 16, "width": 192, "heads": 3, "layers": 12}
    counted = parameter_count(tiny, (3, 224, 224), "layer")
    assert counted == 5_717_416 - 2 * 192 - 990 * 193


def test_layers_are_named_and_ordered_as_they_are_applied() -> None:
    drop = ({"name": "dropout", "rate": 0.1, "layers": "all"}, {"name": "alpha", "rate": 0.1, "layers": "last"})
    model = vit(layers=2, dropout=drop, normalization={"name": "layer", "input": True})
    assert list(dict(model.named_children())) == [
        *("input_norm", "patches", "positions", "input_dropout", "block1", "block2", "norm", "mean", "dropout"),
        "output",
    ]
    assert list(dict(model.block1.attend.named_children())) == ["norm", "attention", "dropout"]
    assert list(dict(model.block1.transform.named_children())) == ["mlp", "dropout"]


def test_without_normalization_there_is_none() -> None:
    assert not [n for n, _ in vit(normalization="none").named_modules() if "norm" in n]


@pytest.mark.parametrize("layers", [1, 3])
def test_depth_counts_attention_and_mlp(layers: int) -> None:
    choice = architectures.choose({"name": "vit", "layers": layers})
    assert choice.entry.traits["depth"](choice.options) == 1 + 2 * layers


@pytest.mark.parametrize(
    ("options", "words", "hint"),
    [
        ({"patch": 5}, r"model.architecture.patch is 5, .* 8 x 12 ", "possible: 1, 2, 4$"),
        ({"patch": 8}, r"model.architecture.patch is 8, .* 8 x 12 ", "possible: 1, 2, 4$"),
        ({"heads": 5}, r"model.architecture.heads is 5, .* width of 12 ", "possible: 1, 2, 3, 4, 6, 12$"),
        ({"normalization": {"name": "batch"}}, "model.normalization must look at each patch", "layer, or rms"),
        ({"normalization": {"name": "batch", "affine": False}}, "model.normalization must look", "layer, or rms"),
        ({"normalization": {"name": "instance"}}, "model.normalization must look at each patch", "layer, or rms"),
        ({"normalization": {"name": "instance", "affine": False}}, "model.normalization must look", "layer, or rms"),
        ({"normalization": {"name": "rms", "position": "after"}}, "model.normalization.position is after", "leave"),
    ],
    ids=str,
)
def test_what_does_not_fit_is_refused(options: Any, words: str, hint: str) -> None:
    with pytest.raises(SpecError, match=words) as caught:
        vit(**options)
    assert caught.match(hint)
