"""What every architecture is given, and what the family wants to know of each."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from torch import Tensor, nn

from dnntrain.parts.dropouts import Dropout
from dnntrain.parts.initializers import Fans
from dnntrain.parts.normalizations import Normalization
from dnntrain.registry import Family, Options

architectures = Family(
    "architecture",
    summary="Networks.",
    traits={"depth": None, "standardize": "feature"},
    synonyms={"dense": "mlp", "feedforward": "mlp", "fully_connected": "mlp", "dnn": "mlp"},
)
"""Traits: `depth`, a function from the options to the number of hidden layers, on which defaults depend; `standardize`,
how its inputs are standardized unless the file says otherwise."""

Depth = Callable[[Options], int]


@dataclass(frozen=True)
class Blocks:
    """The parts that a network is made of, chosen by the experiment file.

    Attributes:
        activation: builds the activation of a hidden layer.
        normalization: what normalizes, and where.
        dropouts: what drops out, and where.
        initialize: draws the weights of a hidden layer, in place.
        initialize_output: draws the weights of the output layer, in place.
    """

    activation: Callable[[], nn.Module]
    normalization: Normalization
    dropouts: Sequence[Dropout]
    initialize: Callable[[Tensor, Fans], None]
    initialize_output: Callable[[Tensor, Fans], None]
