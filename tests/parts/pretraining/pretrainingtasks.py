"""Tasks on small networks, as a file would set them."""

from __future__ import annotations

from typing import Any

import torch
from tinynetworks import network, parts
from torch import Tensor, nn

from dnntrain.parts.pretraining import Task, pretrainings

Shape = tuple[int, ...]


def net(hidden: list[int], shape: Shape, *, activation: str = "identity", **others: Any) -> nn.Module:
    return network({"name": "mlp", "hidden": hidden}, shape, activation=activation, **others)


def tasks(written: Any, model: nn.Module, shape: Shape, *, activation: str = "identity") -> list[Task]:
    made: list[Task] = pretrainings.choose(written).build(network=model, shape=shape, blocks=parts(activation))
    return made


def draws(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def asked(task: Task, x: Tensor, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Return the inputs and targets that a task makes of samples."""
    generator, y = draws(seed), torch.zeros(len(x), dtype=torch.int64)
    for change in (task.raw, task.prepared):
        if change is not None:
            x, y = change(x, y, generator)
    return x, y
