from __future__ import annotations

from typing import Any

import pytest
import torch
from pydantic import ValidationError
from tinynetworks import BATCH, network, parameter_count, parts
from torch import Tensor, nn
from torch.nn import functional

from dnntrain.errors import SpecError
from dnntrain.parts.architectures import architectures
from dnntrain.parts.architectures.resnet import BasicBlock, PaddedShortcut, PreactivatedBlock

DROPPED = {"name": "dropout", "rate": 0.3}


# In millions: table 6 of arXiv:1512.03385, tables 4 and 5 of arXiv:1605.07146.
@pytest.mark.parametrize(
    ("architecture", "millions"),
    [
        ({"name": "resnet", "depth": 20}, "0.27"),
        ({"name": "resnet", "depth": 32}, "0.46"),
        ({"name": "resnet", "depth": 44}, "0.66"),
        ({"name": "resnet", "depth": 56}, "0.85"),
        ({"name": "resnet", "depth": 110}, "1.7"),
        ({"name": "wide_resnet", "depth": 16, "widen": 8}, "11.0"),
        ({"name": "wide_resnet", "depth": 28, "widen": 10}, "36.5"),
    ],
    ids=str,
)
def test_parameters_are_as_many_as_published(architecture: Any, millions: str) -> None:
    digits = len(millions.split(".")[1])
    assert f"{parameter_count(architecture) / 1e6:.{digits}f}" == millions


def test_parameters_are_as_many_as_counted_by_hand() -> None:
    # stem, 3 stages of 6 convolutions, two of the stages with a narrower first one; batch norms; output
    stem, output = 27 * 16, 64 * 10 + 10
    convolutions = 9 * (6 * 16**2 + 16 * 32 + 5 * 32**2 + 32 * 64 + 5 * 64**2)
    norms = 2 * (16 + 6 * (16 + 32 + 64))
    assert parameter_count({"name": "resnet", "depth": 20}) == stem + convolutions + norms + output
    projections = 16 * 32 + 32 * 64 + 2 * (32 + 64)
    padded = parameter_count({"name": "resnet", "depth": 20})
    assert parameter_count({"name": "resnet", "depth": 20, "shortcut": "projection"}) == padded + projections


def normalized(z: Tensor) -> Tensor:
    return (z - z.mean(dim=(0, 2, 3), keepdim=True)) / (z.var(dim=(0, 2, 3), keepdim=True, correction=0) + 1e-5).sqrt()


def conv(x: Tensor, layer: nn.Module, stride: int = 1) -> Tensor:
    reach = layer.weight.shape[-1] // 2
    return functional.conv2d(x, layer.weight, layer.bias, stride=stride, padding=reach)


@pytest.mark.parametrize("position", ["before", "after"])
@pytest.mark.parametrize("kind", ["padding", "projection"])
def test_a_basic_block_is_its_equation(kind: Any, position: str) -> None:
    block = BasicBlock(3, 6, 2, parts("tanh", {**BATCH, "position": position}), kind).double()
    x = torch.randn(4, 3, 7, 7, dtype=torch.float64)
    branch = block.branch

    h = conv(x, branch.conv1, stride=2)
    h = normalized(h).tanh() if position == "before" else normalized(h.tanh())
    h = conv(h, branch.conv2)
    h = normalized(h) if position == "before" else h
    if kind == "padding":
        side = torch.cat((x[:, :, ::2, ::2], torch.zeros(4, 3, 4, 4, dtype=torch.float64)), dim=1)
    else:
        side = conv(x, block.shortcut.conv, stride=2)
        side = normalized(side) if position == "before" else side
    expected = (h + side).tanh()
    expected = expected if position == "before" else normalized(expected)

    torch.testing.assert_close(block(x), expected)


@pytest.mark.parametrize("stride", [1, 2])
def test_a_preactivated_block_is_its_equation(stride: int) -> None:
    channels = 3 if stride == 2 else 6
    block = PreactivatedBlock(channels, 6, stride, parts("tanh", BATCH)).double()
    x = torch.randn(4, channels, 7, 7, dtype=torch.float64)

    z = normalized(x).tanh()
    h = conv(normalized(conv(z, block.branch.conv1, stride)).tanh(), block.branch.conv2)
    expected = h + (x if block.projection is None else conv(z, block.projection, stride))

    torch.testing.assert_close(block(x), expected)
    assert (block.projection is None) == (stride == 1)


