"""Normalization layers: what they are, where they stand, and whether they make the bias before them redundant.

With z of shape (N, C), (N, C, T) or (N, C, H, W), each subtracts a mean and divides by a deviation taken over

    batch     N and positions, for each channel: one sample alone has no statistics
    instance  positions, for each sample and channel
    group     positions and the channels of a group, for each sample
    layer     channels, for each sample and position
    rms       as layer, but without subtracting a mean

Batch and instance subtract a mean for each channel, and so does group with a group for each channel: a bias right
before them is subtracted again, whether they learn a beta of their own or not. Elsewhere a bias has an effect.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F
from typing_extensions import override

from dnntrain.errors import UsageError
from dnntrain.registry import Family, Positive, PositiveInt

normalizations = Family(
    "normalization",
    summary="Layers that normalize signals inside the network.",
    synonyms={
        "batchnorm": "batch",
        "batch_norm": "batch",
        "bn": "batch",
        "layernorm": "layer",
        "layer_norm": "layer",
        "ln": "layer",
        "rmsnorm": "rms",
        "rms_norm": "rms",
        "groupnorm": "group",
        "group_norm": "group",
        "gn": "group",
        "instancenorm": "instance",
        "instance_norm": "instance",
    },
)

Position = Literal["before", "after"]


def _never(features: int) -> bool:
    return False


def _always(features: int) -> bool:
    return True


@dataclass(frozen=True)
class Normalization:
    """A normalization and its place.

    Attributes:
        make: builds the layer for so many features and so many spatial dimensions: 0 for (N, C), 1 for (N, C, T), 2 for
            (N, C, H, W); None where nothing is to be built.
        position: before or after the activation.
        at_input: whether one stands at the network's input too.
        drops_bias: whether, with so many features, it subtracts a mean for each, so that a bias right before it has no
            effect.
        needs_batch: whether it takes statistics over the batch, so that one sample is not enough.
        needs_positions: whether it takes statistics over the positions of each channel, so that a vector has none.
    """

    make: Callable[[int, int], nn.Module] | None
    position: Position = "before"
    at_input: bool = False
    drops_bias: Callable[[int], bool] = _never
    needs_batch: bool = False
    needs_positions: bool = False


class ChannelLayerNorm(nn.LayerNorm):
    """Layer normalization over the channels at each position of (N, C, T) or (N, C, H, W)."""

    @override
    def forward(self, z: Tensor) -> Tensor:
        return super().forward(z.movedim(1, -1)).movedim(-1, 1)


class RMSNorm(nn.RMSNorm):
    """Root-mean-square normalization over the last dimension, in float32 or better even under mixed precision."""

    @override
    def forward(self, z: Tensor) -> Tensor:
        wide = z.to(torch.promote_types(z.dtype, torch.float32))
        return super().forward(wide).to(z.dtype)


class ChannelRMSNorm(RMSNorm):
    """The same over the channels at each position of (N, C, T) or (N, C, H, W)."""

    @override
    def forward(self, z: Tensor) -> Tensor:
        return super().forward(z.movedim(1, -1)).movedim(-1, 1)


class InstanceNorm(nn.Module):
    """Instance normalization of (N, C, T) or (N, C, H, W).

    Args:
        features: channels C.
        eps: added to the variance.
        affine: learn a factor and a bias for each channel.
    """

    def __init__(self, features: int, *, eps: float, affine: bool) -> None:
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(features)) if affine else None
        self.bias = nn.Parameter(torch.zeros(features)) if affine else None

    @override
    def forward(self, z: Tensor) -> Tensor:
        if z.shape[2:].numel() == 1:
            raise UsageError(
                "normalization instance met a feature map of one position, which has no statistics of its own; "
                "shrink the pictures less, or use layer or batch"
            )
        return F.instance_norm(z, weight=self.weight, bias=self.bias, eps=self.eps)


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
    position: Position = "before",
    momentum: Annotated[float, Field(gt=0, le=1)] = 0.1,
    eps: Positive = 1e-5,
    affine: bool = True,
    input: bool = False,
) -> Normalization:
    """Standardize each feature over the batch in training, by running statistics in evaluation.

    The batch is normalized by its population variance, while the running variance is the unbiased one, as PyTorch has
    it (Keras keeps the population form). `momentum` is PyTorch's: running = (1 - momentum) running + momentum batch,
    so Keras's 0.99 is 0.01 here. Before the activation, the layer in front has no bias, which the mean would take away:
    beta takes its place, and with `affine: false` nothing does.

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
        drops_bias=_always,
        needs_batch=True,
    )


