"""The training loop, top to bottom. It knows no YAML, no registry and no disk; it speaks through hooks."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from dnntrain.errors import DivergedError
from dnntrain.training.averaging import Average
from dnntrain.training.built import Built
from dnntrain.training.hooks import Hook, RunView
from dnntrain.training.randomness import forked
from dnntrain.training.state import load_random_state, random_state
from dnntrain.training.stepper import Stepper
from dnntrain.training.tally import Tally, evaluate, first_not_finite


@dataclass(frozen=True)
class Fit:
    """What a training came to.

    Attributes:
        epochs: epochs trained, over all restarts.
        step: optimizer steps taken.
        best_epoch: the epoch with the best monitored metric, or None where it never was a number.
        best_row: the metrics of that epoch.
        last_row: the metrics of the last epoch.
        stop_reason: why training ended early, or None.
    """

    epochs: int
    step: int
    best_epoch: int | None
    best_row: dict[str, float | None]
    last_row: dict[str, float | None]
    stop_reason: str | None


class Trainer(RunView):
    """Trains a built experiment, epoch by epoch.

    Args:
        built: model, data, optimizer and the rest.
        observers: further hooks, called after those of `built`; they watch, and their state is not part of the
            training's.
    """

    def __init__(self, built: Built, *observers: Hook) -> None:
        self.built = built
        self.model = built.model
        self.monitor = built.monitor
        self.hooks = [*built.hooks, *observers]
        self.epoch = self.step = 0
        self.epochs = built.epochs
        self.steps_per_epoch = len(built.train)
        self.epoch_step = 0
        self.row: dict[str, float | None] = {}
        self.best_epoch: int | None = None
        self.best_row: dict[str, float | None] = {}
        self.improved = False
        self.stop_reason: str | None = None
        self.lr_scale = 1.0
        self._best_weights: dict[str, Tensor] | None = None
        self._keeps_best = any(hook.needs_best_weights for hook in self.hooks)
        self._stops_on_divergence = any(hook.stops_on_divergence for hook in self.hooks)
        self._average = next((hook for hook in built.hooks if isinstance(hook, Average)), None)
        self._stepper = Stepper(built)
        self._tally = Tally(built.metrics)
        # Only hooks that do something after each step are called there.
        self._step_hooks = [hook for hook in self.hooks if type(hook).on_step_end is not Hook.on_step_end]

    def fit(self) -> Fit:
        """Train until the planned epochs are done or a hook asks to stop.

        Raises:
            DivergedError: a loss or a gradient is not finite.
        """
        self._call(lambda hook: hook.on_fit_start(self))
        while self.epoch < self.epochs and self.stop_reason is None:
            self.epoch += 1
            self.epoch_step = 0
            self._call(lambda hook: hook.on_epoch_start(self))
            started = time.perf_counter()
            row = self._train_epoch()
            row |= self._validate()
            row["seconds"] = time.perf_counter() - started
            self.row = {"epoch": self.epoch, "step": self.step, **row}
            self._track_best()
            self._call(lambda hook: hook.on_epoch_end(self))
        if self._average is not None:
            self.model.load_state_dict(self.weights())
        self._call(lambda hook: hook.on_fit_end(self))
        return Fit(self.epoch, self.step, self.best_epoch, self.best_row, self.row, self.stop_reason)

    def _train_epoch(self) -> dict[str, float | None]:
        """Take the steps of one epoch; return the figures measured on the way, in training mode."""
        started = time.perf_counter()
        self.model.train()
        self._tally.reset()
        for batches in self.built.train.epoch():
            self._stepper.set_rates(self.step, self.lr_scale)
            done = self._stepper.step(batches, self.step)
            self.step += 1
            self.epoch_step += 1
            for output, batch, loss in zip(done.outputs, batches, done.losses, strict=True):
                self._tally.add(output, batch, loss)
            self._tally.add_step(done.norm, done.penalty)
            if self._tally.full:
                self._check_numbers()
            if self._step_hooks:
                self._call(lambda hook: hook.on_step_end(self), self._step_hooks)
            if self.stop_reason is not None:
                break
        figures = self._tally.figures("train")
        self._check_numbers()
        seconds = time.perf_counter() - started
        penalty = {} if self._tally.penalty is None else {"train/penalty": self._tally.penalty}
        return {
            **figures,
            **penalty,
            "lr": self._stepper.lr,
            "grad_norm": self._tally.grad_norm,
            "samples_per_second": self._tally.count / seconds,
        }

    def _check_numbers(self) -> None:
        """Read what waits on the device; raise where a step met a number that is not finite.

        Under fp16 an overflowing gradient is expected now and then: the scaler skips such a step.
        """
        norms = self._tally.take_norms()
        found = []
        if (bad := self._tally.first_bad_loss) is not None:
            accumulate = len(self.built.train.steps[0])
            found.append((self.step - self.epoch_step + bad // accumulate + 1, "loss"))
        if (bad := first_not_finite(norms)) is not None and self.built.precision != "fp16":
            found.append((self.step - len(norms) + bad + 1, "gradient"))
        if found:
            step, what = min(found, key=lambda each: each[0])
            message = (
                f"training diverged: the {what} of step {step} (epoch {self.epoch}) is not finite; the learning rate "
                f"was {self._stepper.lr:.3g}. A lower learning rate, clipping (training.clip: {{norm: 1.0}}) or "
                "normalization usually helps"
            )
            if not self._stops_on_divergence:
                raise DivergedError(message)
            self.stop(message)

    def _validate(self) -> dict[str, float | None]:
        """Measure the validation part; noise drawn meanwhile does not disturb training."""
        if self.built.valid is None:
            return {}
        with forked(self.built.device), self._evaluated_weights():
            return evaluate(
                self.model,
                self.built.valid,
                loss=self.built.loss,
                metrics=self.built.metrics,
                batch_size=self.built.evaluation_batch,
                precision=self.built.precision,
                prefix="valid",
            )

    @contextmanager
    def _evaluated_weights(self) -> Iterator[None]:
        """Put the average of the weights into the model for a while, where one is kept."""
        if self._average is None or not self._average.count:
            yield
            return
        own = _copied(self.model.state_dict())
        self.model.load_state_dict(self.weights())
        try:
            yield
        finally:
            self.model.load_state_dict(own)

    def _track_best(self) -> None:
        """Note whether this epoch is the best so far, and keep its weights if someone will want them."""
        value = self.monitor.value(self.row)
        self.improved = self.monitor.improves(value, self.monitor.value(self.best_row))
        if self.improved:
            self.best_epoch, self.best_row = self.epoch, self.row
            if self._keeps_best:
                self._best_weights = _copied(self.weights())

    def _call(self, event: Callable[[Hook], None], hooks: list[Hook] | None = None) -> None:
        for hook in self.hooks if hooks is None else hooks:
            # Each by itself, so that a hook that saves the state sees it as training left it, whatever noise was drawn
            # by the hooks before.
            with forked(self.built.device):
                event(hook)

    @property
    def train_loss(self) -> float | None:
        """Mean training loss of this epoch, as of the last look at the device."""
        return self._tally.loss

    def stop(self, reason: str) -> None:
        """Ask for the end of training after the current step; the first reason counts."""
        self.stop_reason = self.stop_reason or reason

    def scale_lr(self, factor: float) -> None:
        """Multiply the learning rate of all that follows."""
        self.lr_scale *= factor

    def weights(self) -> dict[str, Tensor]:
        """Return the weights that are evaluated: their average where one is kept, else the model's own."""
        average = None if self._average is None else self._average.weights()
        return self.model.state_dict() if average is None else average

    def restore_best(self) -> None:
        """Put the weights of the best epoch back into the model, where there is a best epoch."""
        if self._best_weights is not None:
            self.model.load_state_dict(self._best_weights)

    def state_dict(self) -> dict[str, Any]:
        """Return all that is needed to go on from here: tensors and plain values only."""
        return {
            "model": self.model.state_dict(),
            "stepper": self._stepper.state_dict(),
            "batches": self.built.train.state_dict(),
            "hooks": [hook.state_dict() for hook in self.built.hooks],
            "random": random_state(self.built.device),
            "best_weights": self._best_weights,
            "progress": {
                "epoch": self.epoch,
                "step": self.step,
                "row": self.row,
                "best_epoch": self.best_epoch,
                "best_row": self.best_row,
                "lr_scale": self.lr_scale,
                "stop_reason": self.stop_reason,
            },
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go to a state saved by `state_dict` at the end of an epoch."""
        self.model.load_state_dict(state["model"])
        self._stepper.load_state_dict(state["stepper"])
        self.built.train.load_state_dict(state["batches"])
        for hook, own in zip(self.built.hooks, state["hooks"], strict=True):
            hook.load_state_dict(own)
        load_random_state(state["random"], self.built.device)
        self._best_weights = state["best_weights"]
        for name, value in state["progress"].items():
            setattr(self, name, value)


def _copied(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in state.items()}
