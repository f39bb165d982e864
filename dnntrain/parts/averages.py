"""Averages of the weights over training: what is evaluated, kept as best and handed out is the average.

Running statistics of normalization layers are averaged with the weights; a pass over the data to measure them anew, as
torch.optim.swa_utils.update_bn does, is thereby spared.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field
from typing_extensions import override

from dnntrain.registry import Family, Fraction
from dnntrain.training.averaging import Average
from dnntrain.training.hooks import RunView

averages = Family(
    "average",
    summary="Averages of the weights over training, which are evaluated in their place.",
    synonyms={"polyak": "ema or swa", "exponential": "ema", "stochastic_weight_averaging": "swa"},
)


class ExponentialAverage(Average):
    """a = decay a + (1 - decay) w after every step, from the first step's weights on."""

    def __init__(self, decay: float) -> None:
        super().__init__()
        self._decay = decay

    @override
    def on_step_end(self, run: RunView, /) -> None:
        self._take_in(run.model, 1.0 - self._decay)


class EqualAverage(Average):
    """The mean of the weights at the end of each epoch from a certain one on."""

    def __init__(self, start: float) -> None:
        super().__init__()
        self._start = start

    @override
    def on_step_end(self, run: RunView, /) -> None:
        if run.epoch_step == run.steps_per_epoch and run.epoch > self._start * run.epochs:
            self._take_in(run.model, 1.0 / (self.count + 1))


@averages.register("ema", equation="a = decay a + (1 - decay) w", cite="Polyak and Juditsky 1992; arXiv:1803.05407")
def ema(*, decay: Fraction = 0.999) -> Average:
    """Exponential moving average of the weights, updated after every step.

    It starts from the weights after the first step, so nothing has to be corrected for a start at zero; until some
    1 / (1 - decay) steps are done it still leans on them.

    Args:
        decay: share of the average that is kept in a step.
    """
    return ExponentialAverage(decay)


@averages.register("swa", equation="a = mean of w over the epochs after start", cite="arXiv:1803.05407")
def swa(*, start: Annotated[float, Field(ge=0, lt=1)] = 0.75) -> Average:
    """Stochastic weight averaging: the plain mean of the weights at the ends of the last epochs.

    It wants a learning rate that stays up: `schedule: constant`, or a linear one that ends well above zero.

    Args:
        start: share of the planned epochs after which averaging begins.
    """
    return EqualAverage(start)
