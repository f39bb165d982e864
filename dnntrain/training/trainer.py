"""The training loop, top to bottom. It knows no YAML, no registry and no disk; it speaks through hooks."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Collection
from typing import Any

from torch import Tensor

from dnntrain import interruption
from dnntrain.errors import DivergedError, Interrupted
from dnntrain.training.averaging import Average, averaged
from dnntrain.training.built import Built
from dnntrain.training.divergence import MOST_OVERFLOWS, describe, explain, is_finite
from dnntrain.training.hooks import Fit, Hook, Row, RunView
from dnntrain.training.randomness import forked
from dnntrain.training.state import Attributes, OptimizerMemory, RandomState, State, Stateful, copied
from dnntrain.training.stepper import Stepper
from dnntrain.training.tally import SeenStep, StepTally, evaluate


class Trainer(RunView):
    """Trains a built experiment, or a stage of it, epoch by epoch.

    Args:
        built: model, data, optimizer and the rest.
        observers: further hooks, called after those of `built`; they watch, and their state is not part of the
            training's.
        after: the stage before this one, at its end.

    Attributes:
        inside: whether training stands within an epoch that is not measured yet.
        stage: which part of training this is, from 1; 0 where it is not divided.
        for_good: whether the reason to stop ends all stages, not the present one alone.
        retries: how often it was taken back to an earlier state because it diverged.
        divergence: what is known of the step that ended training because its numbers were not finite, or None.
    """

    def __init__(self, built: Built, *observers: Hook, after: Trainer | None = None) -> None:
        self.built = built
        self.model = built.model
        self.monitor = built.monitor
        self.hooks = [*built.hooks.values(), *observers]
        self.epoch: int = after.epoch if after else 0
        self.step: int = after.step if after else 0
        self.retries: int = after.retries if after else 0
        self.epochs_before, self.steps_before = self.epoch, self.step
        self.epoch_step = 0
        self.steps_per_epoch = len(built.train)
        self.inside = False
        self.row: Row = after.row if after else {}
        self.best_epoch: int | None = after.best_epoch if after else None
        self.best_row: Row = after.best_row if after else {}
        self.best_weights: dict[str, Tensor] | None = after.best_weights if after else None
        self.improved = False
        self.stop_reason: str | None = None
        self.stage, self.for_good = built.stage, False
        self.divergence: dict[str, Any] | None = None
        self.lr_scale = 1.0
        self._overflows = 0
        self._stops_on_divergence = any(hook.stops_on_divergence for hook in self.hooks)
        self._average = next((hook for hook in self.hooks if isinstance(hook, Average)), None)
        self._stepper = Stepper(built)
        self._tally = StepTally(built.metrics)
        self._step_hooks = [hook for hook in self.hooks if type(hook).on_step_end is not Hook.on_step_end]

    def fit(self) -> Fit:
        """Train until the planned epochs are done or a hook asks to stop.

        Raises:
            DivergedError: a loss or a gradient is not finite.
            Interrupted: a signal asked for the end; `on_epoch_left` was called before.
        """
        self._call(lambda hook: hook.on_fit_start(self))
        try:
            while (self.inside or self.epoch < self._last_epoch) and self.stop_reason is None:
                if not self.inside:
                    self._begin_epoch()
                started = time.perf_counter()
                row = self._train_epoch()
                if self.epoch_step < self.steps_per_epoch or self.divergence is not None:
                    break
                row |= self._validate()
                row["seconds"] = time.perf_counter() - started
                self.row = {
                    "epoch": self.epoch,
                    "step": self.step,
                    **({"stage": self.stage} if self.stage else {}),
                    **row,
                }
                self.inside = False
                self._track_best()
                self._call(lambda hook: hook.on_epoch_end(self))
                interruption.check()
        except Interrupted as interrupted:
            if not interrupted.at_once:
                self._leave()
            raise
        if self.inside:
            self._leave()
        if self._average is not None:
            self.model.load_state_dict(self.weights())
        self._call(lambda hook: hook.on_fit_end(self))
        return Fit(self.epoch - self.inside, self.step, self.best_epoch, self.best_row, self.row, self.stop_reason)

    @property
    def epochs(self) -> int:
        """How many epochs are planned, those of later stages included."""
        return self._last_epoch + self.built.later_epochs

    @property
    def _last_epoch(self) -> int:
        return self.epochs_before + self.built.epochs

    def _begin_epoch(self) -> None:
        self.epoch += 1
        self.epoch_step, self.inside = 0, True
        self._tally.reset()
        self._call(lambda hook: hook.on_epoch_start(self))

    def _leave(self) -> None:
        """Say that training is left here, unless that is because its numbers are spoilt."""
        if self.is_sound():
            self._call(lambda hook: hook.on_epoch_left(self))

    def _train_epoch(self) -> dict[str, float | None]:
        """Take the steps of an epoch that are still to come; return the figures of all, measured in training mode."""
        started, first = time.perf_counter(), self.epoch_step
        self.model.train()
        for norm in self.built.held:
            norm.eval()
        for batches in self.built.train.epoch() if first < self.steps_per_epoch else ():
            self._stepper.set_rates(self.step - self.steps_before, self.lr_scale)
            done = self._stepper.step(batches, self.step)
            self.step += 1
            self.epoch_step += 1
            self._tally.add_step(done, batches)
            # Where nothing waits, norms by tensor are there only if something is wrong.
            if self._tally.full or (done.norms is not None and not self._stepper.waits):
                self._look()
            if self._step_hooks:  # only those that do something after each step
                self._call(lambda hook: hook.on_step_end(self), self._step_hooks)
            if self.stop_reason is not None:
                break
            interruption.check()
        self._look()
        seconds = time.perf_counter() - started
        samples = sum(stop - start for step in self.built.train.steps[first : self.epoch_step] for start, stop in step)
        penalty = {} if self._tally.penalty is None else {"train/penalty": self._tally.penalty}
        return {
            **self._tally.figures("train"),
            **penalty,
            "lr": self._lr(self.step),
            "grad_norm": self._tally.grad_norm,
            "samples_per_second": samples / seconds if samples else None,
        }

    def _look(self) -> None:
        """Read the numbers of the steps since the last look; raise, or ask to stop, where one is not finite.

        Under fp16 the scaler skips such a step and lowers its scale; only when that does not help is it divergence.
        """
        seen = self._tally.look()
        for number, step in enumerate(seen, self.step - len(seen) + 1):
            self._overflows = 0 if step.finite else self._overflows + 1
            if self._overflows > (MOST_OVERFLOWS if self.built.precision == "fp16" else 0):
                return self._diverge(number, step)

    def _lr(self, number: int) -> float:
        """Return the learning rate of an optimizer step, counted from 1 over all stages."""
        return self._stepper.rate(number - 1 - self.steps_before, self.lr_scale)

    def is_sound(self) -> bool:
        """Whether all numbers so far are finite; a last step can spoil weights that no loss has seen yet.

        Raises:
            DivergedError: they are not, and no hook takes that for a stop.
        """
        self._look()
        if self.divergence is None and not is_finite(self.model):
            self._diverge(self.step, SeenStep([], math.nan, None))
        return self.divergence is None

    def _diverge(self, number: int, step: SeenStep) -> None:
        place = {"number": number, "epoch": self.epoch, "epoch_step": self.epoch_step - (self.step - number)}
        report = describe(self.built, step, **place, lr=self._lr(number))
        if not self._stops_on_divergence:
            raise DivergedError(explain(report), step=number, report=report)
        self.divergence = report
        self.stop(explain(report))

    def _validate(self) -> dict[str, float | None]:
        """Measure the validation part; noise drawn meanwhile does not disturb training."""
        with forked(self.built.device), averaged(self.built, self._average):
            if self.built.valid is None:
                return {}
            return evaluate(
                self.built.passed,
                self.built.valid,
                loss=self.built.loss,
                metrics=self.built.metrics,
                batch_size=self.built.evaluation_batch,
                precision=self.built.precision,
                prefix="valid",
            )

    def _track_best(self) -> None:
        """Note whether this epoch is the best so far, and keep its weights if someone will want them."""
        value = self.monitor.value(self.row)
        self.improved = self.monitor.improves(value, self.monitor.value(self.best_row))
        if self.improved:
            self.best_epoch, self.best_row = self.epoch, self.row
            self.best_weights = copied(self.weights())

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

    def stop(self, reason: str, *, stage: bool = False) -> None:
        """Ask for the end of training, or of its present stage, after the current step; the first reason counts."""
        self.stop_reason = self.stop_reason or reason
        self.for_good = self.for_good or not stage

    def scale_lr(self, factor: float) -> None:
        """Multiply the learning rate of all that follows."""
        self.lr_scale *= factor

    def weights(self) -> dict[str, Tensor]:
        """Return the weights that are evaluated: their average where one is kept, else the model's own."""
        average = None if self._average is None else self._average.weights()
        return self.model.state_dict() if average is None else average

    def restore_best(self) -> None:
        """Put the weights of the best epoch back into the model, where there is a best epoch."""
        if self.best_weights is not None:
            self.model.load_state_dict(self.best_weights)

    def components(self) -> dict[str, Stateful]:
        """Return everything that has a state, by name: what a checkpoint holds, and all of it."""
        stage = ("stage", "epochs_before", "steps_before", "for_good")
        progress = ("epoch", "step", "epoch_step", "inside", "row", "stop_reason", "retries", "_overflows")
        return {
            "progress": Attributes(self, *progress),
            "model": self.model,
            "optimizer": OptimizerMemory(self.built.optimizer),
            "scaler": self._stepper.scaler,
            "rates": Attributes(self, "lr_scale"),
            "batches": self.built.train,
            "tally": self._tally,
            "best": Attributes(self, "best_epoch", "best_row", "best_weights"),
            **self.built.hooks,
            **({"stage": Attributes(self, *stage)} if self.stage else {}),
            "random": RandomState(self.built.device),
        }

    def state_dict(self) -> State:
        """Return all that is needed to go on from here: tensors, some of them the living ones, and plain values.

        Raises:
            DivergedError: numbers are not finite, so this state is spoilt.
        """
        if not self.is_sound():
            raise DivergedError(str(self.stop_reason), step=self.step, report=self.divergence)
        return {name: component.state_dict() for name, component in self.components().items()}

    def load_state_dict(self, state: State, *, reset: Collection[str] = ()) -> None:
        """Go to a state saved by `state_dict`.

        Args:
            state: as it was returned.
            reset: components that start afresh.
        """
        for name, component in self.components().items():
            if name not in reset:
                component.load_state_dict(state[name])
        if self.inside and "batches" in reset:
            # Of another order than it began with, an epoch begins again.
            self.inside = False
            self.epoch -= 1