@pytest.mark.parametrize(
    ("normalization", "needed"),
    [
        (BATCH, False),
        ({"name": "layer", "position": "before"}, True),
        ({"name": "layer", "position": "after"}, False),
        ("none", False),
    ],
    ids=str,
)
def test_a_projection_has_a_bias_only_where_that_of_the_branch_cannot_do_for_both(
    normalization: Any, needed: bool
) -> None:
    block = BasicBlock(3, 6, 2, parts("tanh", normalization), "projection")
    assert (block.shortcut.conv.bias is not None) is needed
    assert PreactivatedBlock(3, 6, 2, parts("tanh", normalization)).projection.bias is None


def test_a_shortcut_of_equal_shapes_is_the_input_itself() -> None:
    block = BasicBlock(4, 4, 1, parts("identity"), "padding")
    nn.init.zeros_(block.branch.conv2.weight)
    x = torch.randn(2, 4, 5, 5)
    assert torch.equal(block(x), x)


def test_a_padded_shortcut_gives_new_channels_of_zeros() -> None:
    x = torch.randn(2, 3, 5, 4)
    y = PaddedShortcut(2, 2)(x)
    assert y.shape == (2, 5, 3, 2)
    assert torch.equal(y[:, :3], x[:, :, ::2, ::2])
    assert not y[:, 3:].any()


@pytest.mark.parametrize("name", ["resnet", "wide_resnet"])
def test_dropout_stands_between_the_convolutions_of_a_block(name: str) -> None:
    depth, blocks = (14, 6) if name == "resnet" else (16, 6)
    options = {"width": 4} if name == "resnet" else {"widen": 1}
    model = network({"name": name, "depth": depth, **options}, dropout=(DROPPED,), normalization=BATCH)
    names = [n for n, _ in model.named_modules()]
    places = [n for n in names if n.endswith("dropout")]
    assert len(places) == blocks
    for place in places:
        here = names.index(place)
        branch = place.rsplit(".", 1)[0]
        assert names.index(f"{branch}.conv1") < here < names.index(f"{branch}.conv2")
        assert names[here - 1].split(".")[-1].startswith("activation")


@pytest.mark.parametrize("name", ["resnet", "wide_resnet"])
def test_stages_halve_the_picture_and_double_the_channels(name: str) -> None:
    options = {"depth": 8, "width": 4} if name == "resnet" else {"depth": 10, "widen": 2}
    width = 4 if name == "resnet" else 32
    model, shapes = network({"name": name, **options}, (3, 13, 9)), []
    for stage in (model.stage1, model.stage2, model.stage3):
        stage.register_forward_hook(lambda module, inputs, output: shapes.append(tuple(output.shape[1:])))
    model(torch.zeros(2, 3, 13, 9))
    assert shapes == [(width, 13, 9), (2 * width, 7, 5), (4 * width, 4, 3)]


@pytest.mark.parametrize(
    ("architecture", "depth"),
    [
        ({"name": "resnet"}, 19),
        ({"name": "resnet", "depth": 110}, 109),
        ({"name": "wide_resnet"}, 13),
        ({"name": "wide_resnet", "depth": 28}, 25),
    ],
    ids=str,
)
def test_depth_counts_the_hidden_layers_one_behind_the_other(architecture: Any, depth: int) -> None:
    choice = architectures.choose(architecture)
    assert choice.entry.traits["depth"](choice.options) == depth


@pytest.mark.parametrize(("name", "depth", "hint"), [("resnet", 18, "8, 14, 20, 26"), ("wide_resnet", 20, "10, 16")])
def test_other_depths_are_refused_where_they_are_written(name: str, depth: int, hint: str) -> None:
    with pytest.raises(ValidationError, match="must be 6 n") as caught:
        architectures.choose({"name": name, "depth": depth})
    assert hint in caught.value.errors()[0]["ctx"]["hint"]


@pytest.mark.parametrize("depth", [2, 4, -4])
def test_a_network_has_at_least_one_block_in_each_stage(depth: int) -> None:
    for name in ("resnet", "wide_resnet"):
        with pytest.raises(ValidationError):
            architectures.choose({"name": name, "depth": depth})


@pytest.mark.parametrize("name", ["resnet", "wide_resnet"])
def test_a_mean_taken_away_cannot_be_averaged(name: str) -> None:
    with pytest.raises(SpecError, match="all pictures would look alike"):
        network({"name": name}, normalization={"name": "instance", "position": "after"})
