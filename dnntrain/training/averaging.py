"""Averages of a model's weights, kept beside it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from typing_extensions import override

from dnntrain import interruption
from dnntrain.training.batches import Batches
from dnntrain.training.built import Built
from dnntrain.training.hooks import Hook
from dnntrain.training.modes import evaluating
from dnntrain.training.state import copied
from dnntrain.training.stepper import autocast


class Average(Hook):
    """Keeps an average of all floating-point weights and statistics of a model; counters are copied.

    Attributes:
        remeasures: whether the running statistics of batch normalization are measured anew for the average, rather than
            averaged as well.
        count: how many times weights were taken in.
    """

    remeasures = False

    def __init__(self) -> None:
        self.count = 0
        self._weights: dict[str, Tensor] = {}

    @torch.no_grad()
    def _take_in(self, model: nn.Module, share: float) -> None:
        """Move the average towards the model's weights by a share; the first weights are taken as they are."""
        state = model.state_dict()
        if self.count == 0:
            self._weights = {name: value.detach().clone() for name, value in state.items()}
        else:
            moving = [name for name, value in state.items() if value.is_floating_point()]
            torch._foreach_lerp_([self._weights[name] for name in moving], [state[name] for name in moving], share)
            for name in state.keys() - set(moving):
                self._weights[name].copy_(state[name])
        self.count += 1

    def weights(self) -> dict[str, Tensor] | None:
        """Return the average as a state dict of the model; None before anything was taken in."""
        return self._weights if self.count else None

    def settle(self, built: Built) -> None:
        """Bring the statistics of the average in line with its weights, where they are to be measured.

        Args:
            built: what is trained; its model holds the average, and its statistics change too.

        Raises:
            Interrupted: a signal asked for the end; the average has not changed.
        """
        if self.remeasures and self.count:
            self._weights.update(measure_statistics(built))

    @override
    def state_dict(self) -> dict[str, Any]:
        return {"count": self.count, "weights": self._weights}

    @override
    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.count, self._weights = state["count"], dict(state["weights"])


@contextmanager
def averaged(built: Built, average: Average | None) -> Iterator[None]:
    """Put the average of the weights into a model for a while, where one is kept, and settle its statistics.

    Args:
        built: what is trained.
        average: of its weights, or None.
    """
    weights = None if average is None else average.weights()
    if average is None or weights is None:
        yield
        return
    own = copied(built.model.state_dict())
    built.model.load_state_dict(weights)
    try:
        average.settle(built)
        yield
    finally:
        built.model.load_state_dict(own)


@torch.no_grad()
def measure_statistics(built: Built) -> dict[str, Tensor]:
    """Measure the running statistics of batch normalization at the present weights, in one pass over the training part.

    Each is the mean over the batches, weighted by their sizes, of what a training step would see. Everything but these
    layers is in evaluation mode, and nothing is drawn from the generators of the process: samples come unchanged, in an
    order that is always the same. It is a shuffled one, since a file may hold one class after the other, and the
    statistics of batches of one class are not those of the data. A last batch of a single sample joins the one before.

    Args:
        built: what is trained; the statistics and their counters are overwritten, but for those of frozen layers; modes
            and momenta are put back.

    Returns:
        copies of the statistics, by their names in the model's state; none where the model has no such layers.

    Raises:
        Interrupted: a signal asked for the end.
    """
    model, examples, order = built.passed, built.train.examples, torch.Generator().manual_seed(0)
    norms = {
        name: module
        for name, module in model.named_modules()
        if isinstance(module, _BatchNorm) and module.track_running_stats and module not in built.held
    }
    if not norms:
        return {}
    momenta = {norm: norm.momentum for norm in norms.values()}
    seen = 0
    try:
        with evaluating(model):
            for norm in norms.values():
                norm.reset_running_stats()
                norm.train()
            for ((x, _),) in Batches(examples, batch_size=built.evaluation_batch, generator=order).epoch():
                interruption.check()
                seen += len(x)
                for norm in norms.values():
                    norm.momentum = len(x) / seen
                with autocast(built.device, built.precision):
                    model(x)
    finally:
        for norm, momentum in momenta.items():
            norm.momentum = momentum
    wanted = {f"{name}.{key}" for name in norms for key in ("running_mean", "running_var")}
    return {name: value.clone() for name, value in model.state_dict().items() if name in wanted}
