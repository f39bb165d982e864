"""Activations once more, written from their equations in NumPy, with their derivatives."""

from __future__ import annotations

from collections.abc import Callable
from math import erf, pi, sqrt
from typing import Any

import numpy as np

Function = Callable[[np.ndarray], np.ndarray]

# The constants of the paper on selu, to the digits it gives.
ALPHA, SCALE = 1.6732632423543772848170429916717, 1.0507009873554804934193349852946


def gate(z: np.ndarray, beta: float = 1.0) -> np.ndarray:
    return 1 / (1 + np.exp(-beta * z))


def swish_slope(z: np.ndarray, beta: float = 1.0) -> np.ndarray:
    return gate(z, beta) + beta * z * gate(z, beta) * (1 - gate(z, beta))


def leaky(slope: float) -> tuple[Function, Function]:
    return lambda z: np.where(z > 0, z, slope * z), lambda z: np.where(z > 0, 1.0, slope)


def elu(alpha: float) -> tuple[Function, Function]:
    return (
        lambda z: np.where(z > 0, z, alpha * np.expm1(np.minimum(z, 0))),
        lambda z: np.where(z > 0, 1.0, alpha * np.exp(np.minimum(z, 0))),
    )


def normal_share(z: np.ndarray) -> np.ndarray:
    return np.array([(1 + erf(value / sqrt(2))) / 2 for value in z])


def gelu_tanh(z: np.ndarray) -> np.ndarray:
    return z / 2 * (1 + np.tanh(sqrt(2 / pi) * (z + 0.044715 * z**3)))


def gelu_tanh_slope(z: np.ndarray) -> np.ndarray:
    bend = np.tanh(sqrt(2 / pi) * (z + 0.044715 * z**3))
    return (1 + bend) / 2 + z / 2 * (1 - bend**2) * sqrt(2 / pi) * (1 + 3 * 0.044715 * z**2)


def softplus(z: np.ndarray, beta: float = 1.0) -> np.ndarray:
    return np.log1p(np.exp(beta * z)) / beta


def mish_slope(z: np.ndarray) -> np.ndarray:
    bend = np.tanh(softplus(z))
    return bend + z * (1 - bend**2) * gate(z)


def hardswish_slope(z: np.ndarray) -> np.ndarray:
    return np.select([z <= -3, z >= 3], [0.0, 1.0], (2 * z + 3) / 6)


# Each row: what a file writes, the value, and the derivative, as functions of each value by itself; those that draw
# at random as they are in evaluation.
FORMULAS: list[tuple[Any, Function, Function]] = [
    ("identity", lambda z: z, np.ones_like),
    ("sigmoid", gate, lambda z: gate(z) * (1 - gate(z))),
    ("tanh", np.tanh, lambda z: 1 - np.tanh(z) ** 2),
    ("relu", *leaky(0.0)),
    ("leaky_relu", *leaky(0.01)),
    ({"name": "leaky_relu", "negative_slope": 0.3}, *leaky(0.3)),
    ("rrelu", *leaky(11 / 48)),
    ({"name": "rrelu", "lower": 0.1, "upper": 0.5}, *leaky(0.3)),
    ("prelu", *leaky(0.25)),
    ({"name": "prelu", "init": 0.1, "per_channel": True}, *leaky(0.1)),
    ("elu", *elu(1.0)),
    ({"name": "elu", "alpha": 0.4}, *elu(0.4)),
    ("selu", lambda z: SCALE * elu(ALPHA)[0](z), lambda z: SCALE * elu(ALPHA)[1](z)),
    (
        "gelu",
        lambda z: z * normal_share(z),
        lambda z: normal_share(z) + z * np.exp(-(z**2) / 2) / sqrt(2 * pi),
    ),
    ({"name": "gelu", "approximate": "tanh"}, gelu_tanh, gelu_tanh_slope),
    ("swish", lambda z: z * gate(z), swish_slope),
    ({"name": "swish", "beta": 1.7}, lambda z: z * gate(z, 1.7), lambda z: swish_slope(z, 1.7)),
    (
        {"name": "swish", "beta": 0.3, "learnable": True},
        lambda z: z * gate(z, 0.3),
        lambda z: swish_slope(z, 0.3),
    ),
    ("mish", lambda z: z * np.tanh(softplus(z)), mish_slope),
    ("softplus", softplus, gate),
    ({"name": "softplus", "beta": 2.0}, lambda z: softplus(z, 2.0), lambda z: gate(z, 2.0)),
    ("hardswish", lambda z: z * np.clip(z + 3, 0, 6) / 6, hardswish_slope),
    ("relu6", lambda z: np.clip(z, 0, 6), lambda z: np.where((z > 0) & (z < 6), 1.0, 0.0)),
]

# Softmax mixes channels, so it has no row above.
MIXING = {"softmax"}


def written_name(written: Any) -> str:
    return written if isinstance(written, str) else str(written["name"])
