"""The vision transformer: a picture as a set of patches that attend to each other."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional
from typing_extensions import override

from dnntrain.parts.architectures.base import (
    Blocks,
    FeaturesFirst,
    Initialize,
    PerStep,
    architectures,
    dense,
    draw_stacked,
    misfit,
    over_sequences,
    picture_shape,
)
from dnntrain.parts.initializers import Fans
from dnntrain.parts.layers import Table
from dnntrain.registry import Positive, PositiveInt

Gate = Literal["none", "glu", "geglu", "swiglu"]
GATES: dict[str, type[nn.Module]] = {"glu": nn.Sigmoid, "geglu": nn.GELU, "swiglu": nn.SiLU}
POSITION_DEVIATION = 0.02


class Patches(nn.Conv2d):
    """Cut a picture into patches and map each one linearly: (N, C, H, W) to (N, T, width), row by row."""

    def __init__(self, channels: int, width: int, patch: int, initialize: Initialize) -> None:
        super().__init__(channels, width, patch, stride=patch)
        # Patches do not overlap, so each pixel reaches `width` outputs only.
        initialize(self.weight, Fans(channels * patch**2, width))
        if self.bias is not None:
            nn.init.zeros_(self.bias)

    @override
    def forward(self, input: Tensor) -> Tensor:
        return super().forward(input).flatten(2).transpose(1, 2)


class Positions(Table):
    """Add a learned vector to each patch, by its place: (N, T, width) to the same."""

    def __init__(self, patches: int, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(patches, width))
        nn.init.normal_(self.weight, std=POSITION_DEVIATION)

    @override
    def forward(self, x: Tensor) -> Tensor:
        return x + self.weight


class Attention(nn.Module):
    """Multi-head self-attention: softmax(Q K^T / sqrt(width / heads)) V in each head; (N, T, width) to the same."""

    def __init__(self, width: int, heads: int, initialize: Initialize) -> None:
        super().__init__()
        self._heads = heads
        self.query_key_value = nn.Linear(width, 3 * width)
        draw_stacked(self.query_key_value.weight, 3, initialize)
        nn.init.zeros_(self.query_key_value.bias)
        self.projection = dense(width, width, initialize)

    @override
    def forward(self, x: Tensor) -> Tensor:
        projected: Tensor = self.query_key_value(x)
        # (N, T, 3 width) to three of (N, heads, T, width / heads)
        query, key, value = torch.unflatten(projected, -1, (3, self._heads, -1)).permute(2, 0, 3, 1, 4).unbind(0)
        attended = functional.scaled_dot_product_attention(query, key, value)
        mixed: Tensor = self.projection(attended.transpose(1, 2).flatten(2))
        return mixed


class Gated(nn.Module):
    """One half gates the other: activation(a) b for (a, b) = z; (N, 2 F) to (N, F)."""

    def __init__(self, activation: nn.Module) -> None:
        super().__init__()
        self.activation = activation

    @override
    def forward(self, z: Tensor) -> Tensor:
        gate, value = z.chunk(2, dim=-1)
        gated: Tensor = self.activation(gate) * value
        return gated


class Encoder(nn.Module):
    """A block: x + attention(norm x), then the same with a two-layer mlp on each patch; (N, T, width) to the same.

    Args:
        width: features of a patch.
        heads: of the attention.
        hidden: units in the hidden layer of the mlp.
        gate: of that layer.
        blocks: the parts that it is made of.
    """

    def __init__(self, width: int, heads: int, hidden: int, gate: Gate, blocks: Blocks) -> None:
        super().__init__()
        attend = OrderedDict(over_sequences(PerStep, blocks.norm("norm", width, 0)))
        attend["attention"] = Attention(width, heads, blocks.initialize)
        attend.update(over_sequences(FeaturesFirst, blocks.branch_dropouts("dropout", 1)))
        self.attend = nn.Sequential(attend)
        layers = OrderedDict(blocks.norm("norm", width, 0))
        layers.update(_hidden_layer(width, hidden, gate, blocks))
        layers["dense2"] = dense(hidden, width, blocks.initialize)
        transform: OrderedDict[str, nn.Module] = OrderedDict(mlp=PerStep(nn.Sequential(layers)))
        transform.update(over_sequences(FeaturesFirst, blocks.branch_dropouts("dropout", 1)))
        self.transform = nn.Sequential(transform)

    @override
    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attend(x)
        transformed: Tensor = x + self.transform(x)
        return transformed


def _hidden_layer(width: int, hidden: int, gate: Gate, blocks: Blocks) -> dict[str, nn.Module]:
    if gate == "none":
        return {"dense1": dense(width, hidden, blocks.initialize), "activation": blocks.activation()}
    both = nn.Linear(width, 2 * hidden)
    draw_stacked(both.weight, 2, blocks.initialize)
    nn.init.zeros_(both.bias)
    return {"dense1": both, "gate": Gated(GATES[gate]())}


class MeanOverPatches(nn.Module):
    """The mean patch: (N, T, width) to (N, width)."""

    @override
    def forward(self, x: Tensor) -> Tensor:
        return x.mean(dim=1)


def depth(options: Any) -> int:
    """Return the number of hidden layers: the patches', and in each block the attention's and the mlp's."""
    return 1 + 2 * int(options.layers)


