"""What a trainer needs, ready made: a model, its data, and what turns one into the other."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal, Protocol

import torch
from torch import Tensor, nn

from dnntrain.training.batches import Batches, Examples
from dnntrain.training.hooks import Hook, Monitor
from dnntrain.training.parameters import Parameters
from dnntrain.training.regularization import Constraint, GradientNoise, Penalty

Schedule = Callable[[int], tuple[float, float | None]]
"""A pure function of the optimizer step: learning-rate factor, and momentum or None."""

Loss = Callable[[Tensor, Tensor], Tensor]
"""Outputs (N, K) and targets (N,) or (N, K) to the mean over samples, a scalar; additive when weighted by N."""

EVALUATION_BATCH: Final = 1024
"""Samples that are measured, or pass frozen layers, at a time."""

PRECISIONS = ("fp32", "tf32", "bf16", "fp16")


class Metric(Protocol):
    """A metric that can be summed over batches: sums per batch on the device, one figure at the end."""

    def sums(self, outputs: Tensor, targets: Tensor, /) -> Tensor:
        """Return sums over the samples of a batch, of shape (k,)."""

    def value(self, sums: Tensor, count: int, /) -> float:
        """Turn the sums over `count` samples into the metric."""


@dataclass(frozen=True)
class Clip:
    """How gradients are clipped before a step: at most one of the three.

    Attributes:
        norm: the gradient as a whole is scaled down to this Euclidean norm.
        parameter_norm: each tensor's gradient is scaled down to it.
        value: each component is cut to [-value, value].
    """

    norm: float | None = None
    parameter_norm: float | None = None
    value: float | None = None


@dataclass
class Built:
    """Everything a `Trainer` needs.

    Attributes:
        model: the network, on `device`; gives logits.
        loss: the mean loss of a batch.
        metrics: figures measured beside the loss, by name.
        train: the training part in its order.
        valid: the validation part, or None.
        parameters: what the optimizer updates.
        optimizer: updates `parameters`.
        schedule: learning-rate factor and momentum of each step.
        epochs: how many passes over the training part, in this stage.
        monitor: what decides the best epoch.
        device: where the work is done.
        precision: number format of the forward pass.
        clip: how gradients are clipped.
        evaluation_batch: samples in a batch of an evaluation.
        penalties: terms added to the loss.
        noise: noise on the gradients.
        constraints: what the weights meet after every step.
        hooks: work beside the loop by the name of its state, in the order of being called.
        compiled: the model as it is called in training; differs from `model` when it was compiled.
        stage: which part of training this is, from 1; 0 where it is not divided.
        later_epochs: passes that are planned for the stages after this one.
        held: normalizations whose running statistics stay as they are, since their layers are frozen.
        upper: the part of the model that samples still have to pass, where `train` and `valid` give the outputs of the
            part below; None for the whole model.
    """

    model: nn.Module
    loss: Loss
    metrics: Mapping[str, Metric]
    train: Batches
    valid: Examples | None
    parameters: Parameters
    optimizer: torch.optim.Optimizer
    schedule: Schedule
    epochs: int
    monitor: Monitor
    device: torch.device
    precision: Literal["fp32", "tf32", "bf16", "fp16"] = "fp32"
    clip: Clip = field(default_factory=Clip)
    evaluation_batch: int = EVALUATION_BATCH
    penalties: Sequence[Penalty] = ()
    noise: Sequence[GradientNoise] = ()
    constraints: Sequence[Constraint] = ()
    hooks: Mapping[str, Hook] = field(default_factory=dict)
    compiled: Callable[[Tensor], Tensor] | None = None
    stage: int = 0
    later_epochs: int = 0
    held: Sequence[nn.Module] = ()
    upper: nn.Module | None = None

    @property
    def passed(self) -> nn.Module:
        """What the samples of `train` and `valid` have to pass to become outputs."""
        return self.model if self.upper is None else self.upper
