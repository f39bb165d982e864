"""Dropout: noise inside the network in training, drawn from torch's global generator; nothing in evaluation."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from torch import nn

from dnntrain.registry import Family, Fraction

dropouts = Family(
    "dropout",
    summary="Noise inside the network in training.",
    synonyms={"alpha_dropout": "alpha", "alphadropout": "alpha"},
)

Layers = Literal["all", "hidden", "input", "last"]


@dataclass(frozen=True)
class Dropout:
    """A dropout and the layers that it follows.

    Attributes:
        make: builds the layer for so many spatial dimensions: 0 for (N, C), 1 for (N, C, T), 2 for (N, C, H, W).
        layers: `hidden`, after each hidden layer; `last`, after the last one, before the output; `input`, at the
            network's input; `all`, at the input and after each hidden layer.
    """

    make: Callable[[int], nn.Module]
    layers: Layers

    def at_input(self) -> bool:
        """Whether one stands at the network's input."""
        return self.layers in ("input", "all")

    def after_hidden(self, layer: int, count: int) -> bool:
        """Whether one stands after hidden layer number `layer` (from 1) of `count`."""
        return self.layers in ("hidden", "all") or (self.layers == "last" and layer == count)


@dropouts.register(
    "dropout",
    equation="z m / (1 - rate), m ~ Bernoulli(1 - rate)",
    cite="arXiv:1207.0580",
    example={"name": "dropout", "rate": 0.2},
)
def dropout(*, rate: Fraction, layers: Layers = "hidden") -> Dropout:
    """Silence each unit with probability `rate`; the rest are scaled up, so that the mean is kept.

    Args:
        rate: probability of silencing a unit.
        layers: which layers it follows: all, hidden, input or last.
    """
    return Dropout(lambda dims: nn.Dropout(rate), layers)


@dropouts.register(
    "alpha",
    equation="a (z m + alpha' (1 - m)) + b, m ~ Bernoulli(1 - rate), alpha' = -1.7581",
    cite="arXiv:1706.02515",
    example={"name": "alpha", "rate": 0.1, "layers": "last"},
)
def alpha(*, rate: Fraction, layers: Layers = "hidden") -> Dropout:
    """Dropout for selu: units go to selu's lower bound, then a and b put mean and variance back.

    Args:
        rate: probability of silencing a unit.
        layers: which layers it follows: all, hidden, input or last.
    """
    return Dropout(lambda dims: nn.AlphaDropout(rate), layers)
