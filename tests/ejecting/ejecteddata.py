"""Small data sets of every kind that can be ejected: in the layouts of known ones, and as arrays."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np

COUNT = 150
TOKENS = 7


def datasets(folder: Path) -> list[dict[str, Any]]:
    """Write data sets, and return each with what it is for."""
    found: list[dict[str, Any]] = [
        {"dataset": "digits", "kind": "classes", "pictures": True},
        {"dataset": "digits", "kind": "binary", "pictures": True},
        {"dataset": "diabetes", "kind": "values", "pictures": False},
    ]
    # A path that has to be quoted.
    root = folder / 'it\'s "data" \\ $x é'
    root.mkdir()
    for name in ("mnist", "fashion_mnist", "cifar10", "cifar100"):
        found.append({"dataset": {"name": name, "root": str(root)}, "kind": "classes", "pictures": True})
    _write_idx(root / "MNIST" / "raw")
    _write_idx(root / "FashionMNIST" / "raw")
    _write_cifar(root)
    return [*found, *_archives(root)]


def _archives(root: Path) -> list[dict[str, Any]]:
    draw = np.random.default_rng(0)
    labels = np.arange(COUNT) % 3
    arrays: dict[str, Any] = {
        "grey": ("classes", True, draw.integers(0, 256, (COUNT, 8, 8), dtype=np.uint8), labels),
        "color": ("classes", True, draw.integers(0, 256, (COUNT, 8, 8, 3)), labels[:, np.newaxis]),
        "floats": ("values", True, draw.normal(size=(COUNT, 3, 8, 8)), draw.normal(size=(COUNT, 2))),
        "sequences": ("values", False, draw.normal(3, 2, size=(COUNT, 5, 4)), draw.normal(size=COUNT)),
        "features": ("classes", False, draw.normal(-1, 3, size=(COUNT, 6)), labels),
        "tokens": ("classes", False, draw.integers(0, TOKENS, (COUNT, 5)), labels),
    }
    found = []
    for name, (kind, pictures, x, y) in arrays.items():
        np.savez(root / f"{name}.npz", x_train=x, y_train=y, x_test=x[:20], y_test=y[:20])
        dataset = {"name": "npz", "path": str(root / f"{name}.npz")}
        found.append({"dataset": dataset, "kind": kind, "pictures": pictures, "holds": name})
    return found


def many_values(folder: Path) -> dict[str, Any]:
    """Return an experiment on so many values that they are measured in several pieces.

    Of the samples, those left for training are one too many for whole batches, whether trained on or measured anew.
    """
    draw = np.random.default_rng(1)
    x, y = draw.normal(5, 2, size=(1400, 1100)), draw.normal(size=1400)
    np.savez(folder / "many.npz", x_train=x, y_train=y, x_test=x[:20], y_test=y[:20])
    return {
        "data": {
            "dataset": {"name": "npz", "path": str(folder / "many.npz")},
            "batch_size": 512,
            "validation": {"size": 375},
        },
        "model": {"architecture": {"name": "mlp", "hidden": [2]}, "normalization": "batch"},
        "training": {"epochs": 1, "threads": 1, "device": "cpu", "average": {"name": "swa", "start": 0}},
    }


def many_samples(folder: Path) -> dict[str, Any]:
    """Return an experiment with so many batches that metrics are summed up several times in an epoch."""
    draw = np.random.default_rng(4)
    x, y = draw.normal(size=(9500, 3)), draw.normal(size=9500)
    np.savez(folder / "samples.npz", x_train=x, y_train=y, x_test=x[:9000] + 1, y_test=y[:9000])
    return {
        "data": {
            "dataset": {"name": "npz", "path": str(folder / "samples.npz")},
            "validation": {"size": 9000},
            "limit": 150,
            "batch_size": 1,
        },
        "model": {"architecture": {"name": "mlp", "hidden": [3]}},
        "metrics": ["mae", "mse", "r2"],
        "training": {"epochs": 1, "threads": 1, "device": "cpu", "accumulate": 3},
    }


def many_pictures(folder: Path) -> list[dict[str, Any]]:
    """Return experiments on so many pictures, bytes and floats, that resized ones are measured in several pieces."""
    draw = np.random.default_rng(5)
    x, y = draw.normal(3, 2, size=(300, 1, 8, 8)), draw.normal(size=300)
    np.savez(folder / "pictures.npz", x_train=x, y_train=y, x_test=x[:20], y_test=y[:20])
    floats = {"dataset": {"name": "npz", "path": str(folder / "pictures.npz")}, "resize": 66, "batch_size": 128}
    return [
        {
            "data": {"validation": {"size": 20}, "standardize": "channel", **data},
            "model": {"architecture": {"name": "mlp", "hidden": []}},
            "training": {"epochs": 1, "threads": 1, "device": "cpu"},
        }
        for data in (floats, {"dataset": "digits", "resize": [3, 4], "batch_size": 512})
    ]


def spoilt() -> dict[str, Any]:
    """Return an experiment whose first step leaves weights with which no figure is finite any more."""
    return {
        "data": {"dataset": "digits", "limit": 100, "batch_size": 100},
        "model": {"architecture": {"name": "mlp", "hidden": [8, 8, 8]}},
        "optimizer": {"name": "sgd", "lr": 1e15},
        "training": {"epochs": 3, "threads": 1, "device": "cpu"},
        "callbacks": ["terminate_on_nan"],
    }


def biased() -> list[dict[str, Any]]:
    """Return experiments of which some convolutions have a bias: all but those of shortcuts, or all but the first."""
    models = [
        {"architecture": {"name": "resnet", "depth": 8, "width": 2, "shortcut": "projection"}, "normalization": "none"},
        {
            "architecture": {"name": "wide_resnet", "depth": 10, "widen": 2},
            "normalization": {"name": "group", "groups": 16},
        },
    ]
    return [
        {
            "data": {"dataset": "digits", "limit": 50},
            "model": {"activation": "relu", **model},
            "training": {"epochs": 1, "threads": 1, "device": "cpu"},
        }
        for model in models
    ]


def tabled() -> dict[str, Any]:
    """Return an experiment whose optimizer rounds some updates otherwise at the end of a vector: positions have one."""
    return {
        "data": {"dataset": "digits", "limit": 100, "batch_size": 10},
        "model": {"architecture": {"name": "vit", "patch": 4, "width": 5, "heads": 1, "layers": 1}},
        "optimizer": {"name": "sgd", "lr": 0.1, "momentum": 0.9},
        "training": {"epochs": 2, "threads": 1, "device": "cpu"},
    }


def patient() -> dict[str, Any]:
    """Return an experiment that waits twice for two epochs, with classes of one sample, and noise of rrelu alone."""
    return {
        "data": {"dataset": "digits", "limit": 60, "validation": {"size": 10}},
        "model": {"architecture": {"name": "mlp", "hidden": [8]}, "activation": "rrelu"},
        "schedule": {"name": "performance", "patience": 2, "min_delta": 9.0},
        "metrics": ["f1", "precision", "recall"],
        "training": {"epochs": 6, "threads": 1, "device": "cpu"},
        "callbacks": [],
    }


def shaken() -> dict[str, Any]:
    """Return an experiment whose gradients alone are noisy."""
    return {
        "data": {"dataset": "digits", "limit": 60},
        "model": {"architecture": {"name": "mlp", "hidden": [8]}, "activation": "relu"},
        "regularizers": [{"name": "gradient_noise", "eta": 0.1}],
        "training": {"epochs": 2, "threads": 1, "device": "cpu"},
    }


def _write_idx(folder: Path) -> None:
    folder.mkdir(parents=True)
    draw = np.random.default_rng(2)
    for part in ("train", "t10k"):
        arrays = {"images-idx3": draw.integers(0, 256, (COUNT, 28, 28)), "labels-idx1": np.arange(COUNT) % 10}
        for name, array in arrays.items():
            header = bytes((0, 0, 8, array.ndim)) + np.array(array.shape, dtype=">u4").tobytes()
            (folder / f"{part}-{name}-ubyte").write_bytes(header + array.astype(np.uint8).tobytes())


def _write_cifar(root: Path) -> None:
    draw = np.random.default_rng(3)
    (root / "cifar-10-batches-py").mkdir()
    (root / "cifar-100-python").mkdir()

    def write(path: str, content: Any) -> None:
        (root / path).write_bytes(pickle.dumps(content))

    def pictures(count: int, key: str) -> dict[str, Any]:
        return {"data": draw.integers(0, 256, (count, 3072), dtype=np.uint8), key: [i % 10 for i in range(count)]}

    for name in (*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"):
        write(f"cifar-10-batches-py/{name}", pictures(COUNT // 5, "labels"))
    write("cifar-10-batches-py/batches.meta", {"label_names": [f"class{i}" for i in range(10)]})
    for name in ("train", "test"):
        write(f"cifar-100-python/{name}", pictures(COUNT, "fine_labels"))
    write("cifar-100-python/meta", {"fine_label_names": [f"class{i}" for i in range(100)]})
