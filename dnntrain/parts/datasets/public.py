"""Well-known picture data sets, in torchvision's layout and brought by torchvision's own code."""

from __future__ import annotations

import contextlib
import math
import os
import shutil
import sys
import tarfile
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from http.client import HTTPException
from pathlib import Path
from typing import Any

import numpy as np

from dnntrain.errors import DataError
from dnntrain.parts.datasets.base import Decoded, Source, data_folder, datasets, stamps
from dnntrain.registry import ReadPath

_IDX_NAMES = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")
_CIFAR10_NAMES = (*(f"data_batch_{i}" for i in range(1, 6)), "test_batch", "batches.meta")
_IDX_UINT8 = 0x08
_IDX_AXES = (1, 3)  # labels, pictures


@dataclass(frozen=True)
class _Public:
    """A data set that torchvision knows.

    Attributes:
        title: as people call it.
        torchvision: the class in `torchvision.datasets`.
        files: what is read, relative to the data folder.
        archives: what torchvision downloads and unpacks, relative to the data folder.
        decode: reads the files of a data folder.
    """

    title: str
    torchvision: str
    files: tuple[str, ...]
    archives: tuple[str, ...]
    decode: Callable[[_Public, Path], Decoded]


@datasets.register(
    "mnist",
    equation="70,000 pictures of 1 x 28 x 28, 10 classes, values 0..255",
    cite="LeCun, Bottou, Bengio and Haffner (1998), Gradient-Based Learning Applied to Document Recognition",
    downloads=True,
)
def mnist(*, root: ReadPath | None = None) -> Source:
    """Handwritten digits: 60,000 to train, 10,000 to test. Downloaded on first use.

    Args:
        root: the folder that holds `MNIST/raw`; DNNTRAIN_DATA or the user's cache folder if null.
    """
    return _source(_MNIST, root)


@datasets.register(
    "fashion_mnist",
    equation="70,000 pictures of 1 x 28 x 28, 10 classes, values 0..255",
    cite="arXiv:1708.07747",
    downloads=True,
)
def fashion_mnist(*, root: ReadPath | None = None) -> Source:
    """Pieces of clothing, shaped like MNIST and harder: 60,000 to train, 10,000 to test. Downloaded on first use.

    Args:
        root: the folder that holds `FashionMNIST/raw`; DNNTRAIN_DATA or the user's cache folder if null.
    """
    return _source(_FASHION_MNIST, root)


@datasets.register(
    "cifar10",
    equation="60,000 pictures of 3 x 32 x 32, 10 classes, values 0..255",
    cite="Krizhevsky (2009), Learning Multiple Layers of Features from Tiny Images",
    downloads=True,
)
def cifar10(*, root: ReadPath | None = None) -> Source:
    """Small photographs of vehicles and animals: 50,000 to train, 10,000 to test. Downloaded on first use.

    Args:
        root: the folder that holds `cifar-10-batches-py`; DNNTRAIN_DATA or the user's cache folder if null.
    """
    return _source(_CIFAR10, root)


@datasets.register(
    "cifar100",
    equation="60,000 pictures of 3 x 32 x 32, 100 classes, values 0..255",
    cite="Krizhevsky (2009), Learning Multiple Layers of Features from Tiny Images",
    downloads=True,
)
def cifar100(*, root: ReadPath | None = None) -> Source:
    """Small photographs of a hundred kinds of things: 50,000 to train, 10,000 to test. Downloaded on first use.

    Args:
        root: the folder that holds `cifar-100-python`; DNNTRAIN_DATA or the user's cache folder if null.
    """
    return _source(_CIFAR100, root)


def _source(public: _Public, root: Path | None) -> Source:
    folder = root or data_folder()
    files = [folder / name for name in public.files]
    load = partial(public.decode, public, folder)
    if all(os.path.isfile(file) for file in files):
        return Source(load=load, key={"files": stamps(files)})
    return Source(load=load, fetch=partial(_download, public, folder))


def _download(public: _Public, folder: Path) -> None:
    """Let torchvision bring and check the files in a folder of its own, then move them into place.

    torchvision takes a file that was cut short while it was unpacked for a whole one the next time; here nothing
    lies in its place before everything is there.

    Raises:
        DataError: the download failed.
    """
    from torchvision import datasets as torchvision_datasets

    dataset = getattr(torchvision_datasets, public.torchvision)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{public.torchvision}-", dir=folder) as name:
            partial_folder = Path(name)
            for archive in public.archives:
                if (folder / archive).is_file():
                    _copy(folder / archive, partial_folder / archive)
            with contextlib.redirect_stdout(sys.stderr):
                dataset(root=partial_folder, train=True, download=True)
            for file in public.files:
                (folder / file).parent.mkdir(parents=True, exist_ok=True)
                os.replace(partial_folder / file, folder / file)
    except (OSError, RuntimeError, EOFError, HTTPException, tarfile.TarError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[-1]
        raise DataError(
            f"{public.title} could not be downloaded to {folder}: {reason}\n"
            f"    either let this machine reach the network, or put the files there as torchvision lays them out: "
            f"{', '.join(public.files)}; option 'root' or DNNTRAIN_DATA names another folder"
        ) from error


def _copy(source: Path, target: Path) -> None:
    # A copy, not a link: torchvision overwrites an archive whose checksum is wrong, and this one is the user's.
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, target)


