"""The multilayer perceptron: a stack of dense layers."""

from __future__ import annotations

import math
from functools import partial
from typing import Annotated, Any

from pydantic import Field
from torch import nn

from dnntrain.parts.architectures.base import Blocks, Stack, Widths, architectures, dense
from dnntrain.registry import ByShape, Options, PositiveInt


class HiddenStack(Options):
    """Hidden layers of equal width."""

    layers: Annotated[PositiveInt, Field(description="number of hidden layers")]
    units: Annotated[PositiveInt, Field(description="units in each of them")]


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
    stack = Stack(blocks, hidden=len(sizes))
    stack.add({"flatten": nn.Flatten()})
    features = math.prod(shape)
    stack.open(features, dims=0)
    for units in sizes:
        stack.hidden("dense", partial(dense, features, units, blocks.initialize), units, dims=0)
        features = units
    stack.add({"output": dense(features, outputs, blocks.initialize_output)})
    return stack.sequential()
