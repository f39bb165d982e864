"""Dropout: noise inside the network in training, drawn from torch's global generator; nothing in evaluation.

Except where it is wanted: `mc_mode` lets dropout sample at prediction time, while all else stays in evaluation mode,
and `mc_predict` turns such samples into a prediction and its uncertainty.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from typing_extensions import override

from dnntrain.errors import UsageError
from dnntrain.registry import Family, Fraction
from dnntrain.training.modes import evaluating

dropouts = Family(
    "dropout",
    summary="Noise inside the network in training.",
    synonyms={
        "alpha_dropout": "alpha",
        "alphadropout": "alpha",
        "gaussian_dropout": "gaussian",
        "gaussiandropout": "gaussian",
        "spatial_dropout": "spatial",
        "dropout2d": "spatial",
        "dropout1d": "spatial",
        "bernoulli": "dropout",
    },
)

Layers = Literal["all", "hidden", "input", "last"]


@dataclass(frozen=True)
class Dropout:
    """A dropout and the layers that it follows.

    Attributes:
        make: builds the layer for so many spatial dimensions: 0 for (N, C), 1 for (N, C, T), 2 for (N, C, H, W).
        layers: `hidden`, after each hidden layer; `last`, after the last one, before the output; `input`, at the
            network's input; `all`, at the input and after each hidden layer.
    """

    make: Callable[[int], nn.Module]
    layers: Layers

    def at_input(self) -> bool:
        """Whether one stands at the network's input."""
        return self.layers in ("input", "all")

    def after_hidden(self, layer: int, count: int) -> bool:
        """Whether one stands after hidden layer number `layer` (from 1) of `count`."""
        return self.layers in ("hidden", "all") or (self.layers == "last" and layer == count)


class DropoutLayer(nn.Module):
    """Base of dropout layers that PyTorch does not have; what derives from it is found by `mc_mode`."""

    def samples(self) -> bool:
        """Whether there is noise to sample at all: not at a rate of zero."""
        return True


class GaussianDropout(DropoutLayer):
    """z (1 + e), e ~ N(0, std^2) for each value by itself."""

    def __init__(self, std: float) -> None:
        super().__init__()
        self.std = std

    @override
    def forward(self, z: Tensor) -> Tensor:
        return z * (1.0 + self.std * torch.randn_like(z)) if self.training else z

    @override
    def samples(self) -> bool:
        return self.std > 0

    @override
    def extra_repr(self) -> str:
        return f"std={self.std:g}"


@dropouts.register(
    "dropout",
    equation="z m / (1 - rate), m ~ Bernoulli(1 - rate)",
    cite="arXiv:1207.0580",
    example={"name": "dropout", "rate": 0.2},
)
def dropout(*, rate: Fraction, layers: Layers = "hidden") -> Dropout:
    """Silence each unit with probability `rate`; the rest are scaled up, so that the mean is kept.

    The paper scales the weights down at prediction time instead, which comes to the same.

    Args:
        rate: probability of silencing a unit.
        layers: which layers it follows: all, hidden, input or last.
    """
    return Dropout(lambda dims: nn.Dropout(rate), layers)


@dropouts.register(
    "alpha",
    equation="a (z m + alpha' (1 - m)) + b, m ~ Bernoulli(1 - rate), alpha' = -1.7581",
    cite="arXiv:1706.02515",
    example={"name": "alpha", "rate": 0.1, "layers": "last"},
)
def alpha(*, rate: Fraction, layers: Layers = "hidden") -> Dropout:
    """Dropout for selu: units go to selu's lower bound, then a and b put mean and variance back.

    With q = 1 - rate, a = (q + alpha'^2 q rate)^(-1/2) and b = -a rate alpha', as in the paper; so has PyTorch.

    Args:
        rate: probability of silencing a unit.
        layers: which layers it follows: all, hidden, input or last.
    """
    return Dropout(lambda dims: nn.AlphaDropout(rate), layers)