def _decode_idx(public: _Public, folder: Path) -> Decoded:
    paths = [folder / name for name in public.files]
    x_train, y_train = _read_idx_pair(public, paths[0], paths[1])
    x_test, y_test = _read_idx_pair(public, paths[2], paths[3])
    if x_train.shape[1:] != x_test.shape[1:]:
        raise DataError(f"{paths[0]} and {paths[2]} hold pictures of different sizes")
    return Decoded(
        x_train=x_train[:, np.newaxis],
        y_train=y_train,
        x_test=x_test[:, np.newaxis],
        y_test=y_test,
        layout="pictures",
        classes=_class_names(public),
        full_scale=255.0,
    )


def _read_idx_pair(public: _Public, x_path: Path, y_path: Path) -> tuple[np.ndarray, np.ndarray]:
    x, y = _read_idx(x_path), _read_idx(y_path)
    if x.ndim != 3 or y.ndim != 1 or len(x) != len(y) or not len(x):
        raise DataError(f"{x_path} holds an array {x.shape}, {y_path} one {y.shape}: not pictures and their labels")
    if y.max() > 9:
        raise DataError(f"{y_path} holds the label {y.max()}, but {public.title} has the classes 0 to 9")
    return x, y.astype(np.int64)


def _class_names(public: _Public) -> tuple[str, ...]:
    if public is _MNIST:
        return tuple(str(digit) for digit in range(10))
    from torchvision.datasets import FashionMNIST

    return tuple(FashionMNIST.classes)


def _read_idx(path: Path) -> np.ndarray:
    """Read bytes in the IDX format: two zeros, the type, the number of axes n, n big-endian lengths, the values.

    Raises:
        DataError: the file cannot be read, or is not what its header says.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}") from error
    axes = content[3] if len(content) > 3 else 0
    header = 4 + 4 * axes
    if content[:3] != bytes((0, 0, _IDX_UINT8)) or axes not in _IDX_AXES or len(content) < header:
        raise DataError(f"{path} is damaged: it does not start like an IDX file of bytes; remove it to have it again")
    shape = tuple(int(length) for length in np.frombuffer(content, dtype=">u4", count=axes, offset=4))
    promised = header + math.prod(shape)
    if len(content) != promised:
        raise DataError(
            f"{path} is damaged: it has {len(content):,} bytes, its header promises {promised:,}; "
            "remove it to have it again"
        )
    return np.frombuffer(content, dtype=np.uint8, offset=header).reshape(shape)


def _decode_cifar(public: _Public, folder: Path) -> Decoded:
    from torchvision import datasets as torchvision_datasets
    from torchvision.datasets.utils import check_integrity

    dataset: Any = getattr(torchvision_datasets, public.torchvision)
    base = folder / dataset.base_folder
    # These files are pickles, which can run anything when they are read: the checksums come first.
    for name, checksum in (*dataset.train_list, *dataset.test_list, (dataset.meta["filename"], dataset.meta["md5"])):
        if not check_integrity(base / name, checksum):
            raise DataError(
                f"{base / name} is damaged or not the original of {public.title} (its checksum is wrong); "
                "remove it to have it again"
            )
    train, test = dataset(root=folder, train=True), dataset(root=folder, train=False)
    return Decoded(
        x_train=train.data.transpose(0, 3, 1, 2),
        y_train=np.asarray(train.targets, dtype=np.int64),
        x_test=test.data.transpose(0, 3, 1, 2),
        y_test=np.asarray(test.targets, dtype=np.int64),
        layout="pictures",
        classes=tuple(train.classes),
        full_scale=255.0,
    )


def _idx_set(title: str, torchvision: str) -> _Public:
    files = tuple(f"{torchvision}/raw/{name}" for name in _IDX_NAMES)
    return _Public(title, torchvision, files, tuple(f"{name}.gz" for name in files), _decode_idx)


def _cifar_set(title: str, torchvision: str, folder: str, names: tuple[str, ...]) -> _Public:
    archive = f"{folder.removesuffix('-batches-py').removesuffix('-python')}-python.tar.gz"
    return _Public(title, torchvision, tuple(f"{folder}/{name}" for name in names), (archive,), _decode_cifar)


_MNIST = _idx_set("MNIST", "MNIST")
_FASHION_MNIST = _idx_set("Fashion-MNIST", "FashionMNIST")
_CIFAR10 = _cifar_set("CIFAR-10", "CIFAR10", "cifar-10-batches-py", _CIFAR10_NAMES)
_CIFAR100 = _cifar_set("CIFAR-100", "CIFAR100", "cifar-100-python", ("train", "test", "meta"))
