"""Residual networks for small pictures: the original form (resnet) and the wide, pre-activated one (wide_resnet)."""

from __future__ import annotations

from collections import OrderedDict
from typing import Annotated, Any, Literal, Protocol

from pydantic import AfterValidator
from pydantic_core import PydanticCustomError
from torch import Tensor, nn
from torch.nn import functional
from typing_extensions import override

from dnntrain.parts.architectures.base import (
    Blocks,
    architectures,
    convolution,
    dense,
    global_average,
    picture_shape,
)
from dnntrain.registry import PositiveInt

STAGES = 3
STEM = 16


def _stepped(depth: int, rest: int) -> int:
    """Check that a depth is 6 n + rest: three stages of n blocks of two convolutions, and what is around them."""
    if depth <= rest or depth % 6 != rest:
        known = ", ".join(str(6 * n + rest) for n in range(1, 5))
        raise PydanticCustomError(
            "depth", "must be 6 n + {rest} for some n", {"rest": rest, "hint": f"such as {known}"}
        )
    return depth


ResnetDepth = Annotated[PositiveInt, AfterValidator(lambda depth: _stepped(depth, 2))]
WideDepth = Annotated[PositiveInt, AfterValidator(lambda depth: _stepped(depth, 4))]


def resnet_depth(options: Any) -> int:
    """Return the number of hidden layers of a resnet with these options: all layers but the output."""
    return int(options.depth) - 1


def wide_depth(options: Any) -> int:
    """Return the number of hidden layers of a wide_resnet with these options: all but those of its three shortcuts."""
    return int(options.depth) - STAGES


class PaddedShortcut(nn.Module):
    """Bring a picture to a block's output shape without parameters: every stride-th pixel, new channels of zeros.

    (N, C, H, W) to (N, C + extra, ceil(H / stride), ceil(W / stride)).

    Args:
        extra: channels to be added.
        stride: pixels from one to the next.
    """

    def __init__(self, extra: int, stride: int) -> None:
        super().__init__()
        self._extra, self._stride = extra, stride

    @override
    def forward(self, x: Tensor) -> Tensor:
        return functional.pad(x[:, :, :: self._stride, :: self._stride], (0, 0, 0, 0, 0, self._extra))

    @override
    def extra_repr(self) -> str:
        return f"extra={self._extra}, stride={self._stride}"


class BasicBlock(nn.Module):
    """Two convolutions and a shortcut: activation(norm(conv(activation(norm(conv x)))) + shortcut x).

    Where normalization stands after the activation, it does so at both: norm(activation(conv(norm(activation(conv x)))
    + shortcut x)).

    Args:
        channels: of its input.
        filters: channels of its output.
        stride: of the first convolution.
        blocks: the parts that it is made of.
        shortcut: how the input is brought to the shape of the output where they differ.
    """

    def __init__(
        self, channels: int, filters: int, stride: int, blocks: Blocks, shortcut: Literal["padding", "projection"]
    ) -> None:
        super().__init__()
        draw, bias = blocks.initialize, blocks.needs_bias(filters)
        branch: OrderedDict[str, nn.Module] = OrderedDict()
        branch["conv1"] = convolution(channels, filters, 3, draw, stride=stride, bias=bias)
        branch.update(blocks.norm_and_activation("1", filters, 2))
        branch.update(blocks.branch_dropouts("dropout", 2))
        branch["conv2"] = convolution(filters, filters, 3, draw, bias=bias)
        finish = blocks.norm_and_activation("2", filters, 2)
        if blocks.normalization.make is not None and blocks.normalization.position == "before":
            branch["norm2"] = finish.pop("norm2")
        self.branch = nn.Sequential(branch)
        self.shortcut = self._shortcut(channels, filters, stride, blocks, shortcut)
        self.finish = nn.Sequential(OrderedDict(finish))

    @staticmethod
    def _shortcut(channels: int, filters: int, stride: int, blocks: Blocks, kind: str) -> nn.Module:
        if stride == 1 and channels == filters:
            return nn.Identity()
        if kind == "padding":
            return PaddedShortcut(filters - channels, stride)
        normed = blocks.normalization.make is not None and blocks.normalization.position == "before"
        # Without a normalization of its own, the bias of the branch does for both.
        bias = normed and blocks.needs_bias(filters)
        conv = convolution(channels, filters, 1, blocks.initialize, stride=stride, bias=bias)
        return nn.Sequential(OrderedDict(conv=conv, **(blocks.norm("norm", filters, 2) if normed else {})))

    @override
    def forward(self, x: Tensor) -> Tensor:
        finished: Tensor = self.finish(self.branch(x) + self.shortcut(x))
        return finished


