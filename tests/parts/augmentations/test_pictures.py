from __future__ import annotations

import math
from collections import Counter
from typing import Any

import numpy as np
import pytest
import torch
from tinypictures import changed, draws, made, pictures
from torch import Tensor


def moved(picture: np.ndarray, down: int, along: int) -> np.ndarray:
    """Return one picture moved by so many pixels, black where nothing was; pixel by pixel."""
    channels, height, width = picture.shape
    after = np.zeros_like(picture)
    for c in range(channels):
        for i in range(height):
            for j in range(width):
                if 0 <= i + down < height and 0 <= j + along < width:
                    after[c, i, j] = picture[c, i + down, j + along]
    return after


@pytest.mark.parametrize("padding", [1, 3])
def test_random_crop_moves_each_picture_by_its_own_offset(padding: int) -> None:
    count = 900
    picture = pictures(1)
    after = changed({"name": "random_crop", "padding": padding}, picture.expand(count, -1, -1, -1))
    offsets = [(a, b) for a in range(-padding, padding + 1) for b in range(-padding, padding + 1)]
    known = {moved(picture[0].numpy(), *offset).tobytes(): offset for offset in offsets}
    assert len(known) == len(offsets)
    seen = Counter(known[each.numpy().tobytes()] for each in after)
    expected = count / len(offsets)
    assert set(seen) == set(offsets)
    assert sum((seen[offset] - expected) ** 2 / expected for offset in offsets) < 2 * len(offsets), "not even"


def test_random_crop_keeps_pictures_apart() -> None:
    x = pictures(40)
    after = changed({"name": "random_crop", "padding": 2}, x)
    for before, now in zip(x.numpy(), after.numpy(), strict=True):
        assert any((moved(before, a, b) == now).all() for a in range(-2, 3) for b in range(-2, 3))


@pytest.mark.parametrize("probability", [0.0, 0.3, 1.0])
def test_horizontal_flip_mirrors_its_share_of_the_pictures(probability: float) -> None:
    x = pictures(2000, 3, 2, 3)
    after = changed({"name": "horizontal_flip", "probability": probability}, x)
    mirrored = torch.from_numpy(np.ascontiguousarray(x.numpy()[:, :, :, ::-1]))
    kept, flipped = ((after == one).flatten(1).all(dim=1) for one in (x, mirrored))
    assert (kept | flipped).all()
    assert (flipped & ~kept).float().mean().item() == pytest.approx(probability, abs=0.04)


def erased(x: Tensor, **options: Any) -> tuple[Tensor, Tensor]:
    """Return the pictures after erasing, and which pixels were erased in all channels."""
    after = changed({"name": "random_erasing", **options}, x)
    return after, (after != x).any(dim=1)


def boxes(mask: Tensor) -> list[tuple[int, int, int, int]]:
    """Return the rectangle of each picture that has one, as top, left, height and width; they must be full."""
    found = []
    for each in mask.numpy():
        if each.any():
            rows, columns = np.flatnonzero(each.any(axis=1)), np.flatnonzero(each.any(axis=0))
            top, left, tall, wide = rows[0], columns[0], rows[-1] - rows[0] + 1, columns[-1] - columns[0] + 1
            assert each.sum() == tall * wide, "not a full rectangle"
            found.append((int(top), int(left), int(tall), int(wide)))
    return found


WHITE = torch.full((3000, 3, 40, 30), 255, dtype=torch.uint8)


def test_random_erasing_blackens_one_rectangle_in_its_share_of_the_pictures() -> None:
    after, mask = erased(WHITE, probability=0.4, fill="black")
    assert set(after.unique().tolist()) == {0, 255}
    assert (after == after[:, :1]).all(), "the channels differ"
    found = boxes(mask)
    assert len(found) / len(WHITE) == pytest.approx(0.4, abs=0.03)
    # Anywhere: every row and column is hit by some rectangle, the corners too.
    assert mask.any(dim=0).all()


def test_random_erasing_keeps_to_its_areas_and_ratios() -> None:
    _, mask = erased(WHITE, probability=1.0, scale=[0.05, 0.2], ratio=[0.5, 2.0], fill="black")
    found = boxes(mask)
    assert len(found) == len(WHITE), "each of these rectangles fits"
    area = np.array([tall * wide for _, _, tall, wide in found]) / (40 * 30)
    ratio = np.array([tall / wide for _, _, tall, wide in found])
    assert 0.04 < area.min() < 0.06
    assert 0.18 < area.max() < 0.22
    assert area.mean() == pytest.approx(0.125, abs=0.003)
    assert 0.42 < ratio.min() < 0.55
    assert 1.8 < ratio.max() < 2.3
    assert np.log(ratio).mean() == pytest.approx(0.0, abs=0.03), "tall and wide ones are equally likely"
    assert np.log(ratio).std() == pytest.approx(math.log(4) / math.sqrt(12), abs=0.02)


def test_random_erasing_takes_the_first_rectangle_that_fits() -> None:
    # Of area 0.9 and a ratio from 1/16 to 16, most are too long: one attempt alone would leave most pictures alone.
    _, mask = erased(WHITE[:500, :, :20, :20], probability=1.0, scale=[0.9, 0.9], ratio=[0.0625, 16.0], fill="black")
    found = boxes(mask)
    assert 0.05 < len(found) / 500 < 0.6
    for _, _, tall, wide in found:
        assert max(tall, wide) < 20
        assert abs(tall * wide - 360) < 20


def test_random_erasing_fills_with_the_mean_color() -> None:
    x = pictures(50, 3, 12, 12)
    after, mask = erased(x, probability=1.0, fill="mean")
    mean = x.numpy().astype(np.float64).mean(axis=(2, 3))
    for i in range(50):
        inside = after.numpy()[i][:, mask[i].numpy()]
        assert np.all(np.abs(inside - mean[i][:, None]) <= 0.5 + 1e-6)


@pytest.mark.parametrize("floats", [False, True])
def test_random_erasing_fills_with_noise(floats: bool) -> None:
    x = WHITE[:200] if not floats else torch.full((200, 3, 40, 30), 5.0)
    top = 5.0 if floats else 255.0
    options = {"name": "random_erasing", "probability": 1.0, "fill": "noise"}
    after, _ = made(options, full_scale=top)(x, torch.zeros(200).long(), draws())
    noise = after[after != x].double()
    assert noise.mean().item() == pytest.approx(top / 2, rel=0.02)
    assert noise.std().item() == pytest.approx(top / math.sqrt(12), rel=0.02)
    first = after[0][(after[0] != x[0])]
    assert len(first.unique()) > len(first) / (2 if floats else 20)


def test_what_is_outside_the_rectangle_is_left_alone() -> None:
    x = pictures(60, 3, 12, 12)
    after, mask = erased(x, probability=1.0, fill="noise")
    for box, before, now in zip(mask, x, after, strict=True):
        rows, columns = box.any(dim=1).nonzero(), box.any(dim=0).nonzero()
        if len(rows):
            outside = torch.ones(12, 12, dtype=torch.bool)
            outside[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1] = False
            assert torch.equal(before[:, outside], now[:, outside])
