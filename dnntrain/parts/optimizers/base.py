"""What all optimizers share: the family, the types of common options, and the frame of our own updates."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Annotated, Any, overload

import torch
from pydantic import Field
from torch import Tensor
from typing_extensions import override

from dnntrain.parts.layers import Patterns
from dnntrain.registry import Family, Fraction, NonNegative, Options, Positive


class Group(Options):
    """Layers with a learning rate or a weight decay of their own."""

    layers: Patterns = Field(description="names of layers, or patterns: dense1, dense*, or a list of them")
    lr: Positive | None = Field(None, description="their learning rate; the optimizer's unless given")
    weight_decay: NonNegative | None = Field(None, description="their weight decay; the optimizer's unless given")


def _shared(*, groups: Annotated[tuple[Group, ...], Field(strict=False)] = ()) -> None:
    """What every optimizer can be told.

    Args:
        groups: layers with a rate or a decay of their own; the first group that matches a layer has it.
    """


optimizers = Family(
    "optimizer",
    summary="How gradients change the weights.",
    shared=_shared,
    traits={"elementwise": False},
    synonyms={
        "adam_w": "adamw",
        "amsgrad": "adam with amsgrad: true",
        "momentum": "sgd with momentum: 0.9",
        "nesterov": "sgd with nesterov: true",
        "rms_prop": "rmsprop",
    },
)

Groups = list[dict[str, Any]]
"""Parameters with the options that are their own; `tables: True` says that none is a kernel, whatever its shape."""

Betas = Annotated[tuple[Fraction, Fraction], Field(strict=False)]


def fused(groups: Groups, devices: tuple[str, ...] = ("cpu", "cuda", "mps")) -> bool:
    """Whether all parameters lie where torch has one kernel for the whole update.

    Args:
        groups: parameters with the options that are their own.
        devices: the kinds of device that have the kernel.
    """
    return all(p.device.type in devices for group in groups for p in group["params"])


class Update(torch.optim.Optimizer, ABC):
    """Frame of an update of our own, group by group.

    Args:
        params: parameters or groups.
        defaults: options of the groups that do not set their own.
    """

    @overload
    def step(self, closure: None = None) -> None: ...

    @overload
    def step(self, closure: Callable[[], float]) -> float: ...

    @override
    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        """Update every parameter that has a gradient."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            self._update_group(group)
        return loss

    @abstractmethod
    def _update_group(self, group: dict[str, Any]) -> None:
        """Move the parameters of a group, those that have a gradient."""


class InPlace(Update):
    """Frame of an update that is computed in place, tensor by tensor.

    On one large tensor, allocating temporary results is most of an update's cost; here scratch tensors are kept
    between steps. They are no state: nothing in them outlives a step.

    Args:
        params: parameters or groups.
        defaults: options of the groups that do not set their own.
    """

    def __init__(self, params: Groups, defaults: dict[str, Any]) -> None:
        super().__init__(params, defaults)
        self._scratch: dict[Tensor, list[Tensor]] = {}

    @override
    def _update_group(self, group: dict[str, Any]) -> None:
        for p in group["params"]:
            if p.grad is not None:
                self._update(p, p.grad, self.state[p], group)

    @abstractmethod
    def _update(self, p: Tensor, g: Tensor, state: dict[str, Any], group: dict[str, Any]) -> None:
        """Move one parameter; its state is empty before its first step."""

    def _scratch_of(self, p: Tensor, count: int = 1) -> list[Tensor]:
        """Return tensors like a parameter, with anything in them."""
        if p not in self._scratch:
            self._scratch[p] = [torch.empty_like(p) for _ in range(count)]
        return self._scratch[p]

    @override
    def __getstate__(self) -> dict[str, Any]:
        return {**super().__getstate__(), "_scratch": {}}