class PreactivatedBlock(nn.Module):
    """Normalization and activation come before each convolution: x + conv(dropout(activation(norm(conv z)))).

    z = activation(norm(x)). Where the shape changes, a 1 x 1 convolution of z takes the place of the x that is added.

    Args:
        channels: of its input.
        filters: channels of its output.
        stride: of the first convolution.
        blocks: the parts that it is made of.
    """

    def __init__(self, channels: int, filters: int, stride: int, blocks: Blocks) -> None:
        super().__init__()
        draw, bias = blocks.initialize, blocks.needs_bias(filters)
        self.open = nn.Sequential(OrderedDict(blocks.norm_and_activation("1", channels, 2)))
        branch: OrderedDict[str, nn.Module] = OrderedDict()
        branch["conv1"] = convolution(channels, filters, 3, draw, stride=stride, bias=bias)
        branch.update(blocks.norm_and_activation("2", filters, 2))
        branch.update(blocks.branch_dropouts("dropout", 2))
        branch["conv2"] = convolution(filters, filters, 3, draw, bias=bias)
        self.branch = nn.Sequential(branch)
        changes = stride != 1 or channels != filters
        # The bias of the branch does for both.
        self.projection = convolution(channels, filters, 1, draw, stride=stride, bias=False) if changes else None

    @override
    def forward(self, x: Tensor) -> Tensor:
        opened = self.open(x)
        branch: Tensor = self.branch(opened)
        return branch + (x if self.projection is None else self.projection(opened))


class _MakeBlock(Protocol):
    def __call__(self, channels: int, filters: int, stride: int) -> nn.Module: ...


def _stages(channels: int, width: int, repeats: int, make: _MakeBlock) -> dict[str, nn.Module]:
    """Return three stages of blocks, each twice as wide as the one before and at half its resolution."""
    stages: dict[str, nn.Module] = {}
    for stage in range(STAGES):
        filters = width * 2**stage
        blocks: OrderedDict[str, nn.Module] = OrderedDict()
        for i in range(repeats):
            blocks[f"block{i + 1}"] = make(channels, filters, 2 if stage > 0 and i == 0 else 1)
            channels = filters
        stages[f"stage{stage + 1}"] = nn.Sequential(blocks)
    return stages


