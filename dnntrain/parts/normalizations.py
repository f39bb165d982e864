"""Normalization layers: what they are, where they stand, and whether they make the bias before them redundant."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field
from torch import nn

from dnntrain.registry import Family, Positive

normalizations = Family(
    "normalization",
    summary="Layers that normalize signals inside the network.",
    synonyms={"batchnorm": "batch", "batch_norm": "batch", "bn": "batch"},
)


@dataclass(frozen=True)
class Normalization:
    """A normalization and its place.

    Attributes:
        make: builds the layer for so many features and so many spatial dimensions: 0 for (N, C), 1 for (N, C, T), 2 for
            (N, C, H, W); None where nothing is to be built.
        position: before or after the activation.
        at_input: whether one stands at the network's input too.
        drops_bias: whether it subtracts a mean per feature, so that a bias right before it has no effect.
        needs_batch: whether it takes statistics over the batch, so that one sample is not enough.
    """

    make: Callable[[int, int], nn.Module] | None
    position: Literal["before", "after"] = "before"
    at_input: bool = False
    drops_bias: bool = False
    needs_batch: bool = False


@normalizations.register("none", equation="z", cite="none")
def none() -> Normalization:
    """No normalization."""
    return Normalization(None)


@normalizations.register(
    "batch",
    equation="gamma (z - mean_B) / sqrt(var_B + eps) + beta",
    cite="arXiv:1502.03167",
    example={"name": "batch", "position": "before", "momentum": 0.1},
)
def batch(
    *,
    position: Literal["before", "after"] = "before",
    momentum: Annotated[float, Field(gt=0, le=1)] = 0.1,
    eps: Positive = 1e-5,
    affine: bool = True,
    input: bool = False,
) -> Normalization:
    """Standardize each feature over the batch in training, by running statistics in evaluation.

    The batch is normalized by its population variance, while the running variance is the unbiased one, as PyTorch has
    it (Keras keeps the population form). `momentum` is PyTorch's: running = (1 - momentum) running + momentum batch,
    so Keras's 0.99 is 0.01 here. Before the activation, the layer in front has no bias: beta takes its place.

    Args:
        position: before or after the activation.
        momentum: weight of the newest batch in the running statistics.
        eps: added to the variance.
        affine: learn gamma and beta.
        input: put one at the network's input as well.
    """
    kinds = (nn.BatchNorm1d, nn.BatchNorm1d, nn.BatchNorm2d)
    return Normalization(
        lambda features, dims: kinds[dims](features, eps=eps, momentum=momentum, affine=affine),
        position=position,
        at_input=input,
        drops_bias=affine,
        needs_batch=True,
    )
