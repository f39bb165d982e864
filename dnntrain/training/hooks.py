"""Hooks: periodic work beside the training loop, and what they may see and ask of it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from torch import Tensor, nn
from typing_extensions import override

Row = dict[str, float | None]


@dataclass(frozen=True)
class Monitor:
    """The metric that decides which epoch is best, and which way is up."""

    metric: str
    mode: Literal["min", "max"] = "min"

    def value(self, row: Row) -> float | None:
        """Return the metric of an epoch; None where it is missing or not finite."""
        value = row.get(self.metric)
        return value if value is not None and math.isfinite(value) else None

    def improves(self, value: float | None, best: float | None, *, by: float = 0.0) -> bool:
        """Whether `value` is better than `best` by more than `by`; what is not a number never is."""
        if value is None:
            return False
        if best is None:
            return True
        return value < best - by if self.mode == "min" else value > best + by


@dataclass(frozen=True)
class Fit:
    """What a training came to.

    Attributes:
        epochs: whole epochs trained, over all restarts and stages.
        step: optimizer steps taken.
        best_epoch: the epoch with the best monitored metric, or None where it never was a number.
        best_row: the metrics of that epoch.
        last_row: the metrics of the last epoch.
        stop_reason: why training, or its present stage, ended early; or None.
    """

    epochs: int
    step: int
    best_epoch: int | None
    best_row: Row
    last_row: Row
    stop_reason: str | None


class RunView(Protocol):
    """What a hook sees of a running training, and what it may ask for.

    Attributes:
        model: the network.
        epoch: the current epoch, from 1.
        step: optimizer steps taken.
        epochs_before: epochs trained before the present stage; 0 where training is not divided.
        steps_before: optimizer steps taken before it.
        steps_per_epoch: optimizer steps in an epoch.
        epoch_step: optimizer steps taken in this epoch.
        row: the metrics of the current epoch; complete in `on_epoch_end`.
        monitor: what decides the best epoch.
        best_epoch: the best epoch so far, or None.
        best_row: its metrics.
        improved: whether the epoch that has just ended is the best so far.
        stop_reason: why training ends early, or None.
        best_weights: the evaluated weights of the best epoch, or None.
    """

    model: nn.Module
    epoch: int
    step: int
    epochs_before: int
    steps_before: int
    steps_per_epoch: int
    epoch_step: int
    row: Row
    monitor: Monitor
    best_epoch: int | None
    best_row: Row
    improved: bool
    stop_reason: str | None
    best_weights: dict[str, Tensor] | None

    @property
    def epochs(self) -> int:
        """How many epochs are planned, those of later stages included."""

    @property
    def train_loss(self) -> float | None:
        """Mean training loss of this epoch, as of the last look at the device."""

    def stop(self, reason: str, *, stage: bool = False) -> None:
        """Ask for the end of training after the current step.

        Args:
            reason: why.
            stage: where training is divided into stages, end the present one alone.
        """

    def scale_lr(self, factor: float) -> None:
        """Multiply the learning rate of all that follows."""

    def is_sound(self) -> bool:
        """Whether all numbers so far, the weights included, are finite; where not, training diverged, and ends."""

    def weights(self) -> dict[str, Tensor]:
        """Return the weights that are evaluated: their average where one is kept, else the model's own."""

    def restore_best(self) -> None:
        """Put the weights of the best epoch back into the model."""

    def state_dict(self) -> dict[str, Any]:
        """Return all that is needed to go on from here, as tensors and plain values."""


class Hook:
    """Base of all hooks; each method does nothing unless overridden.

    Attributes:
        stops_on_divergence: whether a loss or a gradient that is not finite asks for the end of training, where it is
            otherwise an error.
    """

    stops_on_divergence = False

    def of_pretraining(self, name: str, /) -> Hook | None:
        """Return what watches a pretraining of the run, of that name; None where nobody wants to."""
        return None

    def on_fit_start(self, run: RunView, /) -> None:
        """Training, or a stage of it, starts, or goes on from a saved state."""

    def on_epoch_start(self, run: RunView, /) -> None:
        """An epoch starts."""

    def on_step_end(self, run: RunView, /) -> None:
        """An optimizer step is done. Called thousands of times: do little, and do not read from the device."""

    def on_epoch_end(self, run: RunView, /) -> None:
        """An epoch is trained and validated; `run.row` holds its metrics."""

    def on_epoch_left(self, run: RunView, /) -> None:
        """Training ends within an epoch, which is not measured, or is interrupted; it can go on from here."""

    def on_fit_end(self, run: RunView, /) -> None:
        """Training, or a stage of it, is over, run through or stopped early; not called after a signal or an error."""

    def state_dict(self) -> dict[str, Any]:
        """Return what the hook must remember over a restart, as tensors and plain values."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go to a state saved by `state_dict`."""


class Patience:
    """Counts the epochs in a row that did not better the monitored metric.

    Args:
        epochs: how many of them are borne.
        min_delta: what counts as better.
    """

    def __init__(self, epochs: int, min_delta: float) -> None:
        self._epochs = epochs
        self._min_delta = min_delta
        self._best: float | None = None
        self.waited = 0

    def runs_out(self, run: RunView, /) -> bool:
        """Take in the epoch that has just ended; return whether it was one too many."""
        value = run.monitor.value(run.row)
        if run.monitor.improves(value, self._best, by=self._min_delta):
            self._best, self.waited = value, 0
        else:
            self.waited += 1
        return self.waited >= self._epochs

    def state_dict(self) -> dict[str, Any]:
        """Return the best figure and the count."""
        return {"best": self._best, "waited": self.waited}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go to a state saved by `state_dict`."""
        self._best, self.waited = state["best"], state["waited"]


class TimeLimit(Hook):
    """Ask to stop once training has taken so many seconds, counted over all restarts."""

    def __init__(self, seconds: float, clock: Any) -> None:
        self._seconds = seconds
        self._clock = clock
        self._spent = 0.0
        self._since: float = clock()

    @override
    def on_fit_start(self, run: RunView, /) -> None:
        self._since = self._clock()

    @override
    def on_step_end(self, run: RunView, /) -> None:
        if self._spent + self._clock() - self._since >= self._seconds:
            run.stop(f"time limit of {self._seconds:g} s")

    @override
    def on_fit_end(self, run: RunView, /) -> None:
        now = self._clock()
        self._spent, self._since = self._spent + now - self._since, now

    @override
    def state_dict(self) -> dict[str, Any]:
        return {"seconds": self._spent + self._clock() - self._since}

    @override
    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._spent = state["seconds"]
        self._since = self._clock()