@dropouts.register(
    "gaussian",
    equation="z (1 + e), e ~ N(0, rate / (1 - rate))",
    cite="Srivastava et al. 2014, Dropout: a simple way to prevent neural networks from overfitting, section 10",
    example={"name": "gaussian", "rate": 0.2},
)
def gaussian(*, rate: Fraction, layers: Layers = "hidden") -> Dropout:
    """Multiply each unit by noise around 1 that has the mean and the variance of dropout, but silences nothing.

    The same as Keras's GaussianDropout; PyTorch has none.

    Args:
        rate: of the dropout whose noise has the same variance, rate / (1 - rate).
        layers: which layers it follows: all, hidden, input or last.
    """
    return Dropout(lambda dims: GaussianDropout(math.sqrt(rate / (1 - rate))), layers)


@dropouts.register(
    "spatial",
    equation="z_c m_c / (1 - rate), m_c ~ Bernoulli(1 - rate) for each channel",
    cite="arXiv:1411.4280",
    example={"name": "spatial", "rate": 0.2},
)
def spatial(*, rate: Fraction, layers: Layers = "hidden") -> Dropout:
    """Silence whole channels of a picture or a sequence, whose neighbouring positions would tell what is missing.

    PyTorch's Dropout1d and Dropout2d. It needs positions, so it cannot follow a dense layer.

    Args:
        rate: probability of silencing a channel.
        layers: which layers it follows: all, hidden, input or last.
    """

    def make(dims: int) -> nn.Module:
        if dims == 0:
            raise UsageError(
                "dropout spatial silences whole channels of a picture or a sequence, and a dense layer has none; "
                "use dropout"
            )
        return nn.Dropout1d(rate) if dims == 1 else nn.Dropout2d(rate)

    return Dropout(make, layers)


@dataclass(frozen=True)
class Sampled:
    """A prediction out of samples.

    Attributes:
        mean: of the sampled probabilities, (N, K).
        spread: their standard deviation over the samples (population form, 0 for one sample), (N, K).
    """

    mean: Tensor
    spread: Tensor


@contextmanager
def mc_mode(model: nn.Module) -> Iterator[None]:
    """Let dropout sample while everything else, batch norm above all, is in evaluation mode; then put all back.

    Args:
        model: any network; layers of PyTorch that drop out inside themselves (recurrent ones, attention) are found too.
    """
    with evaluating(model):
        for module in model.modules():
            if _samples(module):
                module.training = True
        yield


@torch.no_grad()
def mc_predict(
    model: nn.Module,
    inputs: Tensor,
    *,
    samples: int,
    probabilities: Callable[[Tensor], Tensor] = lambda logits: logits.float().softmax(dim=1),
) -> Sampled:
    """Predict by Monte Carlo dropout: the mean of sampled probabilities, and how far they spread.

    With the logits f_s(x) of S passes, each under its own dropout noise from torch's global generator,

        p = (1 / S) sum_s softmax(f_s(x)),    spread^2 = (1 / S) sum_s (softmax(f_s(x)) - p)^2

    Args:
        model: gives logits (N, K).
        inputs: a batch of samples.
        samples: how many passes to make.
        probabilities: from the outputs of one pass to what is averaged; a sigmoid for a single logit, the identity for
            a regression.

    Raises:
        UsageError: there is nothing to sample: less than one pass, or no dropout in the model with a rate above zero,
            so that every pass would be the same.
    """
    if samples < 1:
        raise UsageError(f"Monte Carlo dropout needs one sample or more, not {samples}")
    if not any(_samples(module) for module in model.modules()):
        raise UsageError(
            "Monte Carlo dropout samples the dropout layers of a model, and this one has none with a rate above 0; "
            "train it with model.dropout, or predict without samples"
        )
    mean = squares = torch.zeros(())
    with mc_mode(model):
        for number in range(1, samples + 1):
            sample = probabilities(model(inputs))
            if number == 1:
                mean, squares = sample, torch.zeros_like(sample)
                continue
            # Welford's recurrence: a sum of squares would lose a small spread to rounding.
            away = sample - mean
            mean = mean + away / number
            squares = squares + away * (sample - mean)
    return Sampled(mean, (squares / samples).sqrt())


def _samples(module: nn.Module) -> bool:
    """Whether a module drops out in training mode, and that mode changes nothing else about it."""
    if isinstance(module, nn.RNNBase | nn.MultiheadAttention):
        return module.dropout > 0
    if isinstance(module, nn.modules.dropout._DropoutNd):
        return module.p > 0
    return isinstance(module, DropoutLayer) and module.samples()
