from __future__ import annotations

import pytest
import torch
from pretrainingtasks import net
from tinynetworks import network, parts, small
from torch import Tensor, nn
from torch.nn import functional

from dnntrain.errors import UsageError
from dnntrain.parts.pretraining.base import hidden_layers, shapes_in
from dnntrain.parts.pretraining.mirror import TransposedConvolution, mirror

CNNS = [
    {"name": "cnn", "widths": [4, 6]},
    {"name": "cnn", "widths": [4, 6], "convolutions": 2, "pool": "average", "head": "flatten", "dense": [7]},
    {"name": "cnn", "widths": [4], "pool": "none", "dense": [5, 3], "kernel": 5},
]


def turned(model: nn.Module, shape: tuple[int, ...], *, tied: bool) -> tuple[dict[str, nn.Module], nn.Sequential]:
    layers = hidden_layers(model, "it")
    return layers, mirror(layers, shape, parts("relu"), tied=tied, name="it")


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("architecture", CNNS, ids=str)
@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 9, 11)])
def test_pictures_come_back_in_their_own_shape(
    architecture: dict[str, object], shape: tuple[int, ...], tied: bool
) -> None:
    layers, decoder = turned(network(architecture, shape, normalization="batch"), shape, tied=tied)
    code = torch.randn(2, *shapes_in(layers, shape)[-1])
    assert decoder(code).shape == (2, *shape)
    own = [name for name, p in decoder.named_parameters() if p.ndim > 1]
    assert all("global_pool" in name for name in own) if tied else len(own) >= len([n for n in layers if "conv" in n])
    assert not [each for each in decoder.modules() if isinstance(each, nn.BatchNorm2d | nn.Dropout)]


def test_dense_layers_are_turned_round_with_an_activation_between_them_and_none_at_the_end() -> None:
    layers, decoder = turned(net([5, 4], (6,), activation="relu"), (6,), tied=True)
    h = torch.randn(3, 4)
    weights = [layers[name].weight for name in ("dense2", "dense1")]
    biases = [p for p in decoder.parameters()]
    assert [b.numel() for b in biases] == [5, 6]
    with torch.no_grad():
        for bias in biases:
            bias.normal_()
    expected = functional.relu(h @ weights[0] + biases[0]) @ weights[1] + biases[1]  # type: ignore[operator]
    torch.testing.assert_close(decoder(h), expected)
    assert (decoder(torch.randn(50, 4)) < 0).any()


@pytest.mark.parametrize(("kernel", "stride", "size"), [(3, 1, 7), (3, 2, 8), (3, 2, 7), (5, 3, 10)])
def test_a_transposed_convolution_is_the_transpose_of_the_convolution(kernel: int, stride: int, size: int) -> None:
    layer = nn.Conv2d(2, 3, kernel, stride=stride, padding=kernel // 2, bias=False)
    x = torch.randn(1, 2, size, size)
    h = layer(x)
    front, behind = (2, size, size), tuple(h.shape[1:])
    back = TransposedConvolution(layer, behind, front, parts(), tied=True)
    g = torch.randn_like(h)
    # <conv x, g> = <x, conv^T g>
    torch.testing.assert_close((h * g).sum(), (x * back(g)).sum(), rtol=1e-4, atol=1e-4)
    free = TransposedConvolution(layer, behind, front, parts(), tied=False)
    assert free(g).shape == x.shape and free.weight is not None and free.weight.shape == layer.weight.shape


def test_a_pool_repeats_its_values() -> None:
    layers: dict[str, nn.Module] = {"conv1": nn.Conv2d(1, 1, 1), "pool1": nn.MaxPool2d(2)}
    decoder = mirror(layers, (1, 5, 4), parts(), name="it")
    values = torch.tensor([[[[1.0, 2.0], [3.0, 4.0]]]])
    spread: Tensor = decoder[0](values)
    assert spread.shape == (1, 1, 5, 4) and set(spread.flatten().tolist()) == {1.0, 2.0, 3.0, 4.0}


@pytest.mark.parametrize("name", ["vit", "gru", "resnet", "wide_resnet"])
def test_what_cannot_be_turned_round_is_named(name: str) -> None:
    with pytest.raises(UsageError, match="it turns dense layers and convolutions round, and cannot do so with layer"):
        turned(network(small(name)), (3, 8, 8), tied=False)


def test_an_activation_that_learns_for_each_channel_finds_its_channels() -> None:
    blocks = parts({"name": "prelu", "per_channel": True})
    layers = hidden_layers(net([5, 4], (6,), activation="relu"), "it")
    decoder = mirror(layers, (6,), blocks, name="it")
    assert [tuple(p.shape) for p in decoder.get_submodule("activation1").parameters()] == [(5,)]
