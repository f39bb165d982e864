"""RandAugment: a few operations of one strength, drawn for each picture from a fixed list of fourteen.

The operations work on pictures (N, C, H, W) of floats between 0 and 255 and take one level for each picture, of shape
(N, 1, 1, 1): the share of the largest strength, negative for the opposite direction where there is one.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Annotated, Final

import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional as F
from typing_extensions import override

from dnntrain.parts.augmentations.base import (
    Augmentation,
    PictureAugmentation,
    augmentations,
    each,
    like,
    require_colors,
)
from dnntrain.parts.augmentations.color import adjust_brightness, adjust_contrast, adjust_saturation, blend
from dnntrain.registry import PositiveInt

Magnitude = Annotated[int, Field(ge=0, le=30)]
Operation = Callable[[Tensor, Tensor], Tensor]

_TOP: Final = 255.0
_LARGEST_MAGNITUDE: Final = 30
_SHEAR: Final = 0.3
_SHIFT: Final = 150 / 331
_TURN: Final = math.radians(30)
_BLEND: Final = 0.9


def warp(
    x: Tensor, matrix: tuple[Tensor | float, Tensor | float, Tensor | float, Tensor | float], shift: Tensor
) -> Tensor:
    """Move pixels: the output at p is the input at matrix p + shift, interpolated, 0 outside the picture.

    Args:
        x: the pictures.
        matrix: xx, xy, yx and yy, in pixels around the middle of the picture; numbers, or one for each picture.
        shift: in pixels to the right and down, of shape (N, 2).
    """
    count, _, height, width = x.shape
    xx, xy, yx, yy = (
        torch.as_tensor(entry, dtype=x.dtype, device=x.device).flatten().expand(count) for entry in matrix
    )
    # grid_sample measures both sides of a picture from -1 to 1.
    across = torch.stack([xx, xy * height / width, 2 * shift[:, 0] / width], dim=1)
    down = torch.stack([yx * width / height, yy, 2 * shift[:, 1] / height], dim=1)
    grid = F.affine_grid(torch.stack([across, down], dim=1), list(x.shape), align_corners=False)
    return F.grid_sample(x, grid, mode="bilinear", padding_mode="zeros", align_corners=False)


def identity(x: Tensor, level: Tensor) -> Tensor:
    """Leave pictures alone."""
    return x


def shear_x(x: Tensor, level: Tensor) -> Tensor:
    """Move each row in proportion to its distance from the top."""
    slope = _SHEAR * level.flatten()
    return warp(x, (1.0, slope, 0.0, 1.0), _columns(slope * x.shape[2] / 2, 0 * slope))


def shear_y(x: Tensor, level: Tensor) -> Tensor:
    """Move each column in proportion to its distance from the left."""
    slope = _SHEAR * level.flatten()
    return warp(x, (1.0, 0.0, slope, 1.0), _columns(0 * slope, slope * x.shape[3] / 2))


def translate_x(x: Tensor, level: Tensor) -> Tensor:
    """Move pictures to the side."""
    shift = _SHIFT * x.shape[3] * level.flatten()
    return warp(x, (1.0, 0.0, 0.0, 1.0), _columns(shift, 0 * shift))


def translate_y(x: Tensor, level: Tensor) -> Tensor:
    """Move pictures up or down."""
    shift = _SHIFT * x.shape[2] * level.flatten()
    return warp(x, (1.0, 0.0, 0.0, 1.0), _columns(0 * shift, shift))


def rotate(x: Tensor, level: Tensor) -> Tensor:
    """Turn pictures around their middle."""
    angle = _TURN * level.flatten()
    sine, cosine = angle.sin(), angle.cos()
    return warp(x, (cosine, -sine, sine, cosine), _columns(0 * angle, 0 * angle))


def brightness(x: Tensor, level: Tensor) -> Tensor:
    """Blend with black, or away from it."""
    return adjust_brightness(x, 1 + _BLEND * level, _TOP)


def color(x: Tensor, level: Tensor) -> Tensor:
    """Blend with gray, or away from it."""
    return adjust_saturation(x, 1 + _BLEND * level, _TOP)


def contrast(x: Tensor, level: Tensor) -> Tensor:
    """Blend with the mean gray, or away from it."""
    return adjust_contrast(x, 1 + _BLEND * level, _TOP)


def sharpness(x: Tensor, level: Tensor) -> Tensor:
    """Blend with a smoothed picture, or away from it; the border of one pixel is left alone."""
    channels, height, width = x.shape[1:]
    if min(height, width) < 3:
        return x
    kernel = torch.ones(3, 3, dtype=x.dtype, device=x.device)
    kernel[1, 1] = 5
    smooth = x.clone()
    smooth[:, :, 1:-1, 1:-1] = F.conv2d(x, (kernel / 13).expand(channels, 1, 3, 3), groups=channels)
    return blend(x, smooth, 1 + _BLEND * level, _TOP)


def posterize(x: Tensor, level: Tensor) -> Tensor:
    """Keep the upper 8 to 4 bits of each value."""
    step = 2 ** (4 * level.abs()).round()
    return (x.round() / step).floor() * step


def solarize(x: Tensor, level: Tensor) -> Tensor:
    """Invert values from a threshold on, which falls from 255 to 0 as the level rises."""
    return torch.where(x >= _TOP * (1 - level.abs()), _TOP - x, x)


def autocontrast(x: Tensor, level: Tensor) -> Tensor:
    """Stretch each channel to the whole range."""
    low, high = x.amin(dim=(2, 3), keepdim=True), x.amax(dim=(2, 3), keepdim=True)
    varies = high > low
    return torch.where(varies, (x - low) * (_TOP / torch.where(varies, high - low, 1.0)), x)


def equalize(x: Tensor, level: Tensor) -> Tensor:
    """Spread the values of each channel evenly over the range: each becomes its share of the darker pixels.

    As in PIL, value v becomes floor((pixels darker than v + s / 2) / s), s = floor(pixels that are not of the brightest
    value / 255); channels in which s is 0 are left alone.
    """
    count, channels, height, width = x.shape
    values = x.round().clamp(0, _TOP).long().flatten(2)
    histogram = values.new_zeros(count, channels, 256).scatter_add_(2, values, torch.ones_like(values))
    brightest = histogram.gather(2, values.amax(dim=2, keepdim=True))
    step = (height * width - brightest) // 255
    darker = histogram.cumsum(dim=2) - histogram
    table = ((darker + step // 2) // step.clamp(min=1)).clamp(max=255)
    spread = table.gather(2, values).view(x.shape).to(x.dtype)
    return torch.where(step.view(count, channels, 1, 1) > 0, spread, x)


OPERATIONS: Final[tuple[Operation, ...]] = (
    identity,
    shear_x,
    shear_y,
    translate_x,
    translate_y,
    rotate,
    brightness,
    color,
    contrast,
    sharpness,
    posterize,
    solarize,
    autocontrast,
    equalize,
)


def _columns(first: Tensor, second: Tensor) -> Tensor:
    return torch.stack([first, second], dim=1)


class RandAugment(PictureAugmentation):
    """Applies a few operations to each picture; see `rand_augment`."""

    name = "rand_augment"

    def __init__(self, full_scale: float, operations: int, magnitude: int) -> None:
        self._scale = _TOP / full_scale
        self._operations = operations
        self._level = magnitude / _LARGEST_MAGNITUDE

    @override
    def change(self, x: Tensor, generator: torch.Generator, /) -> Tensor:
        require_colors(x, self.name)
        size = (self._operations, len(x))
        choices = torch.randint(len(OPERATIONS), size, generator=generator)
        levels = self._level * (2 * torch.randint(2, size, generator=generator) - 1).float()
        changed = x.to(torch.float32) * self._scale
        for choice, level in zip(choices, levels, strict=True):
            for which, operation in enumerate(OPERATIONS):
                # The choices lie on the CPU, so that this does not wait for the device.
                chosen = (choice == which).nonzero().squeeze(1)
                if len(chosen) > 0 and operation is not identity:
                    rows = chosen.to(x.device)
                    changed[rows] = operation(changed[rows], each(level[chosen], x))
        return like(changed / self._scale, x)


@augmentations.register(
    "rand_augment",
    equation="x' = o_n(... o_1(x)), o_i ~ U(14 operations), each at +- magnitude / 30 of its largest strength",
    cite="arXiv:1909.13719",
)
def rand_augment(full_scale: float, /, *, operations: PositiveInt = 2, magnitude: Magnitude = 9) -> Augmentation:
    """Apply operations drawn for each picture, all of one strength: two numbers to tune instead of a search.

    The operations and their ranges are torchvision's: identity; shear by up to 0.3 and translate by up to 150 / 331 of
    the side, in x and in y; rotate by up to 30 degrees; brightness, color, contrast and sharpness by a factor of up to
    1 +- 0.9; posterize down to 4 bits; solarize from 255 down to 0; autocontrast; equalize. Moved pictures are
    interpolated, where torchvision takes the nearest pixel unless told otherwise, and black where nothing was.

    Args:
        full_scale: the largest value that a pixel can have; floats are taken as 256 levels up to it where an operation
            works on levels.
        operations: how many follow each other.
        magnitude: their strength, from 0 to 30.
    """
    return RandAugment(full_scale, operations, magnitude)
