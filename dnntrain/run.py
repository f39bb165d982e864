"""One experiment from its spec to its run directory: seed, build, fit, record. This file joins all the others."""

from __future__ import annotations

import resource
import signal
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from typing_extensions import override

from dnntrain import build, yamltext
from dnntrain import spec as specs
from dnntrain.build import Data
from dnntrain.parts.plugins import loaded_files
from dnntrain.placement import Placement, place, settings
from dnntrain.registry import plain
from dnntrain.spec import Spec
from dnntrain.store import RunDirectory, flatten
from dnntrain.store.environment import describe_environment
from dnntrain.store.events import ScalarWriter
from dnntrain.trained import CHECKPOINT_SCHEMA, read_checkpoint
from dnntrain.training.built import Built
from dnntrain.training.hooks import Hook, Row, RunView
from dnntrain.training.parameters import FlatParameters
from dnntrain.training.randomness import forked
from dnntrain.training.tally import evaluate as measure
from dnntrain.training.trainer import Fit, Trainer


@dataclass(frozen=True)
class RunRecord:
    """A finished run.

    Attributes:
        path: its run directory.
        summary: what summary.json says.
    """

    path: Path
    summary: Mapping[str, Any]

    @property
    def status(self) -> str:
        """completed, stopped, interrupted or failed."""
        return str(self.summary["status"])

    @property
    def best(self) -> Mapping[str, Any]:
        """Metrics of the best epoch."""
        return dict(self.summary["best"]["metrics"])

    @property
    def test(self) -> Mapping[str, Any] | None:
        """Metrics of the test part, where it was measured."""
        test: Mapping[str, Any] | None = self.summary["test"]
        return test


class Recorder(Hook):
    """Writes a run directory while training goes on: metrics, checkpoints, event files and the summary."""

    def __init__(self, directory: RunDirectory, spec: Spec, built: Built, data: Data) -> None:
        self._directory = directory
        self._built = built
        self._data = data
        self._events = ScalarWriter(directory.tensorboard)
        self._training_seconds = 0.0
        self._samples = 0.0
        self._started = time.monotonic()
        self._outputs = build.outputs(spec, data)
        self._rows = 0
        self._best: dict[str, Any] = {"epoch": None, "metrics": {}}
        self._last: dict[str, Any] = {"epoch": None, "metrics": {}}
        self._constant = {
            "name": spec.name,
            "spec": flatten(plain(spec)),
            "seed": spec.seed,
            "parameters": sum(p.numel() for p in built.model.parameters()),
        }
        self.test: Row | None = None

    @override
    def on_epoch_end(self, run: RunView, /) -> None:
        row = run.row
        self._directory.append_metrics(row)
        self._events.add({k: v for k, v in row.items() if k not in ("epoch", "step")}, step=run.epoch)
        shown = ", ".join(f"{k} {v:.4g}" for k, v in row.items() if v is not None and "/" in k)
        self._directory.log(f"epoch {run.epoch}: {shown}")
        if run.improved:
            checkpoint = self._checkpoint(run)
            self._directory.save_checkpoint(self._directory.BEST, lambda file: torch.save(checkpoint, file))
            self._best = {"epoch": run.epoch, "metrics": row}
        state = {"schema": CHECKPOINT_SCHEMA, **run.state_dict()}
        self._directory.save_checkpoint(self._directory.LAST, lambda file: torch.save(state, file))
        self._directory.sync()
        self._last = {"epoch": run.epoch, "metrics": row}
        self._rows = run.epoch
        speed = row["samples_per_second"]
        if speed:
            self._samples += len(self._built.train.examples)
            self._training_seconds += len(self._built.train.examples) / speed
        self.summarize("running")

    def _checkpoint(self, run: RunView) -> dict[str, Any]:
        """Return what `load` and `evaluate` need of a trained network: tensors and plain values."""
        classes = self._data.parts.classes
        return {
            "schema": CHECKPOINT_SCHEMA,
            "model": {k: v.detach().clone() for k, v in run.weights().items()},
            "prepare": self._built.train.examples.prepare.state_dict(),
            "shape": list(self._data.shape),
            "outputs": self._outputs,
            "classes": list(classes) if classes else None,
            "full_scale": self._data.arrays.full_scale,
            "epoch": run.epoch,
            "metrics": run.row,
        }

    def summarize(self, status: str, *, stop_reason: str | None = None, error: str | None = None) -> dict[str, Any]:
        """Write summary.json as things stand, and return it."""
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
            "seconds": time.monotonic() - self._started,
            "samples_per_second": self._samples / self._training_seconds if self._training_seconds else None,
            "peak_memory": _peak_memory(self._built.device),
            "error": error,
            "spec": self._constant["spec"],
        }
        self._directory.write_summary(summary)
        return summary

    def close(self) -> None:
        """Finish the event file and the text files."""
        self._events.close()
        self._directory.close()


class Interrupt(Hook):
    """Ends training on Ctrl-C, at the next optimizer step; a second Ctrl-C ends it at once.

    The handler only takes note: an exception raised wherever the signal happens to arrive could be lost in a
    destructor, or leave a file half written.
    """

    def __init__(self) -> None:
        self._asked = False

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Take note of Ctrl-C for the length of a block; only the main thread of a process can."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = signal.signal(signal.SIGINT, self._note)
        try:
            yield
        finally:
            signal.signal(signal.SIGINT, before)

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self._asked:
            raise KeyboardInterrupt
        self._asked = True

    def check(self) -> None:
        """Raise KeyboardInterrupt if Ctrl-C was pressed."""
        if self._asked:
            raise KeyboardInterrupt

    @override
    def on_step_end(self, run: RunView, /) -> None:
        self.check()

    @override
    def on_epoch_end(self, run: RunView, /) -> None:
        self.check()


