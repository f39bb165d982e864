from __future__ import annotations

from typing import Any

import pytest
import torch
from tinynetworks import parts
from torch import nn

from dnntrain.parts.architectures.base import FeaturesFirst, PerStep, Stack, convolution, dense, draw_stacked
from dnntrain.parts.initializers import Fans

ALL = {"name": "dropout", "rate": 0.5, "layers": "all"}
LAST = {"name": "alpha", "rate": 0.5, "layers": "last"}


def stacked(**chosen: Any) -> list[str]:
    stack = Stack(parts(**chosen), hidden=2)
    stack.open(4, dims=2)
    for _ in range(2):
        stack.hidden("conv", lambda bias: nn.Conv2d(4, 4, 1, bias=bias), 4, dims=2, pool={"pool": nn.Identity()})
    return list(dict(stack.sequential().named_children()))


def test_a_stack_puts_each_part_where_the_file_wants_it() -> None:
    norm = {"name": "batch", "input": True}
    assert stacked(normalization=norm, dropout=(ALL, LAST)) == [
        *("input_norm", "input_dropout"),
        *("conv1", "norm1", "activation1", "pool", "dropout1"),
        *("conv2", "norm2", "activation2", "dropout2", "dropout2_2"),
    ]
    assert stacked(normalization={"name": "batch", "position": "after"})[:3] == ["conv1", "activation1", "norm1"]


@pytest.mark.parametrize(
    ("normalization", "needed"),
    [
        ("none", True),
        ({"name": "batch", "position": "before"}, False),
        ({"name": "batch", "position": "after"}, True),
        ({"name": "batch", "affine": False}, False),
        ({"name": "instance", "position": "before"}, False),
        ({"name": "instance", "affine": False}, False),
        ({"name": "instance", "position": "after"}, True),
        ({"name": "layer", "position": "before"}, True),
        ({"name": "rms", "position": "before"}, True),
        ({"name": "group", "groups": 2}, True),
        ({"name": "group", "groups": 6}, False),
        ({"name": "group", "groups": 6, "position": "after"}, True),
    ],
    ids=str,
)
def test_a_bias_is_needed_unless_a_mean_is_subtracted_right_behind(normalization: Any, needed: bool) -> None:
    assert parts(normalization=normalization).needs_bias(6) is needed


def test_a_dense_layer_is_drawn_with_its_fans_and_a_convolution_with_those_of_its_window() -> None:
    seen: list[Fans] = []
    layers = [
        dense(7, 5, lambda weight, fans: seen.append(fans)),
        convolution(3, 4, 5, lambda weight, fans: seen.append(fans), stride=2),
    ]
    assert seen == [Fans(7, 5), Fans(3 * 25, 4 * 25)]
    assert all(layer.bias is not None and not layer.bias.any() for layer in layers)
    assert layers[1](torch.zeros(1, 3, 8, 6)).shape == (1, 4, 4, 3)


def test_stacked_matrices_are_drawn_one_by_one() -> None:
    weight, seen = nn.Parameter(torch.zeros(6, 4)), list[Fans]()

    def draw(matrix: torch.Tensor, fans: Fans) -> None:
        seen.append(fans)
        matrix.fill_(len(seen))

    draw_stacked(weight, 3, draw)
    assert seen == [Fans(4, 2)] * 3
    assert weight[:, 0].tolist() == [1, 1, 2, 2, 3, 3]


def test_a_layer_per_step_sees_every_step_by_itself() -> None:
    layer, x = nn.Linear(3, 5), torch.randn(2, 4, 3)
    expected = torch.stack([layer(x[:, t]) for t in range(4)], dim=1)
    torch.testing.assert_close(PerStep(layer)(x), expected)
    strided = x.transpose(0, 1).contiguous().transpose(0, 1)
    torch.testing.assert_close(PerStep(layer)(strided), expected)


def test_features_first_drops_a_feature_at_all_steps() -> None:
    dropped = FeaturesFirst(nn.Dropout1d(0.5))(torch.ones(4, 5, 6))
    assert dropped.shape == (4, 5, 6)
    assert (dropped == dropped[:, :1]).all()
    assert 0 < (dropped == 0).sum() < dropped.numel()
