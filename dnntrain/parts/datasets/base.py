"""What every data set comes to: the family, the arrays, and the recipe that makes them."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import platformdirs

from dnntrain.errors import DataError
from dnntrain.registry import Family

Layout = Literal["pictures", "features", "sequences"]

ARRAY_NAMES = ("x_train", "y_train", "x_test", "y_test")

datasets = Family(
    "dataset",
    summary="Where the samples come from: known data sets, folders of pictures, array files and tables.",
    traits={"downloads": False},
    synonyms={
        "cifar": "cifar10",
        "cifar-10": "cifar10",
        "cifar-100": "cifar100",
        "fashion": "fashion_mnist",
        "fashion-mnist": "fashion_mnist",
        "fashionmnist": "fashion_mnist",
        "folder": "image_folder",
        "imagefolder": "image_folder",
        "load_diabetes": "diabetes",
        "load_digits": "digits",
        "numpy": "npz",
        "table": "csv",
    },
)


@dataclass(frozen=True, kw_only=True, eq=False)
class Decoded:
    """A data set as NumPy arrays.

    Attributes:
        x_train: the training samples, shaped as `layout` says.
        y_train: class indices, int64 of shape (N,); or targets, float32 of shape (N,) or (N, K).
        x_test: the test samples, if the data set has any of its own.
        y_test: their labels.
        layout: `pictures` (N, C, H, W) uint8 or float32; `features` (N, F) float32; `sequences` (N, T, F) float32.
        classes: the names of the classes; None for regression.
        full_scale: the value that `standardize: unit` turns into 1.
        grouped: whether the training samples lie class by class, so that a split must shuffle them first.
        feature_names: the names of the columns, where the data has names.
    """

    x_train: np.ndarray
    y_train: np.ndarray
    x_test: np.ndarray | None
    y_test: np.ndarray | None
    layout: Layout
    classes: tuple[str, ...] | None
    full_scale: float = 1.0
    grouped: bool = False
    feature_names: tuple[str, ...] | None = None

    def arrays(self) -> dict[str, np.ndarray]:
        """The arrays that are there, by name."""
        found = {name: getattr(self, name) for name in ARRAY_NAMES}
        return {name: array for name, array in found.items() if array is not None}


@dataclass(frozen=True, kw_only=True, eq=False)
class Arrays(Decoded):
    """A decoded data set, usually memory-mapped from the prepared cache.

    Attributes:
        fingerprint: hash of the content (types, shapes, bytes, class names), wherever the data lies.
    """

    fingerprint: str


@dataclass(frozen=True)
class Source:
    """How to decode a data set; what a factory of the family returns.

    Attributes:
        load: decodes the data.
        key: what the decoded form depends on beside the data set's name and options: the state of the files that
            are read, versions of libraries that bring their own data. Plain values, as JSON knows them.
        fetch: brings files that are not there yet; None where nothing has to be brought.
    """

    load: Callable[[], Decoded]
    key: Mapping[str, Any] = field(default_factory=dict)
    fetch: Callable[[], None] | None = None


def stamps(files: Iterable[Path]) -> list[list[Any]]:
    """Return name, size in bytes and time of change in nanoseconds of each file, to notice when one changes."""
    found = []
    for file in files:
        state = file.stat()
        found.append([str(file), state.st_size, state.st_mtime_ns])
    return found


def cache_folder() -> Path:
    """The folder for what can be made again: DNNTRAIN_CACHE, or the user's cache folder."""
    named = os.environ.get("DNNTRAIN_CACHE")
    return Path(named).expanduser() if named else Path(platformdirs.user_cache_dir("dnntrain", appauthor=False))


def data_folder() -> Path:
    """The folder of downloaded data sets: DNNTRAIN_DATA, or `data` in the user's cache folder."""
    named = os.environ.get("DNNTRAIN_DATA")
    if named:
        return Path(named).expanduser()
    return Path(platformdirs.user_cache_dir("dnntrain", appauthor=False)) / "data"


def require(path: Path, *, dataset: str, kind: Literal["file", "folder"]) -> None:
    """Make sure that a path a file wrote is there.

    Raises:
        DataError: it is not there, or it is a file where a folder is needed, or the other way round.
    """
    # os.path answers where pathlib raises: for a name that is too long, or below a folder that may not be entered.
    if not os.path.exists(path):
        raise DataError(
            f"{dataset}: there is no {kind} {path}\n"
            "    a relative path starts at the folder of the YAML file that wrote it, then at DNNTRAIN_DATA"
        )
    if kind == "folder" and not os.path.isdir(path):
        raise DataError(f"{dataset}: {path} is a file; a folder is needed here")
    if kind == "file" and os.path.isdir(path):
        raise DataError(f"{dataset}: {path} is a folder; a file is needed here")
    if kind == "file" and not os.path.isfile(path):
        # Reading a pipe or a device might never end.
        raise DataError(f"{dataset}: {path} is a pipe or a device; a file is needed here")
