"""A small mlp made of named parts, for tests that need one."""

from __future__ import annotations

from typing import Any

from torch import nn

from dnntrain.parts.activations import activations
from dnntrain.parts.architectures import Blocks, architectures
from dnntrain.parts.dropouts import dropouts
from dnntrain.parts.initializers import initializers
from dnntrain.parts.normalizations import normalizations
from dnntrain.training.randomness import generator


def make_mlp(
    shape: tuple[int, ...] = (6,),
    outputs: int = 3,
    hidden: Any = (5, 4),
    *,
    activation: Any = "relu",
    normalization: Any = "none",
    dropout: tuple[Any, ...] = (),
    initializer: str = "he_normal",
    output_initializer: str = "glorot_uniform",
    seed: int = 0,
) -> nn.Sequential:
    """Build an mlp the way an experiment file names its parts."""
    draws = generator(seed, "initialization")

    def initialize(name: str) -> Any:
        choice = initializers.choose(name)
        return lambda weight, fans: choice.build(weight=weight, fans=fans, generator=draws)

    blocks = Blocks(
        activation=activations.choose(activation).build,
        normalization=normalizations.choose(normalization).build(),
        dropouts=[dropouts.choose(each).build() for each in dropout],
        initialize=initialize(initializer),
        initialize_output=initialize(output_initializer),
        initialize_recurrent=initialize("orthogonal"),
    )
    hidden = list(hidden) if isinstance(hidden, tuple) else hidden
    choice = architectures.choose({"name": "mlp", "hidden": hidden})
    model: nn.Sequential = choice.build(shape=shape, outputs=outputs, blocks=blocks)
    return model
