"""How the learning rate, and with it the momentum, changes over training.

A schedule is a pure function of the optimizer step: a factor on the learning rate of every parameter group, and a
momentum or None to leave it alone; so resuming one restores a number. `performance` reacts to a metric and so is a
hook, which scales a factor kept in the training state.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import Field
from typing_extensions import override

from dnntrain.registry import Family, Fraction, NonNegative, Positive, PositiveInt
from dnntrain.training.built import Schedule
from dnntrain.training.hooks import Hook, Patience, RunView

schedules = Family(
    "schedule",
    summary="How the learning rate changes over training.",
    synonyms={"onecycle": "one_cycle", "1cycle": "one_cycle", "plateau": "performance", "none": "constant"},
)


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
)
def performance(
    *,
    factor: Annotated[float, Field(gt=0, lt=1)] = 0.5,
    patience: PositiveInt = 5,
    min_delta: NonNegative = 0.0,
) -> Hook:
    """Lower the learning rate when the monitored metric stops improving.

    The rate falls at the end of the `patience`-th epoch in a row without improvement, as in Keras; PyTorch waits one
    epoch longer.

    Args:
        factor: what the rate is multiplied by.
        patience: epochs without improvement that are waited for.
        min_delta: what counts as an improvement.
    """
    return Performance(factor=factor, patience=patience, min_delta=min_delta)