def hidden_units(width: int, mlp_ratio: float, gate: Gate) -> int:
    """Return the units in the hidden layer of a block's mlp: of a gated one 2/3 as many, which has a second matrix."""
    return max(1, round(mlp_ratio * width * (1.0 if gate == "none" else 2 / 3)))


@architectures.register(
    "vit",
    equation="h = h + attention(norm(h)), h = h + W_2 activation(W_1 norm(h)), logits = W mean(norm(h_n)) + b",
    cite="arXiv:2010.11929; arXiv:2205.01580 for the mean over patches; arXiv:2002.05202 for the gates",
    example={"name": "vit", "patch": 4, "width": 64, "layers": 2},
    depth=depth,
    standardize="channel",
    activation="gelu",
    normalization="layer",
)
def vit(
    shape: tuple[int, ...],
    outputs: int,
    blocks: Blocks,
    /,
    *,
    patch: PositiveInt = 4,
    width: PositiveInt = 128,
    heads: PositiveInt = 4,
    layers: PositiveInt = 6,
    mlp_ratio: Positive = 4.0,
    gate: Gate = "none",
) -> nn.Sequential:
    """A small vision transformer: pictures (N, C, H, W) to logits (N, outputs).

    Patches are embedded linearly, get a learned position (drawn from N(0, 0.02^2)), go through blocks of attention and
    a two-layer mlp with the normalization in front of each, and are averaged after a last normalization; the paper
    reads a class token instead.

    `activation: auto` is gelu here and `normalization: auto` is layer. A normalization must look at each patch by
    itself (layer, rms, group), so batch and instance are refused, and so is `position: after`; `input` puts another one
    at the picture. Dropout at the input follows the positions, on hidden layers it stands at the end of each branch,
    where it leaves the shortcut alone, and `layers: last` drops features in front of the output; spatial dropout
    silences a feature in all patches. There is no dropout of attention weights.

    Args:
        shape: of one input sample, (C, H, W).
        outputs: number of logits.
        blocks: the parts that each layer is made of.
        patch: side of a patch in pixels; divides the height and the width of the pictures.
        width: features of a patch.
        heads: of each attention; divides the width.
        layers: number of blocks.
        mlp_ratio: units in the hidden layer of a block's mlp, as a multiple of the width.
        gate: none, or what takes the activation's place in the mlp: glu (sigmoid(a) b), geglu (gelu(a) b) or
            swiglu (swish(a) b); the hidden layer then has 2/3 of its units, which keeps the number of weights.

    Raises:
        SpecError: samples are not pictures, patches or heads do not come out even, or the normalization does not fit.
    """
    channels, height, side = picture_shape("vit", shape)
    _check(height, side, patch, width, heads, blocks)
    hidden = hidden_units(width, mlp_ratio, gate)
    network: OrderedDict[str, nn.Module] = OrderedDict(blocks.input_norm(channels, 2))
    network["patches"] = Patches(channels, width, patch, blocks.initialize)
    network["positions"] = Positions((height // patch) * (side // patch), width)
    network.update(over_sequences(FeaturesFirst, blocks.input_dropouts(1)))
    for number in range(1, layers + 1):
        network[f"block{number}"] = Encoder(width, heads, hidden, gate, blocks)
    network.update(over_sequences(PerStep, blocks.norm("norm", width, 0)))
    network["mean"] = MeanOverPatches()
    network.update(blocks.final_dropouts())
    network["output"] = dense(width, outputs, blocks.initialize_output)
    return nn.Sequential(network)


def _check(height: int, side: int, patch: int, width: int, heads: int, blocks: Blocks) -> None:
    if height % patch or side % patch:
        fitting = [n for n in range(1, min(height, side) + 1) if height % n == 0 and side % n == 0]
        raise misfit(
            f"model.architecture.patch is {patch}, which does not divide pictures of {height} x {side} evenly",
            f"possible: {', '.join(map(str, fitting))}",
        )
    if width % heads:
        fitting = [n for n in range(1, width + 1) if width % n == 0]
        raise misfit(
            f"model.architecture.heads is {heads}, which does not divide the width of {width} evenly",
            f"possible: {', '.join(map(str, fitting))}",
        )
    norm = blocks.normalization
    if norm.needs_batch or norm.needs_positions:
        raise misfit(
            "model.normalization must look at each patch by itself in a vit, not across the batch or across patches",
            "write normalization: layer, or rms; none takes it away",
        )
    if norm.make is not None and norm.position == "after":
        raise misfit(
            "model.normalization.position is after, but in a vit it stands in front of attention and mlp",
            "leave position out",
        )
