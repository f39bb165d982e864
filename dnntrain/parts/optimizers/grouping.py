"""Which parameters share learning rate and weight decay."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import nn

from dnntrain.errors import UsageError
from dnntrain.parts.layers import check_matches, matches, table_weights
from dnntrain.parts.optimizers.base import Group, Groups


def grouped(
    model: nn.Module,
    groups: Sequence[Group],
    *,
    decay: float | None,
    lr: float = 1.0,
    factors: Mapping[str, float] | None = None,
) -> Groups:
    """Divide the trainable parameters of a model into what a torch optimizer takes.

    Decay, where there is any, is for kernels: biases and the parameters of normalization layers, which have one
    dimension, are spared, and so are the vectors of tokens and positions, unless a group gives these a decay itself.
    They stand in groups with `tables: True`.

    Args:
        model: the network.
        groups: layers with options of their own; the first that matches a layer has it.
        decay: the optimizer's weight decay; None where it has none.
        lr: the optimizer's learning rate.
        factors: what the rate of some parameters is multiplied by, by their names.

    Raises:
        UsageError: a pattern matches no layer, or asks for a decay that the optimizer does not have.
    """
    layers = {name: name.rpartition(".")[0] for name, _ in model.named_parameters()}
    tables = table_weights(model)
    found: dict[tuple[int, bool, bool, float], list[nn.Parameter]] = {}
    for group in groups:
        _check(group, list(dict.fromkeys(layers.values())), decay)
    for name, p in model.named_parameters():
        if p.requires_grad:
            number = next((i for i, group in enumerate(groups) if matches(layers[name], group.layers)), -1)
            own = None if number < 0 else groups[number].weight_decay
            if p in tables:
                spared = bool(decay) and own is None
            else:
                spared = bool(decay if own is None else own) and p.ndim <= 1
            factor = (factors or {}).get(name, 1.0)
            found.setdefault((number, spared, p in tables, factor), []).append(p)
    return [_options(groups, *key, lr, params) for key, params in sorted(found.items(), key=lambda item: item[0])]


def _options(
    groups: Sequence[Group],
    number: int,
    spared: bool,
    tables: bool,
    factor: float,
    lr: float,
    params: list[nn.Parameter],
) -> dict[str, Any]:
    options: dict[str, Any] = {"params": params}
    if number >= 0:
        group = groups[number]
        options |= {key: getattr(group, key) for key in ("lr", "weight_decay") if getattr(group, key) is not None}
    if factor != 1.0:
        options["lr"] = options.get("lr", lr) * factor
    if spared:
        options["weight_decay"] = 0.0
    if tables:
        options["tables"] = True
    return options


def _check(group: Group, layers: list[str], decay: float | None) -> None:
    check_matches(layers, group.layers, kind="layer")
    if group.weight_decay is not None and decay is None:
        raise UsageError(f"this optimizer has no weight decay to set for {group.layers!r}")
