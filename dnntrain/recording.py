"""What training writes into its run directory while it goes on."""

from __future__ import annotations

import logging
import resource
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import torch
from typing_extensions import override

from dnntrain import build
from dnntrain import spec as specs
from dnntrain.build import Data
from dnntrain.checkpoints import CHECKPOINT_SCHEMA, read_checkpoint
from dnntrain.errors import StoreError
from dnntrain.registry import plain
from dnntrain.spec import Spec, seconds
from dnntrain.store import RunDirectory, flatten
from dnntrain.tracking.base import Tracker
from dnntrain.tracking.tensorboard import TensorBoard
from dnntrain.training.built import Built
from dnntrain.training.hooks import Hook, Row, RunView

_logger = logging.getLogger("dnntrain")


class Recorder(Hook):
    """Writes a run directory while training goes on: metrics, checkpoints and the summary; and tells other tools.

    What training needs to go on, and its figures, must be written: where that fails, training ends. What is only told
    beside (log, trackers, the summary of a run that is still going on) may fail: training goes on, and `failures`
    keeps what was not written, and why.

    Args:
        directory: of the run.
        spec: the experiment.
        built: what is trained.
        data: what it is trained on.
        trackers: tools that are told beside TensorBoard.

    Attributes:
        test: metrics of the test part, once they are measured.
        failures: what could not be written beside, with the reason.
    """

    def __init__(
        self, directory: RunDirectory, spec: Spec, built: Built, data: Data, trackers: Sequence[Tracker] = ()
    ) -> None:
        self._directory = directory
        self._built = built
        self._data = data
        self._checkpoint = spec.training.checkpoint
        self._spec = specs.dump(spec)
        self._trackers = [TensorBoard(directory), *trackers]
        self._outputs = build.outputs(spec, data)
        self._earlier = {"seconds": 0.0, "training_seconds": 0.0, "samples": 0.0}
        self._training_seconds = 0.0
        self._samples = 0.0
        self._started = time.monotonic()
        self._rows = 0
        self._best: dict[str, Any] = {"epoch": None, "metrics": {}}
        self._last: dict[str, Any] = {"epoch": None, "metrics": {}}
        self._constant: dict[str, Any] = {
            "name": spec.name,
            "spec": flatten(plain(spec)),
            "seed": spec.seed,
            "parameters": sum(p.numel() for p in built.model.parameters()),
        }
        self.test: Row | None = None
        self.failures: dict[str, str] = {}

    def hooks(self) -> list[Hook]:
        """Return this recorder, and what saves in the middle of epochs where that is asked for."""
        every = self._checkpoint.every
        if every == "epoch":
            return [self]
        if isinstance(every, int):
            return [self, StepCheckpoints(self, steps=every)]
        return [self, StepCheckpoints(self, seconds=seconds(every))]

    @override
    def on_epoch_end(self, run: RunView, /) -> None:
        row = run.row
        self._directory.append_metrics(row)
        self._tell(lambda tracker: tracker.tell(run))
        shown = ", ".join(f"{k} {v:.4g}" for k, v in row.items() if v is not None and "/" in k)
        self.log(f"epoch {run.epoch}: {shown}")
        if run.improved:
            self._save_best(run)
        self._rows = run.epoch
        self._last = {"epoch": run.epoch, "metrics": row}
        samples, speed = len(self._built.train.examples), row["samples_per_second"]
        if speed:
            self._samples += samples
            self._training_seconds += samples / speed
        if self._checkpoint.every == "epoch" or run.epoch == run.epochs or run.stop_reason is not None:
            self.save(run)
        with self._beside("summary.json"):
            self.summarize("running")

    @override
    def on_epoch_left(self, run: RunView, /) -> None:
        self.save(run)

    def save(self, run: RunView) -> None:
        """Save the state of training, and make durable what was written before; a spoilt state is not saved."""
        if not run.is_sound():
            return
        state = {
            "schema": CHECKPOINT_SCHEMA,
            "spec": self._spec,
            "training": run.state_dict(),
            "record": self._spent(),
            "prepare": self._built.train.examples.prepare.state_dict(),
        }
        self._directory.sync_metrics()
        self._directory.save_checkpoint(self._directory.LAST, lambda file: _save(state, file))
        self._directory.keep_checkpoint(run.step, self._checkpoint.keep)
        with self._beside("log.txt"):
            self._directory.sync_log()

    def go_on(self, run: RunView, record: Mapping[str, float], path: Path | None) -> None:
        """Take up the record where a saved state of training leaves it.

        Rows and checkpoints past the state are taken away, and damaged ones that were passed over; the best checkpoint
        is that of the state again.

        Args:
            run: training, gone to the state.
            record: what `save` wrote of the record itself.
            path: the checkpoint that holds the state; None for the start of training.
        """
        self._directory.drop_checkpoints(before=path, after=run.step)
        if path == self._directory.checkpoint(self._directory.LAST):
            # Whoever saved it may have been killed before it was kept.
            self._directory.keep_checkpoint(run.step, self._checkpoint.keep)
        self._earlier = {**self._earlier, **record}
        self._started = time.monotonic()
        self._samples = self._training_seconds = 0.0
        self._rows = int(run.row.get("epoch") or 0)
        self._directory.truncate_metrics(self._rows)
        self._tell(lambda tracker: tracker.go_on(self._rows))
        self._last = {"epoch": self._rows or None, "metrics": run.row}
        self._best = {"epoch": run.best_epoch, "metrics": run.best_row}
        path = self._directory.checkpoint(self._directory.BEST)
        if run.best_weights is None:
            path.unlink(missing_ok=True)
        elif not _is_of_epoch(self._directory, run.best_epoch):
            self._write_best(run)

    def begin(self) -> None:
        """Say that training begins or goes on."""
        self.summarize("running")
        self._tell(lambda tracker: tracker.begin(self._directory, self._constant["spec"]))

    def end(self, status: str, *, stop_reason: str | None = None, error: str | None = None) -> dict[str, Any]:
        """Say how training ended, and return the summary.

        Raises:
            StoreError: the summary cannot be written.
        """
        summary = self.summarize(status, stop_reason=stop_reason, error=error)
        self._tell(lambda tracker: tracker.end(summary))
        return summary

    def _save_best(self, run: RunView) -> None:
        self._write_best(run)
        self._best = {"epoch": run.best_epoch, "metrics": run.best_row}

    def _write_best(self, run: RunView) -> None:
        """Write what `load` and `evaluate` need of a trained network: tensors and plain values."""
        classes = self._data.parts.classes
        content = {
            "schema": CHECKPOINT_SCHEMA,
            "model": run.best_weights,
            "prepare": self._built.train.examples.prepare.state_dict(),
            "shape": list(self._data.shape),
            "outputs": self._outputs,
            "classes": list(classes) if classes else None,
            "full_scale": self._data.arrays.full_scale,
            "epoch": run.best_epoch,
            "metrics": run.best_row,
        }
        self._directory.save_checkpoint(self._directory.BEST, lambda file: _save(content, file))

    def summarize(self, status: str, *, stop_reason: str | None = None, error: str | None = None) -> dict[str, Any]:
        """Write summary.json as things stand, and return it."""
        spent = self._spent()
        summary = {
            "name": self._constant["name"],
            "status": status,
            "stop_reason": stop_reason,
            "seed": self._constant["seed"],
            "best": self._best,
            "last": self._last,
            "test": self.test,
            "parameters": self._constant["parameters"],
            "epochs": self._rows,
            "seconds": spent["seconds"],
            "samples_per_second": spent["samples"] / spent["training_seconds"] if spent["training_seconds"] else None,
            "peak_memory": _peak_memory(self._built.device),
            "error": error,
            "spec": self._constant["spec"],
        }
        return self._directory.write_summary(summary)

    def log(self, text: str) -> None:
        """Append to the log."""
        with self._beside("log.txt"):
            self._directory.log(text)

    def close(self) -> None:
        """Finish the event files and the text files."""
        self._tell(lambda tracker: tracker.close())
        self._directory.close()

    def _spent(self) -> dict[str, float]:
        """Return the time and the samples of this training, over all restarts."""
        here = {
            "seconds": time.monotonic() - self._started,
            "training_seconds": self._training_seconds,
            "samples": self._samples,
        }
        return {name: self._earlier[name] + value for name, value in here.items()}

    def _tell(self, what: Callable[[Tracker], None]) -> None:
        for tracker in self._trackers:
            if tracker.tries_again or tracker.name not in self.failures:
                with self._beside(tracker.name):
                    what(tracker)

    @contextmanager
    def _beside(self, what: str) -> Iterator[None]:
        """Let a failure to write something pass that training does not need; say it once."""
        try:
            yield
        except (StoreError, OSError) as error:
            if what not in self.failures:
                self.failures[what] = str(error)
                _logger.warning("%s; training goes on without it", error)


