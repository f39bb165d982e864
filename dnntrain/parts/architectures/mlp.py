"""The multilayer perceptron: a stack of dense layers."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable
from typing import Annotated, Any

from pydantic import Field
from torch import Tensor, nn

from dnntrain.parts.architectures.base import Blocks, architectures
from dnntrain.parts.initializers import Fans
from dnntrain.registry import ByShape, Options, PositiveInt


class HiddenStack(Options):
    """Hidden layers of equal width."""

    layers: Annotated[PositiveInt, Field(description="number of hidden layers")]
    units: Annotated[PositiveInt, Field(description="units in each of them")]


Widths = Annotated[tuple[PositiveInt, ...], Field(strict=False)]
Hidden = Annotated[tuple[int, ...] | HiddenStack, ByShape(sequence=Widths, mapping=HiddenStack)]


def widths(hidden: tuple[int, ...] | HiddenStack) -> tuple[int, ...]:
    """Return the width of each hidden layer."""
    return (hidden.units,) * hidden.layers if isinstance(hidden, HiddenStack) else hidden


def depth(options: Any) -> int:
    """Return the number of hidden layers of an mlp with these options."""
    return len(widths(options.hidden))


@architectures.register(
    "mlp",
    equation="h_i = dropout(activation(norm(W_i h_{i-1} + b_i))), logits = W h_n + b",
    cite="Rumelhart, Hinton and Williams 1986, Learning representations by back-propagating errors",
    example={"name": "mlp", "hidden": [300, 100]},
    depth=depth,
    standardize="feature",
)
def mlp(shape: tuple[int, ...], outputs: int, blocks: Blocks, /, *, hidden: Hidden) -> nn.Sequential:
    """Dense layers on flattened inputs: (N, ...) to logits (N, outputs).

    Args:
        shape: of one input sample.
        outputs: number of logits.
        blocks: the parts that each layer is made of.
        hidden: widths of the hidden layers, `[300, 100]`, or `{layers: 20, units: 100}`; `[]` is a linear model.
    """
    sizes = widths(hidden)
    norm = blocks.normalization
    layers: OrderedDict[str, nn.Module] = OrderedDict(flatten=nn.Flatten())
    features = math.prod(shape)
    if norm.make is not None and norm.at_input:
        layers["input_norm"] = norm.make(features, 0)
    for number, drop in enumerate(d for d in blocks.dropouts if d.at_input()):
        layers[_numbered("input_dropout", number)] = drop.make(0)
    for i, units in enumerate(sizes, start=1):
        normed_before = norm.position == "before"
        bias = not (normed_before and norm.drops_bias)
        layers[f"dense{i}"] = _dense(features, units, blocks.initialize, bias=bias)
        if norm.make is not None and normed_before:
            layers[f"norm{i}"] = norm.make(units, 0)
        layers[f"activation{i}"] = blocks.activation()
        if norm.make is not None and norm.position == "after":
            layers[f"norm{i}"] = norm.make(units, 0)
        for number, drop in enumerate(d for d in blocks.dropouts if d.after_hidden(i, len(sizes))):
            layers[_numbered(f"dropout{i}", number)] = drop.make(0)
        features = units
    layers["output"] = _dense(features, outputs, blocks.initialize_output, bias=True)
    return nn.Sequential(layers)


def _dense(features: int, units: int, initialize: Callable[[Tensor, Fans], None], *, bias: bool) -> nn.Linear:
    """Return a dense layer with its weights drawn and its bias, if it has one, zero."""
    layer = nn.Linear(features, units, bias=bias)
    initialize(layer.weight, Fans(features, units))
    if bias:
        nn.init.zeros_(layer.bias)
    return layer


def _numbered(name: str, number: int) -> str:
    return name if number == 0 else f"{name}_{number + 1}"
