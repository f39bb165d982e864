"""Networks of every architecture made of named parts, small enough for tests."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from dnntrain.parts.activations import activations, learn_channels
from dnntrain.parts.architectures import Blocks, architectures
from dnntrain.parts.dropouts import dropouts
from dnntrain.parts.initializers import initializers
from dnntrain.parts.normalizations import normalizations
from dnntrain.training.randomness import generator

PICTURE = (3, 8, 8)
BATCH = {"name": "batch", "position": "before"}

# One small network of each architecture, for pictures of 3 x 8 x 8.
SMALL: dict[str, dict[str, Any]] = {
    "mlp": {"hidden": [12, 10]},
    "cnn": {"widths": [6, 8], "convolutions": 2, "dense": [10]},
    "resnet": {"depth": 8, "width": 4},
    "wide_resnet": {"depth": 10, "widen": 1},
    "rnn": {"units": 8, "layers": 2},
    "lstm": {"units": 8, "layers": 2},
    "gru": {"units": 8, "layers": 2},
    "vit": {"patch": 4, "width": 8, "heads": 2, "layers": 2, "mlp_ratio": 2.0},
    "torchvision": {"model": "shufflenet_v2_x0_5"},
}


def small(name: str) -> dict[str, Any]:
    return {"name": name, **SMALL[name]}


def usual(architecture: Any, part: str, otherwise: str) -> str:
    """Return what `auto` picks for an architecture that has a custom of its own."""
    traits = architectures.choose(architecture).entry.traits
    return traits[part] or otherwise


def parts(
    activation: Any = "relu",
    normalization: Any = "none",
    dropout: tuple[Any, ...] = (),
    initializer: Any = "he_normal",
    output_initializer: Any = "glorot_uniform",
    *,
    seed: int = 0,
) -> Blocks:
    draws = generator(seed, "initialization")

    def initialize(chosen: Any) -> Any:
        choice = initializers.choose(chosen)
        return lambda weight, fans: choice.build(weight=weight, fans=fans, generator=draws)

    return Blocks(
        activation=activations.choose(activation).build,
        normalization=normalizations.choose(normalization).build(),
        dropouts=[dropouts.choose(each).build() for each in dropout],
        initialize=initialize(initializer),
        initialize_output=initialize(output_initializer),
        initialize_recurrent=initialize("orthogonal"),
    )


def network(
    architecture: Any,
    shape: tuple[int, ...] = PICTURE,
    outputs: int = 3,
    *,
    activation: Any = None,
    normalization: Any = None,
    **others: Any,
) -> nn.Sequential:
    """Build a network the way an experiment file names its parts; what is left out is what `auto` picks."""
    blocks = parts(
        activation or usual(architecture, "activation", "relu"),
        normalization or usual(architecture, "normalization", "none"),
        **others,
    )
    model: nn.Sequential = architectures.choose(architecture).build(shape=shape, outputs=outputs, blocks=blocks)
    learn_channels(model, torch.zeros(1, *shape))
    return model


def parameter_count(architecture: Any, shape: tuple[int, ...] = (3, 32, 32), normalization: Any = BATCH) -> int:
    """Count the parameters of a network that is never filled with numbers."""
    made = parts(normalization=normalization)
    unfilled = Blocks(made.activation, made.normalization, [], *(3 * [lambda w, f: None]))
    with torch.device("meta"):
        model = architectures.choose(architecture).build(shape=shape, outputs=10, blocks=unfilled)
    return sum(p.numel() for p in model.parameters())