class StepCheckpoints(Hook):
    """Saves the state of training after so many steps, or after so much time.

    Args:
        recorder: saves.
        steps: optimizer steps between two saves.
        seconds: time between two saves.
    """

    def __init__(self, recorder: Recorder, *, steps: int | None = None, seconds: float | None = None) -> None:
        self._recorder = recorder
        self._steps = steps
        self._seconds = seconds
        self._saved = time.monotonic()

    @override
    def on_step_end(self, run: RunView, /) -> None:
        if self._steps is not None:
            due = run.step % self._steps == 0
        else:
            due = self._seconds is not None and time.monotonic() - self._saved >= self._seconds
        if due:
            self._recorder.save(run)
            self._saved = time.monotonic()


def _save(content: dict[str, Any], file: BinaryIO) -> None:
    """Write a checkpoint to a file.

    Raises:
        OSError: the file system refuses.
    """
    try:
        torch.save(content, file)
    except RuntimeError as error:
        # Of a write that failed, torch tells only that it could not finish the archive afterwards.
        if isinstance(error.__context__, OSError):
            raise error.__context__ from None
        raise


def _is_of_epoch(directory: RunDirectory, epoch: int | None) -> bool:
    """Whether the best checkpoint is there, whole, and of this epoch."""
    try:
        checkpoint = read_checkpoint(directory.checkpoint(directory.BEST), torch.device("cpu"))
    except StoreError:
        return False
    return checkpoint.get("epoch") == epoch


def _peak_memory(device: torch.device) -> int:
    """Return the most memory that was held, in bytes: on the GPU, or by the process."""
    if device.type == "cuda":
        return int(torch.cuda.max_memory_allocated(device))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
