"""Where in a picture things are: cropping, flipping, erasing."""

from __future__ import annotations

import math
from typing import Annotated, Literal

import torch
from pydantic import AfterValidator, Field
from pydantic_core import PydanticCustomError
from torch import Tensor
from torch.nn import functional as F
from typing_extensions import override

from dnntrain.parts.augmentations.base import (
    Augmentation,
    PictureAugmentation,
    augmentations,
    each,
    like,
    rectangles,
)
from dnntrain.registry import Positive, Unit

_ATTEMPTS = 10


def _ascending(bounds: tuple[float, float]) -> tuple[float, float]:
    if bounds[0] > bounds[1]:
        raise PydanticCustomError("range", "must be two bounds, the smaller one first", {"hint": "such as [0.1, 0.3]"})
    return bounds


Shares = Annotated[
    tuple[Annotated[float, Field(gt=0, le=1)], Annotated[float, Field(gt=0, le=1)]],
    Field(strict=False),
    AfterValidator(_ascending),
]
Ratios = Annotated[tuple[Positive, Positive], Field(strict=False), AfterValidator(_ascending)]


class RandomCrop(PictureAugmentation):
    """Moves each picture by up to `padding` pixels; see `random_crop`."""

    name = "random_crop"

    def __init__(self, padding: int) -> None:
        self._padding = padding

    @override
    def change(self, x: Tensor, generator: torch.Generator, /) -> Tensor:
        count, _, height, width = x.shape
        corners = torch.randint(2 * self._padding + 1, (2, count), generator=generator).to(x.device)
        padded = F.pad(x, [self._padding] * 4)
        # A view of every window, of which one is copied for each picture.
        windows = padded.unfold(2, height, 1).unfold(3, width, 1)
        return windows[torch.arange(count, device=x.device), :, corners[0], corners[1]]


class HorizontalFlip(PictureAugmentation):
    """Mirrors pictures left to right; see `horizontal_flip`."""

    name = "horizontal_flip"

    def __init__(self, probability: float) -> None:
        self._probability = probability

    @override
    def change(self, x: Tensor, generator: torch.Generator, /) -> Tensor:
        flipped = torch.rand(len(x), generator=generator) < self._probability
        return torch.where(each(flipped, x), x.flip(-1), x)


class RandomErasing(PictureAugmentation):
    """Fills a rectangle of each picture; see `random_erasing`."""

    name = "random_erasing"

    def __init__(
        self,
        full_scale: float,
        *,
        probability: float,
        scale: tuple[float, float],
        ratio: tuple[float, float],
        fill: str,
    ) -> None:
        self._full_scale = full_scale
        self._probability = probability
        self._scale = scale
        self._ratio = ratio
        self._fill = fill

    @override
    def change(self, x: Tensor, generator: torch.Generator, /) -> Tensor:
        inside = rectangles(*self._corners(x, generator), x)
        return torch.where(inside, self._filling(x, generator), x)

    def _corners(self, x: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Draw the rectangles; those of pictures that are left alone are empty."""
        count, _, height, width = x.shape
        hit = torch.rand(count, generator=generator) < self._probability
        shares, ratios, down, along = torch.rand(4, count, _ATTEMPTS, dtype=torch.float64, generator=generator)
        area = height * width * shares.mul(self._scale[1] - self._scale[0]).add(self._scale[0])
        low, high = (math.log(bound) for bound in self._ratio)
        ratio = ratios.mul(high - low).add(low).exp()
        tall, wide = (area * ratio).sqrt().round().long(), (area / ratio).sqrt().round().long()
        fits = (tall < height) & (wide < width)
        # The first attempt that fits; where none does, the picture is left alone.
        first = fits.int().argmax(dim=1, keepdim=True)
        tall, wide, down, along = (drawn.gather(1, first).squeeze(1) for drawn in (tall, wide, down, along))
        top = (down * (height - tall + 1)).long()
        left = (along * (width - wide + 1)).long()
        tall = torch.where(hit & fits.any(dim=1), tall, 0)
        return top, left, top + tall, left + wide

    def _filling(self, x: Tensor, generator: torch.Generator) -> Tensor:
        """Return what the rectangles are filled with, in the type of `x` and of a shape that goes with it."""
        if self._fill == "black":
            return torch.zeros_like(x[:1])
        if self._fill == "mean":
            return like(x.to(torch.float32).mean(dim=(2, 3), keepdim=True), x)
        # So much noise is drawn where it is wanted, from a seed that the generator gives.
        seed = int(torch.randint(2**62, (), generator=generator))
        noise = torch.rand(x.shape, generator=torch.Generator(x.device).manual_seed(seed), device=x.device)
        if x.is_floating_point():
            return noise.mul(self._full_scale).to(x.dtype)
        return noise.mul(self._full_scale + 1).floor().clamp(max=self._full_scale).to(x.dtype)


@augmentations.register(
    "random_crop",
    equation="x'[c, i, j] = x[c, i + a, j + b], 0 outside; a, b ~ U{-padding, ..., padding}",
    cite="arXiv:1409.5185; arXiv:1512.03385, section 4.2",
)
def random_crop(*, padding: Annotated[int, Field(gt=0, le=256)] = 4) -> Augmentation:
    """Pad each picture with zeros on all sides and cut a window of the old size out of it.

    torchvision's RandomCrop can also cut smaller windows; here training and evaluation see one size.

    Args:
        padding: pixels added on each side, and so the farthest that a picture moves.
    """
    return RandomCrop(padding)


@augmentations.register(
    "horizontal_flip",
    equation="x'[c, i, j] = x[c, i, W - 1 - j] with the given probability",
    cite="Krizhevsky, Sutskever and Hinton 2012, ImageNet classification with deep convolutional neural networks",
)
def horizontal_flip(*, probability: Unit = 0.5) -> Augmentation:
    """Mirror pictures left to right; not for digits and letters, which mean something else in a mirror.

    Args:
        probability: of mirroring a picture.
    """
    return HorizontalFlip(probability)


@augmentations.register(
    "random_erasing",
    equation="x' = fill in a rectangle of area H W U(scale) and height / width exp U(log ratio), at random",
    cite="arXiv:1708.04896",
)
def random_erasing(
    full_scale: float,
    /,
    *,
    probability: Unit = 0.5,
    scale: Shares = (0.02, 0.33),
    ratio: Ratios = (0.3, 3.3),
    fill: Literal["mean", "black", "noise"] = "mean",
) -> Augmentation:
    """Hide a rectangle of each picture, so that no single detail can be relied on.

    Ten rectangles are drawn; the first one that lies within the picture is taken, and none if all are too large, as
    torchvision does. Some implementations draw the ratio itself evenly, this one its logarithm.

    Args:
        full_scale: the largest value that a pixel can have.
        probability: of erasing in a picture.
        scale: smallest and largest share of the picture's area.
        ratio: smallest and largest height over width.
        fill: what the rectangle is filled with: the picture's mean color (near 0 once standardized, which is what
            torchvision fills with by default, after standardizing), black, or noise as in the paper.
    """
    return RandomErasing(full_scale, probability=probability, scale=scale, ratio=ratio, fill=fill)