def train(
    spec: Spec | Mapping[str, Any] | str | Path,
    /,
    *,
    runs: str | Path = "runs",
    test: bool = False,
    observers: Sequence[Hook] = (),
) -> RunRecord:
    """Train an experiment and leave a run directory.

    Data is opened and everything is built before the directory is made, so that a mistake leaves nothing behind.
    The process's random state, threads and number formats are afterwards as they were.

    Args:
        spec: a `Spec`, the path of a file, or a mapping such as the file would hold.
        runs: the folder in which the run directory is made.
        test: measure the test part at the end, with the best weights.
        observers: hooks that watch.

    Raises:
        SpecError: the experiment is wrong.
        DataError: its data cannot be used.
        DivergedError: training met numbers that are not finite; the run directory says `failed`.
    """
    spec = _spec(spec)
    data = build.open_data(spec)
    spec = build.resolve(spec, data)
    placement = place(spec)
    with settings(spec, placement):
        if placement.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(placement.device)
        built = build.build(spec, data, placement)
        if test:
            build.part_of(spec, data, "test", built.train.examples.prepare, placement.device)
        directory = RunDirectory.create(Path(runs), spec.name)
        with directory.lock():
            directory.write_spec(specs.dump(spec))
            directory.write_environment(_environment(spec, built, data, placement))
            recorder, interrupt = Recorder(directory, spec, built, data), Interrupt()
            with interrupt.listening():
                trainer = Trainer(built, recorder, *observers, interrupt)
                return _recorded(directory, recorder, trainer, spec, data, test=test)


def _recorded(
    directory: RunDirectory, recorder: Recorder, trainer: Trainer, spec: Spec, data: Data, *, test: bool
) -> RunRecord:
    """Fit, and write down how it ended, whatever happens."""
    recorder.summarize("running")
    directory.log(f"training {spec.name} on {trainer.built.device}, {trainer.built.precision}")
    try:
        fit = trainer.fit()
        if test:
            recorder.test = _measure_best(directory, trainer.built, spec, data)
    except KeyboardInterrupt as interrupt:
        recorder.summarize("interrupted", stop_reason="interrupted by the user")
        interrupt.add_note(f"what was recorded until then: {directory.path}")
        raise
    except BaseException as error:
        directory.log(f"failed: {error}")
        recorder.summarize("failed", error=f"{type(error).__name__}: {error}")
        error.add_note(f"what was recorded until then: {directory.path}")
        raise
    else:
        summary = recorder.summarize(_status(fit), stop_reason=fit.stop_reason)
        directory.log(f"{summary['status']}" + (f": {fit.stop_reason}" if fit.stop_reason else ""))
        return RunRecord(directory.path, summary)
    finally:
        recorder.close()


def _status(fit: Fit) -> str:
    return "stopped" if fit.stop_reason is not None else "completed"


def _measure_best(directory: RunDirectory, built: Built, spec: Spec, data: Data) -> Row:
    """Measure the test part with the best weights; with the last ones where no epoch was ever best."""
    path = directory.checkpoint(directory.BEST)
    weights = read_checkpoint(path, built.device)["model"] if path.exists() else built.model.state_dict()
    kept = {k: v.detach().clone() for k, v in built.model.state_dict().items()}
    built.model.load_state_dict(weights)
    examples = build.part_of(spec, data, "test", built.train.examples.prepare, built.device)
    with forked(built.device):
        row = measure(
            built.model,
            examples,
            loss=built.loss,
            metrics=built.metrics,
            batch_size=built.evaluation_batch,
            precision=built.precision,
            prefix="test",
        )
    built.model.load_state_dict(kept)
    return row


def _spec(spec: Spec | Mapping[str, Any] | str | Path) -> Spec:
    if isinstance(spec, Spec):
        return spec
    if isinstance(spec, Mapping):
        return specs.loads(yamltext.dump(dict(spec)), source="<mapping>")
    return specs.load(spec)


def _environment(spec: Spec, built: Built, data: Data, placement: Placement) -> dict[str, Any]:
    """Describe what the numbers depend on beside the spec."""
    device = placement.device
    return {
        **describe_environment(),
        "plugins": loaded_files(),
        "torch_build": torch.__version__,
        "device": str(device),
        "device_name": torch.cuda.get_device_name(device) if device.type == "cuda" else None,
        "cuda": torch.version.cuda if device.type == "cuda" else None,
        "threads": torch.get_num_threads(),
        "precision": placement.precision,
        "step_strategy": {
            "parameters": "flat" if isinstance(built.parameters, FlatParameters) else "by tensor",
            "compiled": placement.compile,
        },
        "data": {
            "dataset": spec.data.dataset.name,
            "fingerprint": data.arrays.fingerprint,
            "train": len(data.parts.train.index),
            "valid": len(data.parts.valid.index) if data.parts.valid else 0,
            "test": len(data.parts.test.index) if data.parts.test else 0,
        },
    }


def _peak_memory(device: torch.device) -> int:
    """Return the most memory that was held, in bytes: on the GPU, or by the process."""
    if device.type == "cuda":
        return int(torch.cuda.max_memory_allocated(device))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
