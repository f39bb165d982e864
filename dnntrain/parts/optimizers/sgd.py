"""Steps along the gradient or its velocity, the same length for every component."""

from __future__ import annotations

import torch

from dnntrain.parts.optimizers.base import Groups, fused, optimizers
from dnntrain.registry import Fraction, Positive


@optimizers.register(
    "sgd",
    equation="b = momentum b + (1 - dampening) g; w -= lr b, or lr (g + momentum b) with nesterov",
    cite="Polyak 1964; Sutskever et al. 2013, On the importance of initialization and momentum",
    example={"name": "sgd", "lr": 0.01, "momentum": 0.9, "nesterov": True},
    elementwise=True,
)
def sgd(
    groups: Groups,
    /,
    *,
    lr: Positive = 1e-3,
    momentum: Fraction = 0.0,
    dampening: Fraction = 0.0,
    nesterov: bool = False,
) -> torch.optim.Optimizer:
    """Gradient descent, plain, with momentum, or with Nesterov's.

    The learning rate multiplies the velocity, as in PyTorch; Keras and the textbook multiply the gradient on its way
    into the velocity, which differs when the learning rate changes.

    Args:
        groups: parameters with the options that are their own.
        lr: learning rate.
        momentum: share of the velocity that is kept.
        dampening: share of the gradient that is kept out of the velocity.
        nesterov: look ahead along the velocity; needs momentum and no dampening.
    """
    return torch.optim.SGD(
        groups, lr=lr, momentum=momentum, dampening=dampening, nesterov=nesterov, fused=fused(groups)
    )
