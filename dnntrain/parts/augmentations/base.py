"""What every augmentation is: the family, the interface, and the tools that several of them share."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

import torch
from torch import Tensor
from typing_extensions import override

from dnntrain.errors import DataError
from dnntrain.registry import Family

augmentations = Family(
    "augmentation",
    summary="Random changes to training batches, made where the network runs.",
    traits={"mixes": False, "pictures": True},
    synonyms={
        "autoaugment": "rand_augment",
        "colorjitter": "color_jitter",
        "crop": "random_crop",
        "cutout": "random_erasing",
        "flip": "horizontal_flip",
        "random_horizontal_flip": "horizontal_flip",
        "randaugment": "rand_augment",
        "randomcrop": "random_crop",
        "randomerasing": "random_erasing",
    },
)
"""The trait `mixes` says whether samples are mixed with each other, targets included. Such an augmentation is called
with standardized floats; the others with what the data set holds, before it is standardized. `pictures` says whether
only pictures will do."""


class Augmentation(ABC):
    """Changes a training batch. It keeps no state: all that is random is drawn from the generator that it is given."""

    @abstractmethod
    def __call__(self, x: Tensor, y: Tensor, generator: torch.Generator, /) -> tuple[Tensor, Tensor]:
        """Return the changed batch; what is passed in is left as it is.

        Args:
            x: inputs of shape (N, ...), uint8 or float, on any device.
            y: targets on the same device: class indices, int64 of shape (N,), or floats of shape (N, K).
            generator: a CPU generator, so that the decisions are the same on every device.

        Raises:
            DataError: the augmentation does not suit such inputs.
        """


class PictureAugmentation(Augmentation):
    """Changes each picture by itself and leaves targets alone; keeps shape and type.

    Attributes:
        name: what a file calls it.
    """

    name: ClassVar[str]

    @override
    def __call__(self, x: Tensor, y: Tensor, generator: torch.Generator, /) -> tuple[Tensor, Tensor]:
        require_pictures(x, self.name)
        return self.change(x, generator), y

    @abstractmethod
    def change(self, x: Tensor, generator: torch.Generator, /) -> Tensor:
        """Return the changed pictures, of the same shape (N, C, H, W) and type."""


def require_pictures(x: Tensor, name: str) -> None:
    """Make sure that inputs are pictures.

    Raises:
        DataError: they have another shape.
    """
    if x.ndim != 4:
        raise DataError(
            f"augmentation '{name}' changes pictures (channels, height, width), but a sample has shape "
            f"{tuple(x.shape[1:])}; remove it from data.augment"
        )


def require_colors(x: Tensor, name: str) -> None:
    """Make sure that pictures are gray or red, green and blue.

    Raises:
        DataError: they have another number of channels.
    """
    if x.shape[1] not in (1, 3):
        raise DataError(
            f"augmentation '{name}' changes pictures of 1 or 3 channels, but these have {x.shape[1]}; "
            "remove it from data.augment"
        )


def like(changed: Tensor, x: Tensor) -> Tensor:
    """Return changed values in the type of the original ones, rounded where that holds whole numbers."""
    return changed.to(x.dtype) if x.is_floating_point() else changed.round().to(x.dtype)


def each(draws: Tensor, x: Tensor) -> Tensor:
    """Return one draw for each sample, of shape (N,), on the device of `x` and shaped to go with it."""
    return draws.to(x.device).view(-1, *[1] * (x.ndim - 1))


def rectangles(top: Tensor, left: Tensor, bottom: Tensor, right: Tensor, x: Tensor) -> Tensor:
    """Return which pixels of each picture lie in its rectangle, of shape (N, 1, H, W).

    Args:
        top: first row of each rectangle, int64 of shape (N,).
        left: first column.
        bottom: the row after the last.
        right: the column after the last.
        x: the pictures.
    """
    row = torch.arange(x.shape[2], device=x.device).view(1, 1, -1, 1)
    column = torch.arange(x.shape[3], device=x.device).view(1, 1, 1, -1)
    inside_rows = (row >= each(top, x)) & (row < each(bottom, x))
    inside_columns = (column >= each(left, x)) & (column < each(right, x))
    return inside_rows & inside_columns