@normalizations.register(
    "layer",
    equation="gamma (z - mean_C) / sqrt(var_C + eps) + beta",
    cite="arXiv:1607.06450",
    example={"name": "layer", "position": "before"},
)
def layer(
    *, position: Position = "before", eps: Positive = 1e-5, affine: bool = True, input: bool = False
) -> Normalization:
    """Standardize each sample over its features, in training and evaluation alike; the batch has no say.

    Pictures and sequences are standardized over their channels, at each position by itself, with one gamma and beta
    for each channel: so does Keras by default, and ConvNeXt. `{name: group, groups: 1}` is the form that takes all
    positions together. A bias of the layer in front changes the features against each other, so it stays. eps is
    PyTorch's; Keras adds 1e-3.

    Args:
        position: before or after the activation.
        eps: added to the variance.
        affine: learn gamma and beta for each feature.
        input: put one at the network's input as well.
    """

    def make(features: int, dims: int) -> nn.Module:
        kind = nn.LayerNorm if dims == 0 else ChannelLayerNorm
        return kind(_several(features, "layer"), eps=eps, elementwise_affine=affine)

    return Normalization(make, position=position, at_input=input)


@normalizations.register(
    "rms",
    equation="gamma z / sqrt(mean_C(z^2) + eps)",
    cite="arXiv:1910.07467",
    example={"name": "rms", "position": "before"},
)
def rms(
    *, position: Position = "before", eps: Positive = 1e-6, affine: bool = True, input: bool = False
) -> Normalization:
    """Layer normalization without the mean: cheaper, and as good in transformers.

    Over the channels, at each position by itself, as `layer`. Nothing is subtracted and there is no beta, so the layer
    in front keeps its bias. eps is Keras's; torch.nn.RMSNorm adds the smallest step of the number format, 1.2e-7 in
    float32. The sum of squares is taken in float32 even under bf16 and fp16.

    Args:
        position: before or after the activation.
        eps: added to the mean square.
        affine: learn gamma for each feature.
        input: put one at the network's input as well.
    """

    def make(features: int, dims: int) -> nn.Module:
        kind = RMSNorm if dims == 0 else ChannelRMSNorm
        return kind(_several(features, "rms"), eps=eps, elementwise_affine=affine)

    return Normalization(make, position=position, at_input=input)


@normalizations.register(
    "group",
    equation="gamma (z - mean_G) / sqrt(var_G + eps) + beta",
    cite="arXiv:1803.08494",
    example={"name": "group", "groups": 2},
)
def group(
    *,
    groups: PositiveInt,
    position: Position = "before",
    eps: Positive = 1e-5,
    affine: bool = True,
    input: bool = False,
) -> Normalization:
    """Standardize each sample over groups of channels and all their positions; batch norm's rival for small batches.

    The groups are neighbouring channels, equally many in each; gamma and beta belong to a channel. A mean belongs to a
    group, so the layer in front keeps its bias, unless each channel is a group of its own. The paper uses 32 groups,
    Keras's default, which must divide the number of features; eps is PyTorch's, Keras adds 1e-3.

    Args:
        groups: how many groups the channels are parted into; 1 takes all of a sample together.
        position: before or after the activation.
        eps: added to the variance.
        affine: learn gamma and beta for each channel.
        input: put one at the network's input as well.
    """

    def make(features: int, dims: int) -> nn.Module:
        if features % groups:
            divisors = ", ".join(str(n) for n in range(1, min(features, 64) + 1) if features % n == 0)
            raise UsageError(
                f"normalization group cannot part {features} features into {groups} equal groups; "
                f"set groups to one of {divisors}"
            )
        if dims == 0:
            _several(features // groups, "group")
        return nn.GroupNorm(groups, features, eps=eps, affine=affine)

    return Normalization(make, position=position, at_input=input, drops_bias=lambda features: features == groups)


@normalizations.register(
    "instance",
    equation="gamma (z - mean_HW) / sqrt(var_HW + eps) + beta",
    cite="arXiv:1607.08022",
    example={"name": "instance", "position": "before"},
)
def instance(
    *, position: Position = "before", eps: Positive = 1e-5, affine: bool = True, input: bool = False
) -> Normalization:
    """Standardize each channel of each picture by itself, which takes away contrast; known from style transfer.

    It keeps no running statistics, so that training and evaluation are alike. It needs positions, so it cannot
    follow a dense layer. Before the activation, the layer in front has no bias, which the mean would take away: beta
    takes its place, and with `affine: false` nothing does.
    torch.nn.InstanceNorm2d learns no gamma and beta unless told to; here they are learned as in the other norms.

    Args:
        position: before or after the activation.
        eps: added to the variance.
        affine: learn gamma and beta for each channel.
        input: put one at the network's input as well.
    """

    def make(features: int, dims: int) -> nn.Module:
        if dims == 0:
            raise UsageError(
                "normalization instance takes its statistics over the positions of a picture or a sequence, and a "
                "dense layer has none; use layer or batch"
            )
        return InstanceNorm(features, eps=eps, affine=affine)

    return Normalization(make, position=position, at_input=input, drops_bias=_always, needs_positions=True)


def _several(features: int, name: str) -> int:
    """Return the number of features that share their statistics, unless it is one, whose value would be lost."""
    if features == 1:
        raise UsageError(
            f"normalization {name} would take its statistics over a single value here, and so lose it; "
            + ("use fewer groups" if name == "group" else "use batch, or leave out input: true where that is why")
        )
    return features
