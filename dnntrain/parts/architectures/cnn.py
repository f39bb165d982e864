"""The plain convolutional network: blocks of convolutions, each ending in a pool."""

from __future__ import annotations

from functools import partial
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field
from pydantic_core import PydanticCustomError
from torch import nn

from dnntrain.parts.architectures.base import (
    Blocks,
    Stack,
    Widths,
    architectures,
    convolution,
    dense,
    global_average,
    misfit,
    picture_shape,
)
from dnntrain.registry import PositiveInt

POOLS = {"max": nn.MaxPool2d, "average": nn.AvgPool2d}


def _odd(kernel: int) -> int:
    if kernel % 2 == 0:
        raise PydanticCustomError(
            "kernel",
            "must be odd, so that a convolution keeps the size of its pictures",
            {"hint": f"{kernel - 1} or {kernel + 1}"},
        )
    return kernel


Kernel = Annotated[PositiveInt, AfterValidator(_odd)]
BlockWidths = Annotated[tuple[PositiveInt, ...], Field(strict=False, min_length=1)]


def depth(options: Any) -> int:
    """Return the number of hidden layers of a cnn with these options."""
    return int(len(options.widths) * options.convolutions + len(options.dense))


@architectures.register(
    "cnn",
    equation="h_i = dropout(pool(activation(norm(W_i * h_{i-1} + b_i)))), logits = W mean(h_n) + b",
    cite="LeCun, Bottou, Bengio and Haffner 1998, Gradient-based learning applied to document recognition",
    example={"name": "cnn", "widths": [32, 64], "convolutions": 2},
    depth=depth,
    standardize="channel",
)
def cnn(
    shape: tuple[int, ...],
    outputs: int,
    blocks: Blocks,
    /,
    *,
    widths: BlockWidths = (32, 64, 128),
    kernel: Kernel = 3,
    convolutions: PositiveInt = 1,
    pool: Literal["max", "average", "none"] = "max",
    head: Literal["average", "flatten"] = "average",
    dense: Widths = (),
) -> nn.Sequential:
    """Blocks of convolutions, then dense layers: pictures (N, C, H, W) to logits (N, outputs).

    Convolutions have stride 1 and are padded by zeros, so they keep the size of a picture; the pool at the end of each
    block halves it, rounding down. Dropout follows the pool.

    Args:
        shape: of one input sample, (C, H, W).
        outputs: number of logits.
        blocks: the parts that each layer is made of.
        widths: filters in the convolutions of each block.
        kernel: side of the window of a convolution, odd.
        convolutions: how many of them in each block.
        pool: what halves the picture at the end of a block: the max or the average of 2 x 2 pixels, or none.
        head: how pictures become features: each channel's average over the picture, or every pixel of it (flatten).
        dense: widths of dense hidden layers in front of the output.

    Raises:
        SpecError: samples are not pictures, or are too small for so many pools; or a normalization leaves nothing to
            be averaged.
    """
    channels, height, width = picture_shape("cnn", shape)
    halvings = 0 if pool == "none" else len(widths)
    _check_size(height, width, halvings)
    stack = Stack(blocks, hidden=len(widths) * convolutions + len(dense))
    stack.open(channels, dims=2)
    for block, filters in enumerate(widths, start=1):
        for number in range(1, convolutions + 1):
            layer = partial(convolution, channels, filters, kernel, blocks.initialize)
            last = number == convolutions and pool != "none"
            stack.hidden("conv", layer, filters, dims=2, pool={f"pool{block}": POOLS[pool](2)} if last else None)
            channels = filters
    features = channels
    if head == "average":
        stack.add(global_average(blocks, channels, behind_norm=pool != "max"))
    else:
        stack.add({"flatten": nn.Flatten()})
        features *= (height >> halvings) * (width >> halvings)
    _add_dense(stack, features, dense, outputs, blocks)
    return stack.sequential()


def _add_dense(stack: Stack, features: int, widths: tuple[int, ...], outputs: int, blocks: Blocks) -> None:
    for units in widths:
        stack.hidden("dense", partial(dense, features, units, blocks.initialize), units, dims=0)
        features = units
    stack.add({"output": dense(features, outputs, blocks.initialize_output)})


def _check_size(height: int, width: int, halvings: int) -> None:
    possible = min(height, width).bit_length() - 1
    if halvings > possible:
        raise misfit(
            f"model.architecture.widths has {halvings} blocks, each ending in a pool that halves the picture, "
            f"but pictures of {height} x {width} can be halved only {possible} times",
            f"write at most {possible} widths, or pool: none" if possible else "write pool: none",
        )
