"""How the weights of a layer are drawn before training.

Each initializer writes into a weight in place, drawing from the generator it is given. With fan_in inputs and fan_out
outputs per unit and fan_avg = (fan_in + fan_out) / 2, the variance of the weights is

    glorot  1 / fan_avg       lecun  1 / fan_in       he  2 / fan_in

`_normal` is a plain normal distribution with that variance (Keras truncates it at two deviations and rescales);
`_uniform` is U(-r, r) with r = sqrt(3 variance). Biases are not initialized here: they start at zero.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from dnntrain.registry import Family

initializers = Family(
    "initializer",
    summary="How the weights of a layer are drawn before training.",
    synonyms={
        "xavier": "glorot_uniform",
        "xavier_normal": "glorot_normal",
        "xavier_uniform": "glorot_uniform",
        "glorot": "glorot_normal or glorot_uniform",
        "kaiming": "he_normal",
        "kaiming_normal": "he_normal",
        "kaiming_uniform": "he_uniform",
        "he": "he_normal or he_uniform",
        "lecun": "lecun_normal or lecun_uniform",
    },
)

GLOROT = "Glorot and Bengio 2010, Understanding the difficulty of training deep feedforward neural networks"
HE = "arXiv:1502.01852"
LECUN = "LeCun, Bottou, Orr and Müller 1998, Efficient BackProp"


@dataclass(frozen=True)
class Fans:
    """Inputs and outputs of one unit of a layer."""

    fan_in: int
    fan_out: int

    @property
    def fan_avg(self) -> float:
        """Their mean."""
        return (self.fan_in + self.fan_out) / 2


@torch.no_grad()
def _normal(weight: Tensor, variance: float, generator: torch.Generator) -> None:
    weight.normal_(0.0, math.sqrt(variance), generator=generator)


@torch.no_grad()
def _uniform(weight: Tensor, variance: float, generator: torch.Generator) -> None:
    limit = math.sqrt(3.0 * variance)
    weight.uniform_(-limit, limit, generator=generator)


@initializers.register("glorot_normal", equation="w ~ N(0, 1 / fan_avg)", cite=GLOROT)
def glorot_normal(weight: Tensor, fans: Fans, generator: torch.Generator, /) -> None:
    """Keep the variance of signals and gradients through linear and tanh-like layers."""
    _normal(weight, 1.0 / fans.fan_avg, generator)


@initializers.register("glorot_uniform", equation="w ~ U(-r, r), r = sqrt(3 / fan_avg)", cite=GLOROT)
def glorot_uniform(weight: Tensor, fans: Fans, generator: torch.Generator, /) -> None:
    """The uniform form of glorot; the default of Keras's layers."""
    _uniform(weight, 1.0 / fans.fan_avg, generator)


@initializers.register("he_normal", equation="w ~ N(0, 2 / fan_in)", cite=HE)
def he_normal(weight: Tensor, fans: Fans, generator: torch.Generator, /) -> None:
    """Make up for the half of the signal that relu removes."""
    _normal(weight, 2.0 / fans.fan_in, generator)


@initializers.register("he_uniform", equation="w ~ U(-r, r), r = sqrt(6 / fan_in)", cite=HE)
def he_uniform(weight: Tensor, fans: Fans, generator: torch.Generator, /) -> None:
    """The uniform form of he."""
    _uniform(weight, 2.0 / fans.fan_in, generator)


@initializers.register("lecun_normal", equation="w ~ N(0, 1 / fan_in)", cite=LECUN)
def lecun_normal(weight: Tensor, fans: Fans, generator: torch.Generator, /) -> None:
    """Keep the variance of the forward signal; what selu needs to normalize itself."""
    _normal(weight, 1.0 / fans.fan_in, generator)


@initializers.register("lecun_uniform", equation="w ~ U(-r, r), r = sqrt(3 / fan_in)", cite=LECUN)
def lecun_uniform(weight: Tensor, fans: Fans, generator: torch.Generator, /) -> None:
    """The uniform form of lecun."""
    _uniform(weight, 1.0 / fans.fan_in, generator)
