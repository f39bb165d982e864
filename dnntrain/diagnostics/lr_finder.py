"""The learning-rate range test: which rates train a network, and from which on it diverges."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, Final

import torch
from torch import Tensor, nn

from dnntrain.errors import DivergedError, UsageError
from dnntrain.spec import Spec
from dnntrain.training.batches import Batch
from dnntrain.training.built import Built, Schedule
from dnntrain.training.randomness import forked
from dnntrain.training.stepper import Stepper

FEWEST_STEPS: Final = 10
"""So many steps a sweep has at least; of fewer, no curve can be read."""

BACK_FROM_LOWEST: Final = 10
"""The suggestion is the rate at the lowest loss, divided by this."""


@dataclass(frozen=True)
class RateSweep:
    """What a range test has seen, one entry for each optimizer step with a finite loss.

    Attributes:
        rates: learning rate of the step: the optimizer's `lr`. Groups with a rate of their own keep their ratio to it.
        losses: mean loss of the step's batches, before the step.
        smoothed: moving average of the losses, corrected for its start.
        diverged: whether the sweep ended because the loss rose too far or was not finite; if not, the highest rate
            may still have been a good one.
    """

    rates: tuple[float, ...]
    losses: tuple[float, ...]
    smoothed: tuple[float, ...]
    diverged: bool

    @property
    def steps(self) -> int:
        """How many steps there are."""
        return len(self.rates)

    @property
    def lowest(self) -> float:
        """The rate at which the smoothed loss is lowest; beyond it, steps are too long."""
        return self.rates[self.smoothed.index(min(self.smoothed))]

    @property
    def suggestion(self) -> float | None:
        """A rate to train with: a tenth of that at the lowest smoothed loss; None if the loss never fell.

        At the lowest point steps are about to be too long, and the smoothed loss lags behind, so training is fast and
        safe at a factor of ten below. The rate of the steepest descent, which is also in use, depends on differences
        of losses of single batches: it may lie anywhere between the first rate and divergence.
        """
        return self.lowest / BACK_FROM_LOWEST if self.lowest > self.rates[0] else None


def find_rate(
    built: Built,
    *,
    start: float = 1e-6,
    end: float = 10.0,
    steps: int = 200,
    smoothing: float = 0.9,
    tolerance: float = 4.0,
) -> RateSweep:
    """Train with a rate that grows at each step, and watch the loss (Smith 2015, arXiv:1506.01186).

    The rate of step t = 0 ... steps - 1 is start (end / start)^(t / (steps - 1)); the growth is exponential, as
    fast.ai made it, where Smith's was linear. The loss is smoothed as s_t = m_t / (1 - smoothing^(t + 1)) with
    m_t = smoothing m_(t-1) + (1 - smoothing) loss_t. The experiment's own schedule is set aside; its clipping,
    regularizers, accumulation and precision are kept. Penalties are not part of the loss.

    The experiment is left as it was, bit for bit: weights, statistics, optimizer, the order of the data and torch's
    generators.

    Args:
        built: an experiment that is ready to be trained.
        start: the first rate.
        end: the last rate.
        steps: optimizer steps in between, on as many epochs as they take.
        smoothing: weight of the past in the moving average.
        tolerance: the sweep ends where the smoothed loss is more than so many times its lowest value.

    Raises:
        UsageError: the sweep that is asked for cannot be.
        DivergedError: the loss is not finite before any step was taken.
    """
    _check(start, end, steps, smoothing, tolerance)
    base = float(built.optimizer.defaults["lr"])
    growing = replace(built, schedule=_growth(start / base, end / base, steps))
    with preserved(built):
        sweep = _sweep(growing, steps, smoothing, tolerance)
    if not sweep.losses:
        raise DivergedError(
            "the loss is not finite before any step is taken, so no learning rate can help; look at the data and at "
            "the initializer"
        )
    return sweep


def settings_for(spec: Spec, rate: float) -> dict[str, float]:
    """Return what a file must say so that training has a rate in the place of its own, keys and rounded values.

    Where the schedule names its peak (`max_lr`), that alone decides, whatever the optimizer says. Else all rates of the
    optimizer change together, as they did in the sweep: its `lr`, muon's second one, and those of groups.

    Args:
        spec: the experiment that was swept.
        rate: what `optimizer.lr` is to be, or the peak.
    """
    if getattr(spec.schedule.options, "max_lr", None) is not None:
        return {"schedule.max_lr": _rounded(rate)}
    options: Any = spec.optimizer.options
    rates = {"optimizer.lr": options.lr}
    if hasattr(options, "adamw_lr"):
        rates["optimizer.adamw_lr"] = options.adamw_lr
    rates |= {f"optimizer.groups.{i}.lr": group.lr for i, group in enumerate(options.groups) if group.lr is not None}
    return {key: _rounded(own * rate / options.lr) for key, own in rates.items()}


def _rounded(rate: float) -> float:
    return float(f"{rate:.2g}")


def _sweep(built: Built, steps: int, smoothing: float, tolerance: float) -> RateSweep:
    """Take the steps; see `find_rate`."""
    rates: list[float] = []
    losses: list[float] = []
    smoothed: list[float] = []
    moving, diverged = 0.0, False
    built.model.train()
    stepper = Stepper(built)
    for step, batches in zip(range(steps), _endless(built), strict=False):
        stepper.set_rates(step, 1.0)
        loss = _mean(stepper.step(batches, step).losses, batches)
        if not math.isfinite(loss):
            diverged = True
            break
        moving = smoothing * moving + (1 - smoothing) * loss
        rates.append(stepper.rate(step, 1.0))
        losses.append(loss)
        smoothed.append(moving / (1 - smoothing ** (step + 1)))
        if smoothed[-1] > tolerance * min(smoothed):
            diverged = True
            break
    return RateSweep(tuple(rates), tuple(losses), tuple(smoothed), diverged)


@contextmanager
def preserved(built: Built) -> Iterator[None]:
    """Run a block that trains an experiment, and put the experiment back as it was, bit for bit.

    Weights and statistics are put back in place, so that whoever shares their memory sees it too.

    Args:
        built: the experiment; its hooks are not called and so not put back.
    """
    with forked(built.device):
        tensors = _tensors(built)
        values = [tensor.detach().clone() for tensor in tensors]
        gradients = [None if tensor.grad is None else tensor.grad.clone() for tensor in tensors]
        modes = {module: module.training for module in built.model.modules()}
        optimizer = copy.deepcopy(built.optimizer.state_dict())
        order = copy.deepcopy(built.train.state_dict())
        try:
            yield
        finally:
            built.train.load_state_dict(order)
            built.optimizer.load_state_dict(optimizer)
            for module, training in modes.items():
                module.training = training
            with torch.no_grad():
                for tensor, value, gradient in zip(tensors, values, gradients, strict=True):
                    tensor.copy_(value)
                    _put_gradient(tensor, gradient)


def _tensors(built: Built) -> list[Tensor]:
    """Return all that training changes in place: parameters, buffers, and what the optimizer holds of them."""
    modules: list[nn.Module] = [built.model, *([built.loss] if isinstance(built.loss, nn.Module) else [])]
    held = [tensor for group in built.optimizer.param_groups for tensor in group["params"]]
    return [
        *(tensor for module in modules for tensor in module.parameters()),
        *(tensor for module in modules for tensor in module.buffers()),
        *held,
    ]


def _put_gradient(tensor: Tensor, gradient: Tensor | None) -> None:
    if gradient is None or tensor.grad is None:
        tensor.grad = gradient
    else:
        tensor.grad.copy_(gradient)


def _growth(start: float, end: float, steps: int) -> Schedule:
    """Return the schedule that grows from one factor to another by the same ratio at each step."""
    return lambda step: (start * (end / start) ** (step / (steps - 1)), None)


def _endless(built: Built) -> Iterator[list[Batch]]:
    """Yield the batches of one optimizer step after the other, epoch after epoch."""
    while True:
        yield from built.train.epoch()


def _mean(losses: list[Tensor], batches: list[Batch]) -> float:
    """Return the mean over the samples of a step's batches."""
    sizes = [len(y) for _, y in batches]
    means: list[float] = torch.stack(losses).double().tolist()
    return sum(mean * size for mean, size in zip(means, sizes, strict=True)) / sum(sizes)


def _check(start: float, end: float, steps: int, smoothing: float, tolerance: float) -> None:
    if not 0 < start < end < math.inf:
        raise UsageError(f"the learning rate must grow from above 0: from {start:g} to {end:g} it does not")
    if steps < FEWEST_STEPS:
        raise UsageError(f"a sweep needs at least {FEWEST_STEPS} steps, not {steps}")
    if not 0 <= smoothing < 1:
        raise UsageError(f"smoothing must be at least 0 and less than 1, not {smoothing:g}")
    if not 1 < tolerance:
        raise UsageError(f"the loss must be allowed to rise: a tolerance above 1 is needed, not {tolerance:g}")
