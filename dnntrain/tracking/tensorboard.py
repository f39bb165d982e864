"""TensorBoard: event files in the run directory, so that `tensorboard --logdir runs` shows every run."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any, Final

from typing_extensions import override

from dnntrain.diagnostics.histograms import is_due, weight_histograms
from dnntrain.store import RunDirectory
from dnntrain.store.events import EventWriter
from dnntrain.tracking.base import Tracker, scalars
from dnntrain.training.hooks import RunView

SHARE: Final = 0.01
"""The part of training time that histograms may take."""


class TensorBoard(Tracker):
    """Writes an epoch's figures, those of the best epoch under `best/`, and how the weights are distributed.

    Gradients are not drawn: what is left of them at the end of an epoch is of a single batch, and tells little. Their
    norm over the epoch is among the figures.

    Args:
        directory: of the run.
    """

    name = "tensorboard"

    def __init__(self, directory: RunDirectory) -> None:
        self._events = EventWriter(directory.tensorboard)
        self._trained = 0.0
        self._spent = 0.0

    @override
    def begin(self, directory: RunDirectory, spec: Mapping[str, Any], /) -> None:
        self._events.begin(spec)

    @override
    def go_on(self, epoch: int, /) -> None:
        self._events.go_on(epoch + 1)

    @override
    def tell(self, run: RunView, /) -> None:
        told = {name: value for name, value in run.row.items() if name not in ("epoch", "step")}
        if run.improved:
            told |= {f"best/{name}": value for name, value in run.row.items() if "/" in name}
        self._events.add_scalars(told, step=run.epoch)
        self._trained += run.row.get("seconds") or 0.0
        if run.epoch == run.epochs or (is_due(run.epoch) and self._spent <= SHARE * self._trained):
            started = time.perf_counter()
            weights = {f"weights/{name}": buckets for name, buckets in weight_histograms(run.model).items()}
            self._events.add_histograms(weights, step=run.epoch)
            self._spent += time.perf_counter() - started

    @override
    def end(self, summary: Mapping[str, Any], /) -> None:
        if summary["test"] is not None:
            self._events.add_scalars(scalars(summary["test"]), step=summary["epochs"])
        self._events.end(summary["status"])

    @override
    def close(self) -> None:
        self._events.close()
