"""How the learning rate, and with it the momentum, changes over training.

A schedule is a pure function of the optimizer step: a factor on the learning rate of every parameter group, and a
momentum or None to leave it alone; so resuming one restores a number. `performance` reacts to a metric and so is a
hook, which scales a factor kept in the training state.

Every schedule may begin with a `warmup`: it then starts, with the steps that are left, once the warm-up is over. `plan`
puts the two together.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, ValidationInfo, model_validator
from pydantic_core import PydanticCustomError
from typing_extensions import override

from dnntrain.registry import ByShape, Choice, Family, Fraction, NonNegative, Options, Positive, PositiveInt, Unit
from dnntrain.training.built import Schedule
from dnntrain.training.hooks import Hook, Patience, RunView

TimeUnit = Literal["step", "epoch"]


@dataclass(frozen=True)
class Horizon:
    """What a schedule may know of the training ahead.

    Attributes:
        steps: optimizer steps planned in all.
        steps_per_epoch: optimizer steps in an epoch.
        lr: the optimizer's learning rate.
    """

    steps: int
    steps_per_epoch: int
    lr: float

    def count(self, length: float, unit: TimeUnit) -> float:
        """Return a length in optimizer steps."""
        return length * self.steps_per_epoch if unit == "epoch" else length


class Warmup(Options):
    """A linear rise of the learning rate to where the schedule starts."""

    alternatives = (("steps",), ("epochs",))
    shorthand = "steps"

    steps: PositiveInt | None = Field(None, description="how long, in optimizer steps")
    epochs: Positive | None = Field(None, description="how long, in epochs")
    start_factor: Unit = Field(0.01, description="share of the schedule's first rate that the first step has")

    @model_validator(mode="after")
    def _exactly_one(self) -> Warmup:
        if (self.steps is None) == (self.epochs is None):
            raise PydanticCustomError(
                "warmup", "warmup needs exactly one of steps and epochs", {"hint": "such as {epochs: 5}"}
            )
        return self

    def length(self, horizon: Horizon) -> int:
        """Return how many optimizer steps it takes: at least one."""
        if self.steps is not None:
            return self.steps
        return max(1, round((self.epochs or 0.0) * horizon.steps_per_epoch))


_StepsOrWarmup = Annotated[
    Warmup, ByShape(scalar=Annotated[PositiveInt, AfterValidator(lambda steps: Warmup(steps=steps))], mapping=Warmup)
]


def _every_schedule(*, warmup: _StepsOrWarmup | None = None) -> None:
    """What every schedule may begin with.

    Args:
        warmup: rise linearly for so long first: N steps, {steps: N} or {epochs: N}; start_factor says from where.
    """


schedules = Family(
    "schedule",
    summary="How the learning rate changes over training.",
    traits={"reacts": False},
    shared=_every_schedule,
    synonyms={
        "onecycle": "one_cycle",
        "1cycle": "one_cycle",
        "plateau": "performance",
        "reduce_on_plateau": "performance",
        "none": "constant",
        "cosine_annealing": "cosine",
        "inverse_time": "power",
        "multi_step": "piecewise",
        "poly": "polynomial",
        "warmup": "constant with warmup: 500",
    },
)


class AfterWarmup(Hook):
    """Lets a hook look at epochs and steps only once a warm-up is over.

    A rate on its way up must not be lowered because the metric has not improved yet.

    Args:
        hook: what reacts.
        steps: optimizer steps of the warm-up.
    """

    def __init__(self, hook: Hook, steps: int) -> None:
        self._hook = hook
        self._steps = steps
        self.stops_on_divergence = hook.stops_on_divergence

    @override
    def of_pretraining(self, name: str, /) -> Hook | None:
        return self._hook.of_pretraining(name)

    @override
    def on_fit_start(self, run: RunView, /) -> None:
        self._hook.on_fit_start(run)

    @override
    def on_epoch_start(self, run: RunView, /) -> None:
        if run.step - run.steps_before >= self._steps:
            self._hook.on_epoch_start(run)

    @override
    def on_step_end(self, run: RunView, /) -> None:
        if run.step - run.steps_before > self._steps:
            self._hook.on_step_end(run)

    @override
    def on_epoch_end(self, run: RunView, /) -> None:
        if run.step - run.steps_before > self._steps:
            self._hook.on_epoch_end(run)

    @override
    def on_epoch_left(self, run: RunView, /) -> None:
        self._hook.on_epoch_left(run)

    @override
    def on_fit_end(self, run: RunView, /) -> None:
        self._hook.on_fit_end(run)

    @override
    def state_dict(self) -> dict[str, Any]:
        return self._hook.state_dict()

    @override
    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._hook.load_state_dict(state)


def plan(choice: Choice, horizon: Horizon) -> tuple[Schedule, Hook | None]:
    """Make the schedule that a file has chosen, its warm-up included.

    With N steps of warm-up, step t < N has start_factor + (1 - start_factor) t / N of the rate of the schedule's own
    step 0, and its momentum; step N is that step 0. A schedule that spans the training spans what the warm-up leaves
    of it. A warm-up longer than the training is cut off by its end.

    Args:
        choice: the schedule.
        horizon: the training ahead, warm-up included.

    Returns:
        what is known before training, and what reacts to it, if anything does.
    """
    warmup: Warmup | None = vars(choice.options)["warmup"]
    start = warmup.length(horizon) if warmup else 0
    made: Schedule | Hook = choice.build(horizon=replace(horizon, steps=max(1, horizon.steps - start)))
    then, hook = (constant(), made) if isinstance(made, Hook) else (made, None)
    if warmup is None:
        return then, hook
    first = warmup.start_factor

    def schedule(step: int) -> tuple[float, float | None]:
        if step >= start:
            return then(step - start)
        factor, momentum = then(0)
        return factor * (first + (1.0 - first) * step / start), momentum

    return schedule, AfterWarmup(hook, start) if hook else None


def interpolate(x: float, knots: Sequence[float], values: Sequence[float]) -> float:
    """Return the piecewise linear function through (knots, values) at x, constant outside; knots ascend."""
    i = bisect_right(knots, x)
    if i == 0:
        return values[0]
    if i == len(knots):
        return values[-1]
    share = (x - knots[i - 1]) / (knots[i] - knots[i - 1])
    return values[i - 1] + share * (values[i] - values[i - 1])


@schedules.register("constant", equation="lr", cite="none")
def constant() -> Schedule:
    """Leave the learning rate alone."""
    return lambda step: (1.0, None)


@schedules.register(
    "power",
    equation="lr / (1 + t/s)^c",
    cite="Robbins and Monro 1951; Keras's InverseTimeDecay",
    example={"name": "power", "s": 20, "unit": "epoch"},
)
def power(horizon: Horizon, /, *, s: Positive, c: Positive = 1.0, unit: TimeUnit = "step") -> Schedule:
    """Fall quickly, then ever more slowly: with c = 1 to a half after s, to a third after 2 s.

    Args:
        horizon: the training ahead.
        s: when the rate has fallen to 1/2^c of what it was.
        c: how steeply it falls.
        unit: what s counts.
    """
    scale = horizon.count(s, unit)
    return lambda step: ((1.0 + step / scale) ** -c, None)


@schedules.register(
    "exponential",
    equation="lr 0.1^(t/s)",
    cite="Senior et al. 2013, An empirical study of learning rates in deep neural networks for speech recognition",
    example={"name": "exponential", "s": 20, "unit": "epoch"},
)
def exponential(horizon: Horizon, /, *, s: Positive, unit: TimeUnit = "step") -> Schedule:
    """Fall by a factor of ten every s, a little with each step.

    PyTorch's `gamma`, and Keras's `decay_rate`, is the factor of one epoch or of `decay_steps`: gamma = 0.1^(1/s).

    Args:
        horizon: the training ahead.
        s: when the rate has fallen to a tenth.
        unit: what s counts.
    """
    scale = horizon.count(s, unit)
    # 0.1 to a huge power underflows to zero, which is what is meant.
    return lambda step: (0.1 ** (step / scale), None)


def _ascending(boundaries: tuple[int, ...]) -> tuple[int, ...]:
    if any(after <= before for before, after in pairwise(boundaries)):
        raise PydanticCustomError("ascending", "must ascend, such as [30, 60]")
    return boundaries


def _one_for_each_piece(values: tuple[float, ...], info: ValidationInfo) -> tuple[float, ...]:
    boundaries = info.data.get("boundaries")
    if boundaries is not None and len(values) != len(boundaries) + 1:
        raise PydanticCustomError(
            "pieces",
            "must be {pieces} factors for the pieces between {boundaries} boundaries, not {given}",
            {"pieces": len(boundaries) + 1, "boundaries": len(boundaries), "given": len(values)},
        )
    return values


@schedules.register(
    "piecewise",
    equation="lr values[i], i the number of boundaries that are reached",
    cite="PyTorch's MultiStepLR; Keras's PiecewiseConstantDecay",
    example={"name": "piecewise", "boundaries": [30, 60], "values": [1.0, 0.1, 0.01], "unit": "epoch"},
)
def piecewise(
    horizon: Horizon,
    /,
    *,
    boundaries: Annotated[tuple[PositiveInt, ...], Field(strict=False, min_length=1), AfterValidator(_ascending)],
    values: Annotated[tuple[Positive, ...], Field(strict=False), AfterValidator(_one_for_each_piece)],
    unit: TimeUnit = "step",
) -> Schedule:
    """Keep the rate for a while, then jump to the next.

    The values are factors on the optimizer's lr, where Keras wants the rates themselves. The step at a boundary has the
    new rate, as in PyTorch; in Keras it still has the old one.

    Args:
        horizon: the training ahead.
        boundaries: where a new value starts, ascending.
        values: factors on the learning rate, one more than there are boundaries.
        unit: what boundaries count.
    """
    knots = [horizon.count(boundary, unit) for boundary in boundaries]
    return lambda step: (values[bisect_right(knots, step)], None)


@schedules.register(
    "linear",
    equation="lr (1 + (end_factor - 1) t/T), constant after T",
    cite="PyTorch's LinearLR",
)
def linear(
    horizon: Horizon,
    /,
    *,
    end_factor: NonNegative = 0.0,
    length: PositiveInt | None = None,
    unit: TimeUnit = "step",
) -> Schedule:
    """Go straight to end_factor times the rate, over the whole training unless a length is given.

    PyTorch's LinearLR starts at a third and ends at one unless told otherwise: that is a `warmup` here.

    Args:
        horizon: the training ahead.
        end_factor: factor on the learning rate at the end.
        length: T; the whole training unless given.
        unit: what length counts.
    """
    return polynomial(horizon, power=1.0, end_factor=end_factor, length=length, unit=unit)


@schedules.register(
    "polynomial",
    equation="lr (end_factor + (1 - end_factor) (1 - t/T)^power), constant after T",
    cite="arXiv:1606.00915; PyTorch's PolynomialLR; Keras's PolynomialDecay",
    example={"name": "polynomial", "power": 2.0},
)
def polynomial(
    horizon: Horizon,
    /,
    *,
    power: Positive = 1.0,
    end_factor: NonNegative = 0.0,
    length: PositiveInt | None = None,
    unit: TimeUnit = "step",
) -> Schedule:
    """Fall to end_factor times the rate, the gentler towards the end the higher the power.

    PyTorch always ends at zero; Keras has the last rate itself, 0.0001, where here is a factor.

    Args:
        horizon: the training ahead.
        power: exponent; 1 is `linear`.
        end_factor: factor on the learning rate at the end.
        length: T; the whole training unless given.
        unit: what length counts.
    """
    end = horizon.steps if length is None else horizon.count(length, unit)
    return lambda step: (end_factor + (1.0 - end_factor) * max(0.0, 1.0 - step / end) ** power, None)


@schedules.register(
    "one_cycle",
    equation="lr: max/10 -> max (45 % of the steps) -> max/10 (45 %) -> max/10000 (10 %); momentum mirrored",
    cite="arXiv:1803.09820",
    example={"name": "one_cycle", "max_lr": 0.05},
)
def one_cycle(
    horizon: Horizon,
    /,
    *,
    max_lr: Positive | None = None,
    cycle_momentum: bool = True,
    max_momentum: Fraction = 0.95,
    base_momentum: Fraction = 0.85,
) -> Schedule:
    """Up, down again, then almost to nothing, all linear; momentum goes the other way.

    Args:
        horizon: the training ahead.
        max_lr: the peak; the optimizer's lr unless given.
        cycle_momentum: whether momentum (betas[0] for the Adam family) goes from max_momentum to base_momentum and
            back.
        max_momentum: where momentum starts and ends.
        base_momentum: momentum at the peak of the learning rate.
    """
    peak = (max_lr or horizon.lr) / horizon.lr
    knots = (0.0, 0.45 * horizon.steps, 0.9 * horizon.steps, float(horizon.steps))
    factors = (peak / 10, peak, peak / 10, peak / 10_000)
    momenta = (max_momentum, base_momentum, max_momentum, max_momentum)
    return lambda step: (
        interpolate(step, knots, factors),
        interpolate(step, knots, momenta) if cycle_momentum else None,
    )


@schedules.register(
    "cosine",
    equation="lr (m + (1 - m) (1 + cos(pi t/T)) / 2), m = min_factor; t starts over after T, and T grows by t_mul",
    cite="arXiv:1608.03983",
)
def cosine(
    horizon: Horizon,
    /,
    *,
    cycle: PositiveInt | None = None,
    t_mul: Annotated[float, Field(ge=1)] = 1.0,
    min_factor: Unit = 0.0,
    unit: TimeUnit = "step",
) -> Schedule:
    """Half a cosine wave down over the whole training; or, given a cycle, down and back to the top again and again.

    PyTorch calls the first cycle T_0 and its growth T_mult, and has a smallest rate, eta_min, where here is a factor.

    Args:
        horizon: the training ahead.
        cycle: length of the first cycle, T; the whole training unless given, and then without a restart.
        t_mul: how many times as long each cycle is as the one before.
        min_factor: factor on the learning rate at the end of a cycle.
        unit: what cycle counts.
    """
    first = None if cycle is None else horizon.count(cycle, unit)

    def schedule(step: int) -> tuple[float, float | None]:
        if first is None:
            share = min(1.0, step / horizon.steps)
        else:
            share = _share_of_cycle(step, first, t_mul)
        return min_factor + (1.0 - min_factor) * 0.5 * (1.0 + math.cos(math.pi * share)), None

    return schedule


def _share_of_cycle(step: int, length: float, growth: float) -> float:
    """Return how much of its cycle a step has behind it: 0 at a restart."""
    if growth == 1.0:
        return step % length / length
    start = 0.0
    while step >= start + length:
        start, length = start + length, length * growth
    return (step - start) / length


class Performance(Hook):
    """Lower the learning rate after `patience` epochs without a better monitored metric."""

    def __init__(self, *, factor: float, patience: int, min_delta: float) -> None:
        self._factor = factor
        self._patience = Patience(patience, min_delta)

    @override
    def on_epoch_end(self, run: RunView, /) -> None:
        if self._patience.runs_out(run):
            run.scale_lr(self._factor)
            self._patience.waited = 0

    @override
    def state_dict(self) -> dict[str, Any]:
        return self._patience.state_dict()

    @override
    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._patience.load_state_dict(state)


@schedules.register(
    "performance",
    equation="lr *= factor after patience epochs without improvement",
    cite="PyTorch's ReduceLROnPlateau; Keras's of the same name",
    reacts=True,
)
def performance(
    *,
    factor: Annotated[float, Field(gt=0, lt=1)] = 0.5,
    patience: PositiveInt = 5,
    min_delta: NonNegative = 0.0,
) -> Hook:
    """Lower the learning rate when the monitored metric stops improving.

    The rate falls at the end of the `patience`-th epoch in a row without improvement, as in Keras; PyTorch waits one
    epoch longer. After a warm-up, epochs count from its end.

    Args:
        factor: what the rate is multiplied by.
        patience: epochs without improvement that are waited for.
        min_delta: what counts as an improvement.
    """
    return Performance(factor=factor, patience=patience, min_delta=min_delta)
