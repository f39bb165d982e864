"""What holds for every augmentation."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from tinypictures import draws, made, pictures

from dnntrain.errors import DataError
from dnntrain.parts.augmentations import augmentations
from dnntrain.registry import Entry

ENTRIES = list(augmentations)
CHANGING = [entry for entry in ENTRIES if not entry.traits["mixes"]]
NAMED = {"ids": lambda entry: entry.name}


def inputs(entry: Entry, dtype: torch.dtype = torch.float32) -> tuple[torch.Tensor, torch.Tensor]:
    x = pictures(64)
    x = x if dtype == torch.uint8 else (x / 255).to(dtype)
    return x, torch.arange(64) % 10


def full_scale(x: torch.Tensor) -> float:
    return 255.0 if x.dtype == torch.uint8 else 1.0


def test_all_of_them_are_here() -> None:
    assert augmentations.names() == [
        "color_jitter",
        "cutmix",
        "horizontal_flip",
        "mixup",
        "rand_augment",
        "random_crop",
        "random_erasing",
    ]
    assert {entry.name for entry in ENTRIES if entry.traits["mixes"]} == {"mixup", "cutmix"}


@pytest.mark.parametrize("dtype", [torch.float32, torch.uint8, torch.bfloat16], ids=str)
@pytest.mark.parametrize("entry", CHANGING, **NAMED)
def test_shape_type_and_range_are_kept(entry: Entry, dtype: torch.dtype) -> None:
    x, y = inputs(entry, dtype)
    after, targets = made(entry.example, full_scale=full_scale(x))(x, y, draws())
    assert (after.shape, after.dtype) == (x.shape, x.dtype)
    assert targets is y
    assert after.min() >= 0
    assert after.max() <= full_scale(x)


@pytest.mark.parametrize("entry", ENTRIES, **NAMED)
def test_the_generator_decides_everything(entry: Entry) -> None:
    x, y = inputs(entry)
    augmentation = made(entry.example, full_scale=1.0)
    generator = draws(3)
    state = generator.get_state()
    first = augmentation(x, y, generator)
    second = augmentation(x, y, generator)
    assert not torch.equal(first[0], second[0]), "the generator did not move on"

    torch.manual_seed(1)
    generator.set_state(state)
    again = augmentation(x, y, generator)
    torch.manual_seed(2)
    other = made(entry.example, full_scale=1.0)(x, y, draws(3))
    for repeated in (again, other):
        assert all(torch.equal(one, two) for one, two in zip(first, repeated, strict=True))


@pytest.mark.parametrize("entry", ENTRIES, **NAMED)
def test_the_global_generator_and_the_batch_are_left_alone(entry: Entry) -> None:
    x, y = inputs(entry)
    before, copies = torch.get_rng_state(), (x.clone(), y.clone())
    made(entry.example, full_scale=1.0)(x, y, draws())
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(x, copies[0])
    assert torch.equal(y, copies[1])


@pytest.mark.parametrize("entry", ENTRIES, **NAMED)
@pytest.mark.parametrize("count", [1, 2])
def test_the_smallest_batches_pass(entry: Entry, count: int) -> None:
    x, y = inputs(entry)
    after, targets = made(entry.example, full_scale=1.0)(x[:count], y[:count], draws())
    assert after.shape == x[:count].shape
    assert len(targets) == count


@pytest.mark.parametrize("entry", [entry for entry in ENTRIES if entry.traits["pictures"]], **NAMED)
@pytest.mark.parametrize("shape", [(4, 6), (4, 6, 5)], ids=str)
def test_what_is_no_picture_is_refused(entry: Entry, shape: tuple[int, ...]) -> None:
    with pytest.raises(DataError, match=rf"'{entry.name}' changes pictures.*shape \({shape[1]},.*data\.augment"):
        made(entry.example)(torch.zeros(shape), torch.zeros(4).long(), draws())


@pytest.mark.parametrize("name", ["color_jitter", "rand_augment"])
def test_pictures_without_colors_are_refused(name: str) -> None:
    with pytest.raises(DataError, match=f"'{name}' changes pictures of 1 or 3 channels, but these have 4"):
        made(name)(torch.zeros(2, 4, 8, 8), torch.zeros(2).long(), draws())


@pytest.mark.parametrize("name", ["color_jitter", "rand_augment", "random_erasing"])
@pytest.mark.parametrize("top", [16, 255])
def test_gray_pictures_of_any_full_scale_pass(name: str, top: int) -> None:
    x = pictures(64, 1, 8, 8, top=top)
    after, _ = made(name, full_scale=float(top))(x, torch.arange(64), draws())
    assert after.dtype == torch.uint8
    assert after.max() <= top
    assert not torch.equal(after, x)


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("entry", ENTRIES, **NAMED)
def test_the_decisions_are_the_same_on_a_gpu(entry: Entry) -> None:
    x, y = inputs(entry)
    here = made(entry.example, full_scale=1.0)(x, y, draws())
    there = made(entry.example, full_scale=1.0)(x.cuda(), y.cuda(), draws())
    for one, other in zip(here, there, strict=True):
        assert other.device.type == "cuda"
        # Values on the edge of a level may be rounded to either side.
        assert ((one - other.cpu()).abs() > 1e-4).float().mean() < 0.01


WRONG: list[tuple[str, dict[str, Any]]] = [
    ("random_crop", {"padding": 0}),
    ("horizontal_flip", {"probability": 1.5}),
    ("color_jitter", {"hue": 0.6}),
    ("color_jitter", {"brightness": -0.1}),
    ("rand_augment", {"magnitude": 31}),
    ("rand_augment", {"operations": 0}),
    ("random_erasing", {"scale": [0.3, 0.1]}),
    ("random_erasing", {"scale": [0.1, 1.2]}),
    ("random_erasing", {"ratio": [0.0, 1.0]}),
    ("random_erasing", {"ratio": [1.0]}),
    ("mixup", {"alpha": 0.0}),
]


@pytest.mark.parametrize(("name", "options"), WRONG, ids=str)
def test_impossible_options_are_refused(name: str, options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(options))):
        augmentations.choose({"name": name, **options})
