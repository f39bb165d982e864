from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from tinynetworks import network

from dnntrain.errors import SpecError
from dnntrain.parts.architectures import architectures


def cnn(shape: tuple[int, ...] = (2, 8, 8), outputs: int = 3, **options: Any) -> Any:
    parts = {key: options.pop(key) for key in ("activation", "normalization", "dropout") if key in options}
    return network({"name": "cnn", **options}, shape, outputs, **parts)


def convolve(x: np.ndarray, weight: np.ndarray, bias: np.ndarray) -> np.ndarray:
    """Correlate pictures (N, C, H, W) with windows (F, C, k, k), zeros around them, pixel by pixel."""
    reach = weight.shape[2] // 2
    padded = np.pad(x, ((0, 0), (0, 0), (reach, reach), (reach, reach)))
    y = np.empty((len(x), len(weight), *x.shape[2:]))
    for row in range(x.shape[2]):
        for column in range(x.shape[3]):
            window = padded[:, :, row : row + 2 * reach + 1, column : column + 2 * reach + 1]
            y[:, :, row, column] = np.einsum("ncij,fcij->nf", window, weight) + bias
    return y


@pytest.mark.parametrize("head", ["average", "flatten"])
@pytest.mark.parametrize("pool", ["max", "average", "none"])
def test_the_forward_pass_is_the_equation(pool: str, head: str) -> None:
    model = cnn(widths=[4, 3], kernel=5, dense=[6], pool=pool, head=head, activation="tanh").double()
    draws = np.random.default_rng(0)
    weights = {name: p.detach().numpy() for name, p in model.named_parameters()}
    for name, value in weights.items():
        if name.endswith("bias"):
            value[...] = draws.normal(size=value.shape)
    x = draws.normal(size=(2, 2, 8, 8))

    h = x
    for i in (1, 2):
        h = np.tanh(convolve(h, weights[f"conv{i}.weight"], weights[f"conv{i}.bias"]))
        if pool != "none":
            n, c, height, width = h.shape
            quads = h.reshape(n, c, height // 2, 2, width // 2, 2)
            h = quads.max(axis=(3, 5)) if pool == "max" else quads.mean(axis=(3, 5))
    h = h.mean(axis=(2, 3)) if head == "average" else h.reshape(2, -1)
    h = np.tanh(h @ weights["dense3.weight"].T + weights["dense3.bias"])
    expected = h @ weights["output.weight"].T + weights["output.bias"]

    np.testing.assert_allclose(model(torch.from_numpy(x)).detach().numpy(), expected, rtol=1e-10)


def test_layers_are_named_and_ordered_as_they_are_applied() -> None:
    drop = {"name": "dropout", "rate": 0.1}
    model = cnn(widths=[4, 5], convolutions=2, dense=[6], normalization={"name": "batch"}, dropout=(drop,))
    layer = ("conv{}", "norm{}", "activation{}", "dropout{}")
    pooled = ("conv{}", "norm{}", "activation{}", "pool{}", "dropout{}")
    assert list(dict(model.named_children())) == [
        *(name.format(1) for name in layer),
        *(name.format(1 if "pool" in name else 2) for name in pooled),
        *(name.format(3) for name in layer),
        *(name.format(2 if "pool" in name else 4) for name in pooled),
        *("global_pool", "flatten", "dense5", "norm5", "activation5", "dropout5", "output"),
    ]


@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 32, 24), (2, 9, 15)])
def test_flattened_pictures_fit_the_dense_layer_whatever_their_size(shape: tuple[int, ...]) -> None:
    assert cnn(shape, head="flatten")(torch.zeros(2, *shape)).shape == (2, 3)


def test_an_averaging_head_does_not_mind_where_things_are() -> None:
    spot = torch.zeros(1, 2, 32, 32)
    spot[:, :, 8:12, 8:12] = torch.randn(1, 2, 4, 4)
    moved = spot.roll((8, 4), dims=(2, 3))
    averaging, flattening = cnn((2, 32, 32), widths=[4, 6]), cnn((2, 32, 32), widths=[4, 6], head="flatten")
    torch.testing.assert_close(averaging(moved), averaging(spot))
    assert not torch.allclose(flattening(moved), flattening(spot))


@pytest.mark.parametrize(
    ("options", "depth"),
    [({}, 3), ({"widths": [8], "convolutions": 2}, 2), ({"widths": [8, 8], "convolutions": 2, "dense": [5]}, 5)],
)
def test_depth_is_the_number_of_hidden_layers(options: Any, depth: int) -> None:
    choice = architectures.choose({"name": "cnn", **options})
    assert choice.entry.traits["depth"](choice.options) == depth
    hidden = [n for n in dict(cnn(**options).named_children()) if n.startswith("activation")]
    assert len(hidden) == depth


def test_pictures_must_bear_every_pool() -> None:
    assert cnn((1, 8, 9), widths=[2, 2, 2])(torch.zeros(1, 1, 8, 9)).shape == (1, 3)
    with pytest.raises(SpecError, match=r"widths has 4 blocks.*8 x 9 can be halved only 3 times") as caught:
        cnn((1, 8, 9), widths=[2, 2, 2, 2])
    assert "at most 3 widths" in str(caught.value)
    assert cnn((1, 8, 9), widths=[2, 2, 2, 2], pool="none")(torch.zeros(1, 1, 8, 9)).shape == (1, 3)


@pytest.mark.parametrize(("pool", "refused"), [("none", True), ("average", True), ("max", False)])
def test_a_mean_taken_away_cannot_be_averaged(pool: str, refused: bool) -> None:
    options: dict[str, Any] = {"pool": pool, "widths": [4], "normalization": {"name": "instance", "position": "after"}}
    if not refused:
        assert cnn(**options)(torch.randn(4, 2, 8, 8)).std(dim=0).min() > 0
        return
    with pytest.raises(SpecError, match="all pictures would look alike"):
        cnn(**options)
    with pytest.raises(SpecError, match="all pictures would look alike"):
        cnn(**{**options, "normalization": {"name": "group", "groups": 4, "position": "after"}})


@pytest.mark.parametrize(("options", "words"), [({"kernel": 4}, "must be odd"), ({"widths": []}, "at least 1 item")])
def test_impossible_options_are_refused_where_they_are_written(options: Any, words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        architectures.choose({"name": "cnn", **options})
