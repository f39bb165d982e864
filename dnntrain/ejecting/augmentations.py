"""Augmentation: random changes to training batches, each written out as a function."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import numpy as np

from dnntrain import build
from dnntrain.build import Data
from dnntrain.ejecting.randaugment import BLEND, GRAY, rand_augment
from dnntrain.ejecting.resizing import resized
from dnntrain.ejecting.script import Script, fill, lines
from dnntrain.spec import Spec

_CROP: Final = '''
def $name(x: Tensor, draws: Generator) -> Tensor:
    """Move each picture by up to $pixels; what was outside is 0."""
    rows, columns = torch.randint($places, (2, len(x)), generator=draws)
    # A view of every window of the old size, of which one is copied for each picture.
    windows = F.pad(x, [$padding] * 4).unfold(2, $height, 1).unfold(3, $width, 1)
    return windows[torch.arange(len(x)), :, rows, columns]
'''

_FLIP: Final = '''
def $name(x: Tensor, draws: Generator) -> Tensor:
    """Mirror pictures left to right, each with probability $probability."""
    flipped = torch.rand(len(x), generator=draws) < $probability
    return torch.where(flipped.view(-1, 1, 1, 1), x.flip(-1), x)
'''

_INSIDE: Final = '''
def inside(
    x: Tensor, top: Tensor, left: Tensor, bottom: Tensor, right: Tensor
) -> Tensor:
    """Return which pixels of each picture lie in its rectangle: (N, 1, H, W)."""
    row = torch.arange(x.shape[2]).view(1, 1, -1, 1)
    column = torch.arange(x.shape[3]).view(1, 1, 1, -1)
    top, left, bottom, right = (
        edge.view(-1, 1, 1, 1) for edge in (top, left, bottom, right)
    )
    return (row >= top) & (row < bottom) & (column >= left) & (column < right)
'''

_RECTANGLES: Final = '''
def rectangles(
    x: Tensor,
    draws: Generator,
    probability: float,
    scale: tuple[float, float],
    ratio: tuple[float, float],
) -> Tensor:
    """Draw a rectangle in some pictures; return which pixels lie in one.

    Args:
        x: the pictures.
        draws: what random numbers are drawn from.
        probability: that a picture has a rectangle.
        scale: smallest and largest share of the picture's area.
        ratio: smallest and largest height over width.
    """
    count, _, height, width = x.shape
    hit = torch.rand(count, generator=draws) < probability
    # Ten attempts for each picture: share of the area, height over width, and place.
    shares, ratios, down, along = torch.rand(
        4, count, 10, dtype=torch.float64, generator=draws
    )
    area = height * width * (shares * (scale[1] - scale[0]) + scale[0])
    low, high = math.log(ratio[0]), math.log(ratio[1])
    ratios = (ratios * (high - low) + low).exp()
    tall = (area * ratios).sqrt().round().long()
    wide = (area / ratios).sqrt().round().long()
    fits = (tall < height) & (wide < width)
    # The first that fits; where none does, the picture is left alone.
    first = fits.int().argmax(dim=1, keepdim=True)
    tall, wide, down, along = (
        drawn.gather(1, first).squeeze(1) for drawn in (tall, wide, down, along)
    )
    top = (down * (height - tall + 1)).long()
    left = (along * (width - wide + 1)).long()
    tall = torch.where(hit & fits.any(dim=1), tall, 0)
    return inside(x, top, left, top + tall, left + wide)
'''

_ERASE: Final = '''
def $name(x: Tensor, draws: Generator) -> Tensor:
    """Hide a rectangle of some pictures behind $fill."""
    scale = $scale
    ratio = $ratio
    hidden = rectangles(x, draws, $probability, scale, ratio)
$filling
'''

_NOISE: Final = """
seed = int(torch.randint(2**62, (), generator=draws))
noise = torch.rand(x.shape, generator=Generator().manual_seed(seed))
return torch.where(hidden, $noise, x)
"""

_FACTORS: Final = '''
def factors(numbers: Tensor, strength: float) -> Tensor:
    """Bring numbers from -1 to 1 to factors around 1, none of them below 0."""
    low, high = max(0.0, 1 - strength), 1 + strength
    return low + (high - low) * (numbers + 1) / 2
'''

_HUE: Final = '''
def turn_hue(x: Tensor, turn: Tensor) -> Tensor:
    """Turn the circle of colors; on it red is 0, green 2, blue 4, and red again 6."""
    red, green, blue = x.unbind(1)
    value = x.amax(dim=1)
    chroma = value - x.amin(dim=1)
    safe = torch.where(chroma > 0, chroma, 1.0)
    hue = torch.where(
        value == red,
        (green - blue) / safe,
        torch.where(value == green, 2 + (blue - red) / safe, 4 + (red - green) / safe),
    )
    hue = hue + 6 * turn.squeeze(1)

    def channel(offset: float) -> Tensor:
        distance = (hue + offset) % 6
        return value - chroma * torch.minimum(distance, 4 - distance).clamp(0, 1)

    return torch.stack([channel(5), channel(3), channel(1)], dim=1)
'''

_JITTER: Final = '''
def $name(x: Tensor, draws: Generator) -> Tensor:
    """Change the colors of each picture$order."""
    order = torch.randperm(4, generator=draws).tolist()
    numbers = 2 * torch.rand(4, len(x), 1, 1, 1, generator=draws) - 1  # from -1 to 1
    changed = x.float()
    for which in order:
$changes
    return changed$back
'''

_SHARES: Final = '''
def own_shares(
    count: int, alpha: float, probability: float, draws: Generator
) -> Tensor:
    """Draw how much of each sample is its own, Beta(alpha, alpha); 1 if not mixed."""
    seed = int(torch.randint(2**62, (), generator=draws))
    shares = torch.from_numpy(np.random.default_rng(seed).beta(alpha, alpha, count))
    mixed = torch.rand(count, generator=draws) < probability
    return torch.where(mixed, shares, 1.0).float()
'''

_BLENDED: Final = '''
def blended(values: Tensor, share: Tensor, partner: Tensor) -> Tensor:
    """Return a share of each sample's values, and the rest of its partner's."""
    own = share.view(-1, *[1] * (values.ndim - 1))
    return own * values + (1 - own) * values[partner]
'''

_MIXUP: Final = '''
def $name(x: Tensor, y: Tensor, draws: Generator) -> tuple[Tensor, Tensor]:
    """Blend each sample with another of the batch, and their targets likewise."""
    share = own_shares(len(x), $alpha, $probability, draws)
    partner = torch.randperm(len(x), generator=draws)
    return blended(x, share, partner), blended(y, share, partner)
'''

_SPAN: Final = '''
def span(side: Tensor, length: int, draws: Generator) -> tuple[Tensor, Tensor]:
    """Draw where stretches of a share of the length lie, cut off at the ends."""
    size = (side * length).long()
    start = torch.randint(length, side.shape, generator=draws) - size // 2
    return start.clamp(min=0), (start + size).clamp(max=length)
'''

_CUTMIX: Final = '''
def $name(x: Tensor, y: Tensor, draws: Generator) -> tuple[Tensor, Tensor]:
    """Paste a rectangle of another picture into each; mix their targets by area."""
    count, _, height, width = x.shape
    share = own_shares(count, $alpha, $probability, draws)
    partner = torch.randperm(count, generator=draws)
    side = (1 - share).sqrt()
    top, bottom = span(side, height, draws)
    left, right = span(side, width, draws)
    x = torch.where(inside(x, top, left, bottom, right), x[partner], x)
    # What the border has cut off the rectangle is the picture's own.
    share = 1 - (bottom - top) * (right - left) / (height * width)
    return x, blended(y, share, partner)
'''

_UNCHANGED: Final = """
# No color is changed, but numbers are drawn as if.
torch.randperm(4, generator=self.draws)
torch.rand(4, len(x), generator=self.draws)
"""


def _crop(script: Script, options: Any, data: Data) -> str:
    padding = options.padding
    height, width = data.shape[1:]
    pixels = "a pixel" if padding == 1 else f"{padding} pixels"
    return fill(_CROP, name=_NAME, pixels=pixels, padding=padding, places=2 * padding + 1, height=height, width=width)


def _flip(script: Script, options: Any, data: Data) -> str:
    return fill(_FLIP, name=_NAME, probability=repr(options.probability))


def _erase(script: Script, options: Any, data: Data) -> str:
    script.define(_INSIDE)
    script.define(_RECTANGLES)
    top, counted = data.arrays.full_scale, _counted(data)
    mean = "x.float().mean(dim=(2, 3), keepdim=True).round().to(x.dtype)" if counted else "x.mean((2, 3), keepdim=True)"
    noise = f"noise * {top!r}"
    if counted:
        noise = f"(noise * {top + 1!r}).floor().clamp(max={top!r}).to(x.dtype)"
    filling, what = {
        "mean": (f"mean = {mean}\nreturn torch.where(hidden, mean, x)", "their mean color"),
        "black": ("return torch.where(hidden, 0, x)", "black"),
        "noise": (fill(_NOISE, noise=noise), "noise"),
    }[options.fill]
    return fill(
        _ERASE,
        name=_NAME,
        fill=what,
        probability=repr(options.probability),
        scale=repr(options.scale),
        ratio=repr(options.ratio),
        filling=lines([filling], 1),
    )


def _jitter(script: Script, options: Any, data: Data) -> str:
    top, colored = data.arrays.full_scale, data.shape[0] == 3
    changed = _changed(options, data)
    if changed != ["hue"]:
        script.define(BLEND)
        script.define(_FACTORS)
    if colored and {"contrast", "saturation"} & set(changed):
        script.define(GRAY)
    if "hue" in changed:
        script.define(_HUE)
    tone = "gray(changed)" if colored else "changed"
    others = {"brightness": "0.0", "contrast": f"{tone}.mean(dim=(2, 3), keepdim=True)", "saturation": tone}
    body: list[str] = []
    for name in changed:
        strength = getattr(options, name)
        body.append(f"{'elif' if body else 'if'} which == {_COLORS.index(name)}:  # {name}")
        if name == "hue":
            body.append(f"    changed = turn_hue(changed, numbers[which] * {strength!r})")
        else:
            body.append(f"    factor = factors(numbers[which], {strength!r})")
            body.append(f"    changed = blend(changed, {others[name]}, factor, {top!r})")
    return fill(
        _JITTER,
        name=_NAME,
        order=", in a random order" if len(changed) > 1 else "",
        changes=lines(body, 2),
        back=".round().to(x.dtype)" if _counted(data) else "",
    )


def _changed(options: Any, data: Data) -> list[str]:
    """Return what of the colors changes; gray pictures have neither saturation nor hue."""
    return [name for name in (_COLORS if data.shape[0] == 3 else _COLORS[:2]) if getattr(options, name) > 0]


_COLORS: Final = ("brightness", "contrast", "saturation", "hue")


def _mixing(template: str) -> Callable[[Script, Any, Data], str]:
    def write(script: Script, options: Any, data: Data) -> str:
        script.define(_SHARES)
        script.define(_BLENDED)
        if template is _CUTMIX:
            script.define(_INSIDE)
            script.define(_SPAN)
        return fill(template, name=_NAME, alpha=repr(options.alpha), probability=repr(options.probability))

    return write


def _counted(data: Data) -> bool:
    return bool(data.arrays.x_train.dtype == np.uint8)


_NAME: Final = "$name"
"""Where the name of a function goes, once it is known whether it is the only one of this augmentation."""

AUGMENTATIONS: Final[dict[str, Callable[[Script, Any, Data], str]]] = {
    "random_crop": _crop,
    "horizontal_flip": _flip,
    "random_erasing": _erase,
    "color_jitter": _jitter,
    "rand_augment": rand_augment,
    "mixup": _mixing(_MIXUP),
    "cutmix": _mixing(_CUTMIX),
}
"""From the options and the data to the function that makes the change."""


def mixes(spec: Spec) -> bool:
    """Whether samples, and so their targets, are mixed with each other."""
    return any(each.entry.traits["mixes"] for each in spec.data.augment)


def define_augmentation(script: Script, spec: Spec, data: Data) -> list[str]:
    """Define the functions that change batches.

    Returns:
        the lines that take the samples at `batch`, and give them back changed and standardized; none where nothing is
        to be changed.
    """
    idle = [each.name == "color_jitter" and not _changed(each.options, data) for each in spec.data.augment]
    if all(idle):
        return []
    script.heading("The augmentation")
    texts: dict[str, str] = {}
    raw, mixed = [], []
    for each, changes_nothing in zip(spec.data.augment, idle, strict=True):
        if changes_nothing:
            raw.append(_UNCHANGED.strip())
            continue
        text = AUGMENTATIONS[each.name](script, each.options, data)
        if text not in texts:
            count = sum(name.startswith(each.name) for name in texts.values())
            texts[text] = f"{each.name}_{count + 1}" if count else each.name
            script.define(fill(text, name=texts[text]))
        if each.entry.traits["mixes"]:
            mixed.append(f"x, y = {texts[text]}(x, y, self.draws)")
        else:
            raw.append(f"x = {texts[text]}(x, self.draws)")
    made = [f"x, y = {resized(data, 'self.x[batch]')}, self.y[batch]", *raw]
    if not mixed:
        return [*made, "return self.standardize(x), y"]
    made.append("x = self.standardize(x)")
    if build.targets(spec) != "values":
        made.append(f"y = F.one_hot(y, {len(data.parts.classes or ())}).float()  # probabilities")
    return [*made, *mixed[:-1], mixed[-1].replace("x, y =", "return")]
