"""What a network is made of: its layers, their output shapes, parameters and work."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode


@dataclass(frozen=True)
class LayerRow:
    """One layer.

    Attributes:
        name: its path in the model.
        kind: its class.
        shape: of its output, without the batch.
        trainable: parameters that training changes.
        fixed: parameters it does not change, and running statistics (a count of batches is neither).
    """

    name: str
    kind: str
    shape: tuple[int, ...]
    trainable: int
    fixed: int


@dataclass(frozen=True)
class ModelSummary:
    """A whole network.

    Attributes:
        layers: in the order of the forward pass.
        trainable: parameters that training changes.
        fixed: parameters and running statistics that it does not change.
        flops: floating-point operations of a forward pass of one sample; a multiply-add counts as two.
    """

    layers: tuple[LayerRow, ...]
    trainable: int
    fixed: int
    flops: int


def summarize(model: nn.Module, shape: tuple[int, ...]) -> ModelSummary:
    """Run a batch without numbers through a copy of the model's shapes and write down what comes by.

    Args:
        model: the network, on any device; it is left as it is.
        shape: of one input sample.
    """
    rows: list[LayerRow] = []
    names = {module: name for name, module in model.named_modules()}
    counts = {module: count(module) for module in names}

    def note(module: nn.Module, _inputs: Any, output: Tensor) -> None:
        if any(row.name == names[module] for row in rows):
            return  # a layer that is called once per time step is one layer
        trainable, fixed = counts[module]
        rows.append(LayerRow(names[module], type(module).__name__, tuple(output.shape[1:]), trainable, fixed))

    leaves = [module for module in model.modules() if not any(module.children())]
    handles = [module.register_forward_hook(note) for module in leaves]
    counter = FlopCounterMode(display=False)
    training = model.training
    model.eval()
    weights = {
        name: torch.empty_like(value, device="meta")
        for name, value in (*model.named_parameters(), *model.named_buffers())
    }
    try:
        with torch.no_grad(), counter:
            torch.func.functional_call(model, weights, torch.empty((1, *shape), device="meta"))
    finally:
        model.train(training)
        for handle in handles:
            handle.remove()
    trainable, fixed = counts[model]
    return ModelSummary(tuple(rows), trainable, fixed, counter.get_total_flops())


def count(module: nn.Module) -> tuple[int, int]:
    """Return the numbers of trainable and of fixed parameters, running statistics among the latter."""
    trainable = sum(p.numel() for p in module.parameters() if p.requires_grad)
    fixed = sum(p.numel() for p in module.parameters() if not p.requires_grad)
    statistics = sum(b.numel() for _, b in module.named_buffers() if b.is_floating_point())
    return trainable, fixed + statistics
