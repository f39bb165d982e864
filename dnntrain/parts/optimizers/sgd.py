"""Steps along the gradient or its velocity, the same length for every component."""

from __future__ import annotations

from typing import Any

import torch

from dnntrain.parts.optimizers.base import Groups, fused, optimizers
from dnntrain.registry import Fraction, Positive


def start_velocity(optimizer: torch.optim.Optimizer, *_: Any) -> None:
    """Put a velocity of zero where there is none yet; a hook before each step.

    Under fp16 a first step that overflows is skipped within the fused kernel; PyTorch then goes on with a velocity that
    was never written: whatever the memory held.
    """
    for group in optimizer.param_groups:
        for p in group["params"] if group["momentum"] else ():
            if p.grad is not None and "momentum_buffer" not in optimizer.state[p]:
                optimizer.state[p]["momentum_buffer"] = torch.zeros_like(p)


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
    # The first step leaves dampening out, which a velocity that starts at zero would not.
    in_one_kernel = fused(groups) and not dampening
    optimizer = torch.optim.SGD(
        groups, lr=lr, momentum=momentum, dampening=dampening, nesterov=nesterov, fused=in_one_kernel
    )
    if in_one_kernel:
        optimizer.register_step_pre_hook(start_velocity)
    return optimizer
