"""Averages of the weights over training: what is evaluated, kept as best and handed out is the average.

The statistics of a network with the mean weights are not the mean of the statistics of its members. `swa` therefore
measures the running statistics of batch normalization anew at the end of each epoch that it averages, in a pass over
the training part. `ema` averages them as it does the weights, as is usual: its members of the last steps are so close
to each other that the two hardly differ, and a pass over the data after every step is out of the question.
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
    """The mean of the weights at the end of each epoch from a certain one on, its statistics measured anew."""

    remeasures = True

    def __init__(self, start: float) -> None:
        super().__init__()
        self._start = start

    @override
    def on_step_end(self, run: RunView, /) -> None:
        if run.epoch_step == run.steps_per_epoch and run.epoch > self._start * run.epochs:
            self._take_in(run.model, 1.0 / (self.count + 1))


@averages.register("ema", equation="a = decay a + (1 - decay) w", cite="arXiv:1412.6980, section 7.2; arXiv:1703.01780")
def ema(*, decay: Fraction = 0.999) -> Average:
    """Exponential moving average of the weights, updated after every step.

    It starts from the weights after the first step, so nothing has to be corrected for a start at zero; until some
    1 / (1 - decay) steps are done it still leans on them. Running statistics of batch normalization are averaged with
    the weights.

    Args:
        decay: share of the average that is kept in a step.
    """
    return ExponentialAverage(decay)


@averages.register("swa", equation="a = mean of w over the epochs after start", cite="arXiv:1803.05407")
def swa(*, start: Annotated[float, Field(ge=0, lt=1)] = 0.75) -> Average:
    """Stochastic weight averaging: the plain mean of the weights at the ends of the last epochs.

    Once averaging has begun, the running statistics of batch normalization are measured anew for the average at the end
    of each epoch, in one pass over the training part without augmentation (torch: swa_utils.update_bn, which keeps the
    augmentation that its loader makes), so such an epoch takes longer.

    It wants a learning rate that stays up: `schedule: constant`, or a linear one that ends well above zero. Until
    averaging begins, the plain weights are evaluated, and the best epoch may be one of those: early stopping that
    restores the best weights then hands these out. `callbacks: auto` is therefore none here, and early stopping that
    could end training before averaging begins is refused.

    Args:
        start: share of the planned epochs after which averaging begins.
    """
    return EqualAverage(start)
