from __future__ import annotations

import colorsys
from collections.abc import Callable

import numpy as np
import pytest
import torch
from tinypictures import changed, draws, pictures
from torch import Tensor
from torchvision.transforms.v2 import functional as vision

from dnntrain.parts.augmentations.color import adjust_brightness, adjust_contrast, adjust_hue, adjust_saturation

FACTORS = [0.0, 0.3, 1.0, 1.4, 3.0]
TURNS = [-0.5, -0.2, 0.0, 0.1, 0.5]
PAIRS: list[tuple[Callable[[Tensor, Tensor, float], Tensor], Callable[[Tensor, float], Tensor], list[float]]] = [
    (adjust_brightness, vision.adjust_brightness, FACTORS),
    (adjust_contrast, vision.adjust_contrast, FACTORS),
    (adjust_saturation, vision.adjust_saturation, FACTORS),
    (adjust_hue, vision.adjust_hue, TURNS),
]


def column(values: list[float]) -> Tensor:
    return torch.tensor(values, dtype=torch.float64).view(-1, 1, 1, 1)


@pytest.mark.parametrize(("ours", "reference", "factors"), PAIRS, ids=["brightness", "contrast", "saturation", "hue"])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("top", [1.0, 255.0])
def test_each_picture_has_its_own_factor(
    ours: Callable[..., Tensor], reference: Callable[..., Tensor], factors: list[float], channels: int, top: float
) -> None:
    x = pictures(len(factors), channels).double() / 255
    after = ours(x * top, column(factors), top) / top
    for before, now, factor in zip(x, after, factors, strict=True):
        # torchvision's gray has 0.2989 of red, which the standard has 0.299 of.
        torch.testing.assert_close(now, reference(before, factor), rtol=0.0, atol=4e-4)


def test_the_hue_turns_as_in_colorsys() -> None:
    turns = [-0.4, -0.1, 0.0, 0.05, 0.3]
    x = pictures(5).double() / 255
    x[:, :, 0, 0] = 0.5  # gray has no hue to turn
    after = adjust_hue(x, column(turns), 1.0)
    for n, turn in enumerate(turns):
        for i in range(x.shape[2]):
            for j in range(x.shape[3]):
                h, s, v = colorsys.rgb_to_hsv(*x[n, :, i, j].tolist())
                expected = colorsys.hsv_to_rgb((h + turn) % 1.0, s, v)
                np.testing.assert_allclose(after[n, :, i, j].numpy(), expected, atol=1e-9)


def factors_of(written: dict[str, float], x: Tensor, strength: Callable[[Tensor], Tensor]) -> Tensor:
    options = {"brightness": 0.0, "contrast": 0.0, "saturation": 0.0, "hue": 0.0, **written}
    return strength(changed({"name": "color_jitter", **options}, x, full_scale=100.0))


FLAT = torch.full((4000, 3, 1, 2), 10.0)
HALVES = FLAT * torch.tensor([0.5, 1.5])  # mean gray 10, a contrast of 10 between the halves
RED = FLAT * torch.tensor([1.2, 1.0, 1.0]).view(1, 3, 1, 1)


@pytest.mark.parametrize("strength", [0.4, 1.5])
def test_factors_are_even_around_one(strength: float) -> None:
    low = max(0.0, 1 - strength)
    for factors in (
        factors_of({"brightness": strength}, FLAT, lambda z: z[:, 0, 0, 0] / 10),
        factors_of({"contrast": strength}, HALVES, lambda z: (z[:, 0, 0, 1] - z[:, 0, 0, 0]) / 10),
        factors_of({"saturation": strength}, RED, lambda z: (z[:, 0, 0, 0] - z[:, 1, 0, 0]) / 2),
    ):
        assert factors.min() >= low - 1e-4
        assert factors.max() <= 1 + strength + 1e-4
        quarters = torch.histc(factors, 4, min=low, max=1 + strength) / len(factors)
        torch.testing.assert_close(quarters, torch.full((4,), 0.25), rtol=0.0, atol=0.03)


def test_hues_are_even_around_the_present_one() -> None:
    red = torch.zeros(3000, 3, 1, 1)
    red[:, 0] = 100.0
    after = factors_of({"hue": 0.1}, red, lambda z: z)
    turns = np.array([colorsys.rgb_to_hsv(*each.flatten().tolist())[0] for each in after / 100])
    turns = (turns + 0.5) % 1 - 0.5
    assert -0.1 <= turns.min() < -0.098
    assert 0.098 < turns.max() <= 0.1
    assert abs(turns.mean()) < 0.004
    assert turns.std() == pytest.approx(0.2 / np.sqrt(12), rel=0.03)


@pytest.mark.parametrize("seed", range(8))
def test_a_batch_is_changed_picture_by_picture_in_the_order_that_was_drawn(seed: int) -> None:
    x = pictures(6) / 255
    options = {"brightness": 0.9, "contrast": 0.8, "saturation": 0.7, "hue": 0.3}
    after = changed({"name": "color_jitter", **options}, x, seed=seed, full_scale=1.0)
    generator = draws(seed)
    order = torch.randperm(4, generator=generator).tolist()
    drawn = 2 * torch.rand(4, len(x), generator=generator) - 1
    for n in range(len(x)):
        picture = x[n]
        for which in order:
            reference, strength = PAIRS[which][1], list(options.values())[which]
            picture = reference(picture, float(strength * drawn[which, n]) + (0.0 if which == 3 else 1.0))
        torch.testing.assert_close(after[n], picture, rtol=0.0, atol=3e-3)


def test_these_batches_had_orders_of_their_own() -> None:
    orders = {tuple(torch.randperm(4, generator=draws(seed)).tolist()) for seed in range(8)}
    assert len(orders) > 4


def test_nothing_to_jitter_changes_nothing() -> None:
    x = pictures(5)
    nothing = {"name": "color_jitter", "brightness": 0.0, "contrast": 0.0, "saturation": 0.0, "hue": 0.0}
    assert torch.equal(changed(nothing, x), x)


def test_bytes_are_rounded_not_cut() -> None:
    x = torch.full((2000, 3, 1, 1), 100, dtype=torch.uint8)
    after = changed({"name": "color_jitter", "brightness": 0.01, "contrast": 0.0, "saturation": 0.0, "hue": 0.0}, x)
    # Factors within 1 +- 0.01 give 99 to 101; cut off, 99 would come as often as 100 and 101 never.
    shares = [(after == value).float().mean().item() for value in (99, 100, 101)]
    assert shares == pytest.approx([0.25, 0.5, 0.25], abs=0.05)
