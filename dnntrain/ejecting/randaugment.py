"""RandAugment: fourteen operations, each a function of pictures and of how strongly they are changed."""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from dnntrain.build import Data
from dnntrain.ejecting.script import Script, fill

BLEND: Final = '''
def blend(x: Tensor, other: Tensor | float, factor: Tensor, top: float) -> Tensor:
    """Return `other` at factor 0, x at 1, and what is beyond x above that."""
    return (factor * x + (1 - factor) * other).clamp(0, top)
'''

GRAY: Final = '''
def gray(x: Tensor) -> Tensor:
    """Return how bright red, green and blue are to the eye: (N, 1, H, W)."""
    weights = torch.tensor([0.299, 0.587, 0.114])
    return (x * weights.view(1, 3, 1, 1)).sum(dim=1, keepdim=True)
'''

_MOVES: Final = '''
def warp(x: Tensor, matrix: tuple, right: Tensor, down: Tensor) -> Tensor:
    """Move pixels: the output at p is the input at matrix p + (right, down).

    What lies between pixels is interpolated, what lies outside is 0.
    """
    count, _, height, width = x.shape
    xx, xy, yx, yy = (torch.as_tensor(each).expand(count) for each in matrix)
    # Both sides of a picture are measured from -1 to 1.
    first = torch.stack([xx, xy * height / width, 2 * right / width], dim=1)
    second = torch.stack([yx * width / height, yy, 2 * down / height], dim=1)
    both = torch.stack([first, second], dim=1)
    grid = F.affine_grid(both, list(x.shape), align_corners=False)
    return F.grid_sample(x, grid, align_corners=False)


# Each operation takes pictures with values from 0 to 255, and for each picture a level
# from -1 to 1, which says how strongly it is changed and to which side.


def identity(x: Tensor, level: Tensor) -> Tensor:
    """Leave pictures alone."""
    return x


def shear_x(x: Tensor, level: Tensor) -> Tensor:
    """Move each row by its distance from the middle."""
    slope = 0.3 * level.flatten()
    return warp(x, (1.0, slope, 0.0, 1.0), slope * x.shape[2] / 2, 0 * slope)


def shear_y(x: Tensor, level: Tensor) -> Tensor:
    """Move each column by its distance from the middle."""
    slope = 0.3 * level.flatten()
    return warp(x, (1.0, 0.0, slope, 1.0), 0 * slope, slope * x.shape[3] / 2)


def translate_x(x: Tensor, level: Tensor) -> Tensor:
    """Move pictures to the side."""
    shift = 150 / 331 * x.shape[3] * level.flatten()
    return warp(x, (1.0, 0.0, 0.0, 1.0), shift, 0 * shift)


def translate_y(x: Tensor, level: Tensor) -> Tensor:
    """Move pictures up or down."""
    shift = 150 / 331 * x.shape[2] * level.flatten()
    return warp(x, (1.0, 0.0, 0.0, 1.0), 0 * shift, shift)


def rotate(x: Tensor, level: Tensor) -> Tensor:
    """Turn pictures around their middle."""
    angle = math.radians(30) * level.flatten()
    sine, cosine = angle.sin(), angle.cos()
    return warp(x, (cosine, -sine, sine, cosine), 0 * angle, 0 * angle)
'''