@architectures.register(
    "resnet",
    equation="h_i = activation(norm(W_i * activation(norm(V_i * h_{i-1}))) + h_{i-1}), logits = W mean(h_n) + b",
    cite="arXiv:1512.03385",
    example={"name": "resnet", "depth": 20, "width": 16},
    depth=resnet_depth,
    standardize="channel",
)
def resnet(
    shape: tuple[int, ...],
    outputs: int,
    blocks: Blocks,
    /,
    *,
    depth: ResnetDepth = 20,
    width: PositiveInt = 16,
    shortcut: Literal["padding", "projection"] = "padding",
) -> nn.Sequential:
    """The residual network for small pictures: (N, C, H, W) to logits (N, outputs).

    A convolution, then three stages of (depth - 2) / 6 blocks with width, 2 width and 4 width filters; the first block
    of the second and the third stage halves the picture. Published depths are 20, 32, 44, 56 and 110. Without
    normalization the variance of the signal doubles from block to block, so a deep one needs it.

    Dropout on hidden layers stands inside each block, between its convolutions, where it leaves the shortcut alone;
    `layers: last` drops features in front of the output.

    Args:
        shape: of one input sample, (C, H, W).
        outputs: number of logits.
        blocks: the parts that each layer is made of.
        depth: number of layers with weights, 6 n + 2.
        width: filters of the first stage.
        shortcut: where a block changes the shape, its shortcut takes every second pixel and pads channels with zeros
            (padding; the paper's option A, and its choice for CIFAR-10), or is a 1 x 1 convolution (projection;
            option B, which torchvision's models for ImageNet have).

    Raises:
        SpecError: samples are not pictures, or a normalization leaves nothing to be averaged.
    """
    channels, _, _ = picture_shape("resnet", shape)
    final = width * 2 ** (STAGES - 1)

    def block(channels: int, filters: int, stride: int) -> nn.Module:
        return BasicBlock(channels, filters, stride, blocks, shortcut)

    layers: OrderedDict[str, nn.Module] = OrderedDict(blocks.input_norm(channels, 2))
    layers.update(blocks.input_dropouts(2))
    layers["conv"] = convolution(channels, width, 3, blocks.initialize, bias=blocks.needs_bias(width))
    layers.update(blocks.norm_and_activation("", width, 2))
    layers.update(_stages(width, width, (depth - 2) // 6, block))
    layers.update(global_average(blocks, final, behind_norm=True))
    layers.update(blocks.final_dropouts())
    layers["output"] = dense(final, outputs, blocks.initialize_output)
    return nn.Sequential(layers)


@architectures.register(
    "wide_resnet",
    equation="h_i = h_{i-1} + W_i * dropout(activation(norm(V_i * activation(norm(h_{i-1})))))",
    cite="arXiv:1605.07146",
    example={"name": "wide_resnet", "depth": 10, "widen": 2},
    depth=wide_depth,
    standardize="channel",
)
def wide_resnet(
    shape: tuple[int, ...],
    outputs: int,
    blocks: Blocks,
    /,
    *,
    depth: WideDepth = 16,
    widen: PositiveInt = 8,
) -> nn.Sequential:
    """A shallower, wider residual network whose blocks are pre-activated: (N, C, H, W) to logits (N, outputs).

    A convolution with 16 filters, then three stages of (depth - 4) / 6 blocks with 16 widen, 32 widen and 64 widen
    filters, a last normalization and activation. The paper's best are WRN-28-10 and, for less, WRN-16-8; it puts a
    dropout of 0.3 between the convolutions of a block, which is where `dropout` stands here. `layers: last` drops
    features in front of the output.

    Args:
        shape: of one input sample, (C, H, W).
        outputs: number of logits.
        blocks: the parts that each layer is made of.
        depth: number of layers with weights, the convolutions of changing shortcuts included, 6 n + 4.
        widen: factor on the number of filters.

    Raises:
        SpecError: samples are not pictures, or a normalization leaves nothing to be averaged.
    """
    channels, _, _ = picture_shape("wide_resnet", shape)
    width = STEM * widen
    final = width * 2 ** (STAGES - 1)

    def block(channels: int, filters: int, stride: int) -> nn.Module:
        return PreactivatedBlock(channels, filters, stride, blocks)

    layers: OrderedDict[str, nn.Module] = OrderedDict(blocks.input_norm(channels, 2))
    layers.update(blocks.input_dropouts(2))
    layers["conv"] = convolution(channels, STEM, 3, blocks.initialize, bias=blocks.needs_bias(STEM))
    layers.update(_stages(STEM, width, (depth - 4) // 6, block))
    layers.update(blocks.norm_and_activation("", final, 2))
    layers.update(global_average(blocks, final, behind_norm=True))
    layers.update(blocks.final_dropouts())
    layers["output"] = dense(final, outputs, blocks.initialize_output)
    return nn.Sequential(layers)
