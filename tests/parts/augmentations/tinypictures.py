"""Pictures and generators for the tests of augmentations."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from dnntrain.parts.augmentations import Augmentation, augmentations


def draws(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def pictures(count: int, channels: int = 3, height: int = 9, width: int = 7, *, top: int = 255) -> Tensor:
    """Make pictures of bytes, every pixel its own."""
    return torch.randint(0, top + 1, (count, channels, height, width), generator=draws(7), dtype=torch.uint8)


def made(written: Any, *, full_scale: float = 255.0, classes: int = 10) -> Augmentation:
    augmentation: Augmentation = augmentations.choose(written).build(full_scale=full_scale, classes=classes)
    return augmentation


def changed(written: Any, x: Tensor, *, seed: int = 0, full_scale: float = 255.0) -> Tensor:
    """Apply an augmentation that leaves targets alone."""
    y = torch.arange(len(x))
    after, targets = made(written, full_scale=full_scale)(x, y, draws(seed))
    assert targets is y
    return after
