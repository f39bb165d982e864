"""What a run directory from elsewhere may and may not do."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

import dnntrain
from dnntrain.errors import DataError, StoreError
from dnntrain.store import RunDirectory
from dnntrain.training.hooks import Hook, RunView

MODEL = {"architecture": {"name": "mlp", "hidden": [4]}}


class Touch:
    """Makes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, ...]:
        return Path.touch, (self.path,)


class Leave(Hook):
    def on_epoch_end(self, run: RunView, /) -> None:
        if run.epoch == 2:
            raise KeyboardInterrupt


def left(folder: Path) -> tuple[RunDirectory, Path]:
    """Leave a run after two of its epochs; return it and its data."""
    data = folder / "data.npz"
    np.savez(data, x_train=np.eye(40, dtype="float32"), y_train=np.arange(40) % 2)
    spec = {"data": {"dataset": {"name": "npz", "path": str(data)}}, "model": MODEL, "training": {"threads": 1}}
    with pytest.raises(KeyboardInterrupt):
        dnntrain.train(spec, runs=folder / "runs", observers=[Leave()])
    (path,) = (folder / "runs").iterdir()
    return RunDirectory(path), data


def test_code_in_a_checkpoint_is_not_run(folder: Path) -> None:
    run, _ = left(folder)
    trap = folder / "trap"
    for path in run.resumable():
        torch.save({"schema": 1, "training": Touch(trap), "record": {}}, path)
    shutil.copy(run.checkpoint(run.LAST), run.checkpoint(run.BEST))
    for act in (dnntrain.resume, dnntrain.load):
        with pytest.raises(StoreError, match="more than tensors and plain values, and loading it could run code"):
            act(run.path)
    assert not trap.exists()


def test_a_run_does_not_go_on_with_other_data(folder: Path) -> None:
    run, data = left(folder)
    np.savez(data, x_train=2 * np.eye(40, dtype="float32"), y_train=np.arange(40) % 2)
    with pytest.raises(DataError, match="the data is not what .* began with"):
        dnntrain.resume(run.path)
    np.savez(data, x_train=np.eye(40, dtype="float32"), y_train=np.arange(40) % 2)
    assert dnntrain.resume(run.path).status in ("completed", "stopped")
