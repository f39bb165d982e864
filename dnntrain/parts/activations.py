"""Nonlinearities between layers; all keep the shape of their input.

The trait `initializer` is the scheme that `initializer: auto` picks for the layer before the activation.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from typing_extensions import override

from dnntrain.registry import Family, Positive

activations = Family(
    "activation",
    summary="Nonlinearities between layers.",
    traits={"initializer": "he_normal"},
    synonyms={"silu": "swish", "linear": "identity", "none": "identity"},
)


class Swish(nn.Module):
    """z sigmoid(beta z), with beta fixed or learned (one beta for the layer)."""

    def __init__(self, beta: float, *, learnable: bool) -> None:
        super().__init__()
        value = torch.tensor(beta)
        if learnable:
            self.beta = nn.Parameter(value)
        else:
            self.register_buffer("beta", value, persistent=False)

    @override
    def forward(self, z: Tensor) -> Tensor:
        return z * torch.sigmoid(self.beta * z)


@activations.register("identity", equation="z", cite="none: the linear layer itself", initializer="glorot_normal")
def identity() -> nn.Module:
    """No nonlinearity: a deep stack of these is still a linear model."""
    return nn.Identity()


@activations.register(
    "sigmoid", equation="1 / (1 + exp(-z))", cite="Rumelhart et al. 1986", initializer="glorot_normal"
)
def sigmoid() -> nn.Module:
    """Squash to (0, 1); saturates on both sides, so gradients vanish in deep stacks."""
    return nn.Sigmoid()


@activations.register(
    "tanh",
    equation="(exp(z) - exp(-z)) / (exp(z) + exp(-z))",
    cite="Efficient BackProp 1998",
    initializer="glorot_normal",
)
def tanh() -> nn.Module:
    """Squash to (-1, 1); centred on zero, but saturates."""
    return nn.Tanh()


@activations.register("relu", equation="max(0, z)", cite="Nair and Hinton 2010")
def relu() -> nn.Module:
    """Cut at zero: fast, does not saturate for positive inputs; a unit that is always negative is dead."""
    return nn.ReLU()


@activations.register("swish", equation="z sigmoid(beta z)", cite="arXiv:1710.05941")
def swish(*, beta: Positive = 1.0, learnable: bool = False) -> nn.Module:
    """Smooth, non-monotonic ReLU; SiLU when beta is 1.

    Args:
        beta: steepness of the gate; relu as it grows, z / 2 as it goes to 0.
        learnable: train beta, one for each layer.
    """
    return Swish(beta, learnable=learnable) if learnable or beta != 1.0 else nn.SiLU()


@activations.register(
    "selu",
    equation="1.0507 z if z > 0 else 1.7581 (exp(z) - 1)",
    cite="arXiv:1706.02515",
    initializer="lecun_normal",
)
def selu() -> nn.Module:
    """Self-normalizing: keeps mean 0 and variance 1, given lecun_normal, standardized inputs and plain dense layers."""
    return nn.SELU()
