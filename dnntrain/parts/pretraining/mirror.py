"""Decoders: the layers of a network turned round, from what it makes of a sample back to the sample."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional
from typing_extensions import override

from dnntrain.errors import UsageError
from dnntrain.parts.activations import learn_channels
from dnntrain.parts.architectures import Blocks
from dnntrain.parts.architectures.base import dense
from dnntrain.parts.initializers import fans_of
from dnntrain.parts.pretraining.base import shapes_in

Shape = tuple[int, ...]


class TransposedDense(nn.Module):
    """Go back through a dense layer by its own weights: (N, out) to (N, in), W^T h + b.

    Args:
        layer: whose weights are used.
    """

    def __init__(self, layer: nn.Linear) -> None:
        super().__init__()
        # In a tuple the layer is no part of this module, so that its weights are not saved twice.
        self._layer = (layer,)
        self.bias = nn.Parameter(torch.zeros(layer.in_features))

    @override
    def forward(self, h: Tensor) -> Tensor:
        return functional.linear(h, self._layer[0].weight.t(), self.bias)


class TransposedConvolution(nn.Module):
    """Go back through a convolution: (N, out, H', W') to (N, in, H, W), the transposed convolution.

    Args:
        layer: the convolution.
        behind: shape of what it gives.
        front: shape of what it takes.
        blocks: draws the weights.
        tied: use the weights of the layer instead of own ones.
    """

    weight: nn.Parameter | None

    def __init__(self, layer: nn.Conv2d, behind: Shape, front: Shape, blocks: Blocks, *, tied: bool) -> None:
        super().__init__()
        self._layer = (layer,)
        self._stride = (layer.stride[0], layer.stride[1])
        # Convolutions here are padded by numbers, never by words.
        self._padding = (int(layer.padding[0]), int(layer.padding[1]))
        sides = zip(front[1:], behind[1:], layer.kernel_size, self._stride, self._padding, strict=True)
        high, wide = (size - ((small - 1) * step - 2 * pad + kernel) for size, small, kernel, step, pad in sides)
        self._missing = (high, wide)
        self.bias = nn.Parameter(torch.zeros(layer.in_channels))
        self.register_parameter("weight", None)
        if not tied:
            # As of a convolution that leads back: its inputs are what the layer gives.
            drawn = torch.empty_like(layer.weight.transpose(0, 1), memory_format=torch.contiguous_format)
            blocks.initialize(drawn, fans_of(drawn.shape, "conv"))
            self.weight = nn.Parameter(drawn.detach().transpose(0, 1).contiguous())

    @override
    def forward(self, h: Tensor) -> Tensor:
        weight = self._layer[0].weight if self.weight is None else self.weight
        return functional.conv_transpose2d(h, weight, self.bias, self._stride, self._padding, self._missing)


def mirror(
    layers: Mapping[str, nn.Module], shape: Shape, blocks: Blocks, *, tied: bool = False, name: str
) -> nn.Sequential:
    """Return the layers of a stack turned round, so that they lead from its outputs back to its inputs.

    A dense layer becomes one from its outputs to its inputs; a convolution a transposed one; a pool repeats its
    values; an average over the picture, and flattening what follows, becomes a dense layer to the picture. The
    activation follows each of them but the last, whose outputs are free, as standardized inputs are. Normalization and
    dropout are left out.

    Args:
        layers: from the bottom up.
        shape: of one sample in front of them.
        blocks: the parts that layers are made of.
        tied: use the transposed weights of the layers instead of own ones.
        name: of the way of pretraining, for the message.

    Raises:
        UsageError: one of the layers cannot be turned round.
    """
    shapes = shapes_in(layers, shape)
    decoder: OrderedDict[str, nn.Module] = OrderedDict()
    weighted = 0
    for (own, layer), front, behind in reversed(list(zip(layers.items(), shapes[:-1], shapes[1:], strict=True))):
        turned = _turned(layer, front, behind, blocks, tied=tied)
        if turned is None:
            if front == behind and not any(p.ndim > 1 for p in layer.parameters()):
                continue
            raise UsageError(
                f"{name} turns dense layers and convolutions round, and cannot do so with layer {own} "
                f"({type(layer).__name__}); masked, contrastive and max_margin take any layers"
            )
        if weighted and any(True for _ in turned.parameters()):
            decoder[f"activation{weighted}"] = blocks.activation()
        decoder[own] = turned
        weighted += any(True for _ in turned.parameters())
    made = nn.Sequential(decoder)
    learn_channels(made, torch.zeros(1, *shapes[-1]))
    return made


def _turned(layer: nn.Module, front: Shape, behind: Shape, blocks: Blocks, *, tied: bool) -> nn.Module | None:
    """Return a layer turned round; None for one that has no inverse of any kind, or needs none."""
    if isinstance(layer, nn.Linear) and len(front) == 1:
        if tied:
            return TransposedDense(layer)
        return dense(layer.out_features, layer.in_features, blocks.initialize)
    if type(layer) is nn.Conv2d and layer.groups == 1 and set(layer.dilation) == {1}:
        return TransposedConvolution(layer, behind, front, blocks, tied=tied)
    if isinstance(layer, nn.Flatten):
        return nn.Unflatten(1, front)
    if isinstance(layer, nn.MaxPool2d | nn.AvgPool2d):
        return nn.Upsample(size=front[1:], mode="nearest")
    if isinstance(layer, nn.AdaptiveAvgPool2d):
        values = front[0] * front[1] * front[2]
        spread = dense(front[0] * behind[1] * behind[2], values, blocks.initialize)
        return nn.Sequential(nn.Flatten(), spread, nn.Unflatten(1, front))
    return None
