from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable

import pytest
import torch
from tinypictures import changed, pictures
from torch import Tensor
from torchvision.transforms.v2 import InterpolationMode
from torchvision.transforms.v2 import functional as vision

from dnntrain.parts.augmentations import rand_augment as module

BILINEAR = InterpolationMode.BILINEAR


def affine(x: Tensor, *, shift: tuple[float, float] = (0, 0), shear: tuple[float, float] = (0, 0)) -> Tensor:
    """Shear around the corner, or move; torchvision counts moves in the opposite direction."""
    degrees = [math.degrees(math.atan(each)) for each in shear]
    return vision.affine(
        x,
        angle=0.0,
        translate=[-each for each in shift],
        scale=1.0,
        shear=degrees,
        center=[0, 0],
        interpolation=BILINEAR,
    )


def bits(level: float) -> int:
    return 8 - round(4 * abs(level))


REFERENCES: dict[str, Callable[[Tensor, float], Tensor]] = {
    "identity": lambda x, level: x,
    "shear_x": lambda x, level: affine(x, shear=(0.3 * level, 0)),
    "shear_y": lambda x, level: affine(x, shear=(0, 0.3 * level)),
    "translate_x": lambda x, level: affine(x, shift=(150 / 331 * x.shape[-1] * level, 0)),
    "translate_y": lambda x, level: affine(x, shift=(0, 150 / 331 * x.shape[-2] * level)),
    "rotate": lambda x, level: vision.rotate(x, 30 * level, interpolation=BILINEAR),
    "brightness": lambda x, level: vision.adjust_brightness(x, 1 + 0.9 * level),
    "color": lambda x, level: vision.adjust_saturation(x, 1 + 0.9 * level),
    "contrast": lambda x, level: vision.adjust_contrast(x, 1 + 0.9 * level),
    "sharpness": lambda x, level: vision.adjust_sharpness(x, 1 + 0.9 * level),
    "posterize": lambda x, level: vision.posterize((x * 255).round().to(torch.uint8), bits(level)) / 255,
    "solarize": lambda x, level: vision.solarize(x, 1 - abs(level)),
    "autocontrast": lambda x, level: vision.autocontrast(x),
    "equalize": lambda x, level: vision.equalize((x * 255).round().to(torch.uint8)) / 255,
}


def test_every_operation_has_a_reference() -> None:
    assert [operation.__name__ for operation in module.OPERATIONS] == list(REFERENCES)


@pytest.mark.parametrize("operation", module.OPERATIONS, ids=lambda operation: operation.__name__)
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("size", [(20, 33), (40, 32)], ids=str)
def test_each_picture_is_changed_at_its_own_level(
    operation: module.Operation, channels: int, size: tuple[int, int]
) -> None:
    levels = [-1.0, -0.3, 0.1, 0.5, 1.0]
    x = torch.nn.functional.avg_pool2d(pictures(5, channels, 2 * size[0], 2 * size[1]).float(), 2).round()
    x[0] = 77.0  # a flat picture, which neither autocontrast nor equalize can stretch
    after = operation(x, torch.tensor(levels).view(-1, 1, 1, 1))
    for before, now, level in zip(x, after, levels, strict=True):
        expected = 255 * REFERENCES[operation.__name__](before / 255, level)
        torch.testing.assert_close(now, expected, rtol=0.0, atol=0.1)


def test_a_narrow_picture_is_not_sharpened() -> None:
    x = pictures(2, 3, 2, 5).float()
    assert torch.equal(module.sharpness(x, torch.ones(2, 1, 1, 1)), x)


def candidates(picture: Tensor, level: float) -> dict[str, Tensor]:
    """Return the picture after each operation, in both directions where these differ."""
    return {
        f"{operation.__name__} {sign:+d}": operation(picture, torch.full((1, 1, 1, 1), sign * level))
        for operation in module.OPERATIONS
        for sign in (1, -1)
    }


@pytest.mark.parametrize("magnitude", [9, 20])
def test_operations_and_directions_are_drawn_evenly(magnitude: int) -> None:
    count = 4200
    picture = torch.nn.functional.avg_pool2d(pictures(1, 3, 32, 32).float(), 2).round()
    after = changed(
        {"name": "rand_augment", "operations": 1, "magnitude": magnitude}, picture.expand(count, -1, -1, -1)
    )
    known = candidates(picture, magnitude / 30)
    names, stacked = list(known), torch.cat(list(known.values())).flatten(1)
    distances = torch.cdist(after.flatten(1), stacked, compute_mode="donot_use_mm_for_euclid_dist")
    assert (distances.amin(dim=1) < 0.1).all(), "something else than an operation of that strength"
    seen = Counter(names[i] for i in distances.argmin(dim=1).tolist())
    for operation in module.OPERATIONS:
        name = operation.__name__
        assert seen[f"{name} +1"] + seen[f"{name} -1"] == pytest.approx(count / 14, abs=75)
        if name in ("rotate", "shear_x", "shear_y", "translate_x", "translate_y", "color", "contrast", "brightness"):
            assert seen[f"{name} +1"] == pytest.approx(count / 28, abs=50)


def test_several_operations_follow_each_other() -> None:
    picture = torch.nn.functional.avg_pool2d(pictures(1, 3, 24, 24).float(), 2).round()
    after = changed({"name": "rand_augment", "operations": 2, "magnitude": 15}, picture.expand(40, -1, -1, -1))
    singles = candidates(picture, 0.5).values()
    twice = torch.cat([torch.cat(list(candidates(each, 0.5).values())) for each in singles]).flatten(1)
    assert (torch.cdist(after.flatten(1), twice, compute_mode="donot_use_mm_for_euclid_dist").amin(dim=1) < 0.1).all()


@pytest.mark.parametrize("full_scale", [1.0, 16.0])
def test_other_scales_are_changed_alike(full_scale: float) -> None:
    x = pictures(200, 3, 12, 12)
    bytes_after = changed("rand_augment", x)
    floats_after = changed("rand_augment", x.double() / 255 * full_scale, full_scale=full_scale)
    different = (floats_after * 255 / full_scale - bytes_after).abs() > 0.51
    # Where an operation takes a value to be just above or below a level, or a threshold, it may jump.
    assert different.double().mean() < 0.02


def test_magnitude_zero_hardly_changes_anything() -> None:
    x = pictures(300, 3, 10, 10)
    after = changed({"name": "rand_augment", "operations": 1, "magnitude": 0}, x)
    same = (after == x).flatten(1).all(dim=1)
    # autocontrast and equalize have no strength, and solarize at 255 turns white alone to black.
    assert 10 / 14 < same.float().mean() < 1
