"""The colors of a picture: brightness, contrast, saturation and hue.

The functions take pictures (N, C, H, W) of floats between 0 and `top`, gray or red, green and blue, and one factor for
each picture, of shape (N, 1, 1, 1); what would leave the range is cut off. Gray pictures have neither saturation nor
hue and stay as they are.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor
from typing_extensions import override

from dnntrain.parts.augmentations.base import (
    Augmentation,
    PictureAugmentation,
    augmentations,
    each,
    like,
    require_colors,
)
from dnntrain.registry import NonNegative

HalfTurn = Annotated[float, Field(ge=0, le=0.5)]


def blend(x: Tensor, other: Tensor | float, factor: Tensor, top: float) -> Tensor:
    """Return other + factor (x - other), cut to [0, top]: `other` at factor 0, x at 1, beyond x above that."""
    return (factor * x + (1 - factor) * other).clamp(0, top)


def gray(x: Tensor) -> Tensor:
    """Return the luma of pictures, 0.299 R + 0.587 G + 0.114 B (ITU-R BT.601), of shape (N, 1, H, W)."""
    if x.shape[1] == 1:
        return x
    weights = torch.tensor([0.299, 0.587, 0.114], dtype=x.dtype, device=x.device)
    return (x * weights.view(1, 3, 1, 1)).sum(dim=1, keepdim=True)


def adjust_brightness(x: Tensor, factor: Tensor, top: float) -> Tensor:
    """Blend with black."""
    return blend(x, 0.0, factor, top)


def adjust_contrast(x: Tensor, factor: Tensor, top: float) -> Tensor:
    """Blend with the mean gray of each picture."""
    return blend(x, gray(x).mean(dim=(2, 3), keepdim=True), factor, top)


def adjust_saturation(x: Tensor, factor: Tensor, top: float) -> Tensor:
    """Blend with the picture in gray."""
    return x if x.shape[1] == 1 else blend(x, gray(x), factor, top)


def adjust_hue(x: Tensor, turn: Tensor, top: float) -> Tensor:
    """Turn the hue; 1 is the whole circle of colors.

    Hue, saturation and value are those of the hexagonal cone (Smith 1978): the value is the largest of the three
    channels, and hue h in [0, 6) tells where the color lies between red (0), green (2) and blue (4).
    """
    if x.shape[1] == 1:
        return x
    red, green, blue = x.unbind(1)
    value = x.amax(dim=1)
    chroma = value - x.amin(dim=1)
    safe = torch.where(chroma > 0, chroma, 1.0)
    from_green_or_blue = torch.where(value == green, 2 + (blue - red) / safe, 4 + (red - green) / safe)
    hue = torch.where(value == red, (green - blue) / safe, from_green_or_blue) + 6 * turn.squeeze(1)

    def channel(offset: float) -> Tensor:
        distance = (hue + offset) % 6
        return value - chroma * torch.minimum(distance, 4 - distance).clamp(0, 1)

    return torch.stack([channel(5), channel(3), channel(1)], dim=1)


_ADJUSTMENTS: list[Callable[[Tensor, Tensor, float], Tensor]] = [
    adjust_brightness,
    adjust_contrast,
    adjust_saturation,
    adjust_hue,
]


class ColorJitter(PictureAugmentation):
    """Changes the colors of each picture by factors of its own; see `color_jitter`.

    Args:
        full_scale: the largest value that a pixel can have.
        strengths: of brightness, contrast, saturation and hue.
    """

    name = "color_jitter"

    def __init__(self, full_scale: float, strengths: tuple[float, float, float, float]) -> None:
        self._full_scale = full_scale
        self._strengths = strengths

    @override
    def change(self, x: Tensor, generator: torch.Generator, /) -> Tensor:
        require_colors(x, self.name)
        order: list[int] = torch.randperm(4, generator=generator).tolist()
        draws = 2 * torch.rand(4, len(x), generator=generator) - 1
        changed = x.to(torch.float32)
        for which in order:
            if (strength := self._strengths[which]) > 0:
                # A factor around 1 that is not below 0; the hue is turned by an angle around 0.
                drawn = draws[which] * strength if which == 3 else _factors(draws[which], strength)
                changed = _ADJUSTMENTS[which](changed, each(drawn, x), self._full_scale)
        return like(changed, x)


def _factors(draws: Tensor, strength: float) -> Tensor:
    """Turn draws from U(-1, 1) into draws from U(max(0, 1 - strength), 1 + strength)."""
    low, high = max(0.0, 1 - strength), 1 + strength
    return low + (high - low) * (draws + 1) / 2


@augmentations.register(
    "color_jitter",
    equation="brightness, contrast, saturation times U(max(0, 1 - s), 1 + s), hue + U(-hue, hue), in random order",
    cite="arXiv:1409.4842; arXiv:2002.05709, appendix A",
)
def color_jitter(
    full_scale: float,
    /,
    *,
    brightness: NonNegative = 0.4,
    contrast: NonNegative = 0.4,
    saturation: NonNegative = 0.4,
    hue: HalfTurn = 0.1,
) -> Augmentation:
    """Change the colors of pictures, each by factors of its own.

    The order of the four is drawn for each batch, where torchvision draws one for each picture; and bytes are rounded
    once at the end, where torchvision cuts them off after each change.

    Args:
        full_scale: the largest value that a pixel can have; floats above it are cut off.
        brightness: largest deviation of the factor from 1.
        contrast: the same for the distance from the picture's mean gray.
        saturation: the same for the distance from gray; gray pictures are left alone.
        hue: largest turn of the circle of colors, where 0.5 is half of it; gray pictures are left alone.
    """
    return ColorJitter(full_scale, (brightness, contrast, saturation, hue))
