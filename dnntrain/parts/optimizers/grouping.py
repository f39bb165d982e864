"""Which parameters share learning rate and weight decay."""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatchcase
from typing import Any

from torch import nn

from dnntrain.errors import UsageError
from dnntrain.parts.optimizers.base import Group, Groups


def grouped(model: nn.Module, groups: Sequence[Group], *, decay: float | None) -> Groups:
    """Divide the trainable parameters of a model into what a torch optimizer takes.

    Decay, where there is any, is for kernels: biases and the parameters of normalization layers, which have one
    dimension, are spared.

    Args:
        model: the network.
        groups: layers with options of their own; the first that matches a layer has it.
        decay: the optimizer's weight decay; None where it has none.

    Raises:
        UsageError: a pattern matches no layer, or asks for a decay that the optimizer does not have.
    """
    layers = {name: name.rpartition(".")[0] for name, p in model.named_parameters() if p.requires_grad}
    found: dict[tuple[int, bool], list[nn.Parameter]] = {}
    for group in groups:
        _check(group, list(dict.fromkeys(layers.values())), decay)
    for name, p in model.named_parameters():
        if p.requires_grad:
            number = next((i for i, group in enumerate(groups) if _matches(group, layers[name])), -1)
            own = decay if number < 0 or groups[number].weight_decay is None else groups[number].weight_decay
            spared = bool(own) and p.ndim <= 1
            found.setdefault((number, spared), []).append(p)
    return [_options(groups, number, spared, params) for (number, spared), params in sorted(found.items())]


def _options(groups: Sequence[Group], number: int, spared: bool, params: list[nn.Parameter]) -> dict[str, Any]:
    options: dict[str, Any] = {"params": params}
    if number >= 0:
        group = groups[number]
        options |= {key: getattr(group, key) for key in ("lr", "weight_decay") if getattr(group, key) is not None}
    if spared:
        options["weight_decay"] = 0.0
    return options


def _matches(group: Group, layer: str) -> bool:
    patterns = (group.layers,) if isinstance(group.layers, str) else group.layers
    return any(fnmatchcase(layer, pattern) for pattern in patterns)


def _check(group: Group, layers: list[str], decay: float | None) -> None:
    if not any(_matches(group, layer) for layer in layers):
        raise UsageError(f"optimizer.groups: no layer matches {group.layers!r}; there are {', '.join(layers)}")
    if group.weight_decay is not None and decay is None:
        raise UsageError(f"optimizer.groups: this optimizer has no weight decay to set for {group.layers!r}")