_LOOKS: Final = '''
def brightness(x: Tensor, level: Tensor) -> Tensor:
    """Blend with black, or away from it."""
    return blend(x, 0.0, 1 + 0.9 * level, 255.0)


def color(x: Tensor, level: Tensor) -> Tensor:
    """Blend with gray, or away from it."""
    $color


def contrast(x: Tensor, level: Tensor) -> Tensor:
    """Blend with the mean gray, or away from it."""
    mean = $tone.mean(dim=(2, 3), keepdim=True)
    return blend(x, mean, 1 + 0.9 * level, 255.0)


def sharpness(x: Tensor, level: Tensor) -> Tensor:
    """Blend with a smoothed picture, or away from it."""
$sharpness


def posterize(x: Tensor, level: Tensor) -> Tensor:
    """Keep the upper 8 to 4 bits of each value."""
    step = 2 ** (4 * level.abs()).round()
    return (x.round() / step).floor() * step


def solarize(x: Tensor, level: Tensor) -> Tensor:
    """Invert values from a threshold on, which falls as the level rises."""
    return torch.where(x >= 255.0 * (1 - level.abs()), 255.0 - x, x)


def autocontrast(x: Tensor, level: Tensor) -> Tensor:
    """Stretch each channel to the whole range."""
    low, high = x.amin(dim=(2, 3), keepdim=True), x.amax(dim=(2, 3), keepdim=True)
    varies = high > low
    stretched = (x - low) * (255.0 / torch.where(varies, high - low, 1.0))
    return torch.where(varies, stretched, x)


def equalize(x: Tensor, level: Tensor) -> Tensor:
    """Make each value the share of pixels of its channel that are darker."""
    count, channels, height, width = x.shape
    values = x.round().clamp(0, 255.0).long().flatten(2)
    histogram = values.new_zeros(count, channels, 256)
    histogram.scatter_add_(2, values, torch.ones_like(values))
    brightest = histogram.gather(2, values.amax(dim=2, keepdim=True))
    step = (height * width - brightest) // 255
    darker = histogram.cumsum(dim=2) - histogram
    table = ((darker + step // 2) // step.clamp(min=1)).clamp(max=255)
    spread = table.gather(2, values).view(x.shape).float()
    return torch.where(step.view(count, channels, 1, 1) > 0, spread, x)
'''

_SHARPNESS: Final = """
    kernel = torch.ones(3, 3)
    kernel[1, 1] = 5
    kernel = (kernel / 13).expand(x.shape[1], 1, 3, 3)
    smooth = x.clone()  # but for the border
    smooth[:, :, 1:-1, 1:-1] = F.conv2d(x, kernel, groups=x.shape[1])
    return blend(x, smooth, 1 + 0.9 * level, 255.0)
"""

_RAND_AUGMENT: Final = '''
def $name(x: Tensor, draws: Generator) -> Tensor:
    """Change each picture by $times drawn at random."""
    operations = [identity, shear_x, shear_y, translate_x, translate_y, rotate]
    operations += [brightness, color, contrast, sharpness]
    operations += [posterize, solarize, autocontrast, equalize]
    size = ($count, len(x))
    choices = torch.randint(len(operations), size, generator=draws)
    signs = 2 * torch.randint(2, size, generator=draws) - 1
    levels = $magnitude / 30 * signs.float()
    changed = x.float()$scaled
    for choice, level in zip(choices, levels, strict=True):
        for which, operation in enumerate(operations):
            rows = (choice == which).nonzero().squeeze(1)
            if len(rows) > 0:
                each = level[rows].view(-1, 1, 1, 1)
                changed[rows] = operation(changed[rows], each)
    return $back
'''


def rand_augment(script: Script, options: Any, data: Data) -> str:
    """Return the function that changes pictures, its name left open, and define the operations."""
    channels, height, width = data.shape
    colored, top = channels == 3, data.arrays.full_scale
    script.define(BLEND)
    if colored:
        script.define(GRAY)
    script.define(_MOVES)
    script.define(
        fill(
            _LOOKS,
            color="return blend(x, gray(x), 1 + 0.9 * level, 255.0)" if colored else "return x  # which is gray",
            tone="gray(x)" if colored else "x",
            sharpness=_SHARPNESS.strip("\n") if min(height, width) > 2 else "    return x  # which is all border",
        )
    )
    back = "changed" if top == 255.0 else f"changed / {255.0 / top!r}"
    if data.arrays.x_train.dtype == np.uint8:
        back = f"{back if top == 255.0 else f'({back})'}.round().to(x.dtype)"
    return fill(
        _RAND_AUGMENT,
        name="$name",
        times="an operation" if options.operations == 1 else f"{options.operations} operations",
        magnitude=options.magnitude,
        count=options.operations,
        scaled="" if top == 255.0 else f" * {255.0 / top!r}",
        back=back,
    )
