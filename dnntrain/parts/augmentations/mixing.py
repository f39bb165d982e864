"""Samples mixed with each other, and their targets with them."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F
from typing_extensions import override

from dnntrain.parts.augmentations.base import Augmentation, augmentations, each, rectangles, require_pictures
from dnntrain.registry import Positive, Unit


class Mixup(Augmentation):
    """Blends each sample with another one; see `mixup`."""

    def __init__(self, classes: int, alpha: float, probability: float) -> None:
        self._classes = classes
        self._alpha = alpha
        self._probability = probability

    @override
    def __call__(self, x: Tensor, y: Tensor, generator: torch.Generator, /) -> tuple[Tensor, Tensor]:
        share = _shares(self._alpha, self._probability, len(x), generator)
        partner = torch.randperm(len(x), generator=generator).to(x.device)
        own = each(share, x)
        x = x if x.is_floating_point() else x.to(torch.float32)
        mixed = (own * x + (1 - own) * x[partner]).to(x.dtype)
        return mixed, _mixed_targets(y, self._classes, share, partner)


class CutMix(Augmentation):
    """Pastes a rectangle of another picture into each one; see `cutmix`."""

    def __init__(self, classes: int, alpha: float, probability: float) -> None:
        self._classes = classes
        self._alpha = alpha
        self._probability = probability

    @override
    def __call__(self, x: Tensor, y: Tensor, generator: torch.Generator, /) -> tuple[Tensor, Tensor]:
        require_pictures(x, "cutmix")
        count, _, height, width = x.shape
        side = (1 - _shares(self._alpha, self._probability, count, generator)).sqrt()
        partner = torch.randperm(count, generator=generator).to(x.device)
        top, bottom = _span(side, height, generator)
        left, right = _span(side, width, generator)
        mixed = torch.where(rectangles(top, left, bottom, right, x), x[partner], x)
        # What the border has cut off the rectangle belongs to the picture again.
        share = 1 - (bottom - top) * (right - left) / (height * width)
        return mixed, _mixed_targets(y, self._classes, share, partner)


def _shares(alpha: float, probability: float, count: int, generator: torch.Generator) -> Tensor:
    """Draw each sample's own share from Beta(alpha, alpha), 1 for those that are not mixed; float32 of shape (N,)."""
    # PyTorch's beta distribution takes no generator.
    seed = int(torch.randint(2**62, (), generator=generator))
    drawn = torch.from_numpy(np.random.default_rng(seed).beta(alpha, alpha, count))
    mixes = torch.rand(count, generator=generator) < probability
    return torch.where(mixes, drawn, 1.0).to(torch.float32)


def _span(side: Tensor, length: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Draw where a stretch of a share of the length lies, cut off at the ends; its middle may lie anywhere."""
    size = (side * length).long()
    start = torch.randint(length, side.shape, generator=generator) - size // 2
    return start.clamp(min=0), (start + size).clamp(max=length)


def _mixed_targets(y: Tensor, classes: int, share: Tensor, partner: Tensor) -> Tensor:
    """Mix targets as the inputs were: class indices become probabilities, float32 of shape (N, K)."""
    targets = y if y.is_floating_point() else F.one_hot(y, classes).to(torch.float32)
    own = each(share, targets)
    return (own * targets + (1 - own) * targets[partner]).to(targets.dtype)


@augmentations.register(
    "mixup",
    equation="x' = l x_i + (1 - l) x_j, y' = l y_i + (1 - l) y_j, l ~ Beta(alpha, alpha)",
    cite="arXiv:1710.09412",
    mixes=True,
    pictures=False,
)
def mixup(classes: int, /, *, alpha: Positive = 0.2, probability: Unit = 1.0) -> Augmentation:
    """Train on blends of two samples and of their targets, so that the network is linear between them.

    Works for any inputs and for targets that are numbers too. The other sample comes from the same batch by a random
    permutation. Each sample has a share of its own, where the authors' code draws one for each batch.

    Args:
        classes: how many there are; class indices become probabilities of them.
        alpha: 1 makes all shares equally likely, less leaves most samples nearly as they are.
        probability: of mixing a sample at all.
    """
    return Mixup(classes, alpha, probability)


@augmentations.register(
    "cutmix",
    equation="x' = x_j in a rectangle of sides sqrt(1 - l) H and sqrt(1 - l) W, else x_i; y' mixed by area; "
    "l ~ Beta(alpha, alpha)",
    cite="arXiv:1905.04899",
    mixes=True,
)
def cutmix(classes: int, /, *, alpha: Positive = 1.0, probability: Unit = 1.0) -> Augmentation:
    """Paste a rectangle of one picture into another, and mix their targets by the area of each.

    The rectangle's middle lies anywhere in the picture; what the border cuts off is not counted. Each picture has a
    rectangle of its own, where the authors' code draws one for each batch.

    Args:
        classes: how many there are; class indices become probabilities of them.
        alpha: 1 makes all areas equally likely.
        probability: of mixing a picture at all.
    """
    return CutMix(classes, alpha, probability)
