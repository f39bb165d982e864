"""Averages of a model's weights, kept beside it."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from typing_extensions import override

from dnntrain.training.hooks import Hook


class Average(Hook):
    """Keeps an average of all floating-point weights and statistics of a model; counters are copied.

    Attributes:
        count: how many times weights were taken in.
    """

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

    @override
    def state_dict(self) -> dict[str, Any]:
        return {"count": self.count, "weights": self._weights}

    @override
    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.count, self._weights = state["count"], dict(state["weights"])
