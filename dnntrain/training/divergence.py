"""What is known of the step at which training met numbers that are not finite."""

from __future__ import annotations

from typing import Any, Final

import torch
from torch import nn

from dnntrain.training.built import Built
from dnntrain.training.tally import SeenStep

MOST_OVERFLOWS: Final = 50
"""Steps in a row that fp16 may skip; each halves the scale, so that after 50 of them no scale would have helped."""


def describe(built: Built, step: SeenStep, /, *, number: int, epoch: int, epoch_step: int, lr: float) -> dict[str, Any]:
    """Return a report on a step with a number that is not finite, as plain values.

    Args:
        built: what is trained.
        step: what was seen of the step.
        number: of the step, from 1.
        epoch: in which it was taken, from 1.
        epoch_step: its number in that epoch, from 1.
        lr: its learning rate.

    Returns:
        epoch, step, lr; what was not finite first, `loss`, `gradient` or `weights`; the losses of the step's batches;
        the norm of the gradient before clipping as a whole and by parameter; the rows of the data set in the step.
    """
    names = {id(parameter): name for name, parameter in built.model.named_parameters()}
    tensors = [names[id(tensor)] for tensor in built.parameters.tensors]
    return {
        "epoch": epoch,
        "step": number,
        "lr": lr,
        "not_finite": step.what,
        "losses": step.losses,
        "grad_norm": step.norm,
        "grad_norms": dict(zip(tensors, step.norms or (), strict=False)),
        "samples": built.train.rows(epoch_step),
    }


def is_finite(model: nn.Module, /) -> bool:
    """Whether all weights and statistics of a model are."""
    floats = [value for value in model.state_dict().values() if value.is_floating_point()]
    return all(torch.stack([value.isfinite().all() for value in floats]).tolist())


def explain(report: dict[str, Any], /) -> str:
    """Say what happened and what usually helps, in a sentence or two."""
    verb = "are" if report["not_finite"] == "weights" else "is"
    return (
        f"training diverged: the {report['not_finite']} of step {report['step']} (epoch {report['epoch']}) {verb} not "
        f"finite; the learning rate was {report['lr']:.3g}. A lower learning rate, clipping (training.clip: {{norm: "
        "1.0}) or normalization usually helps"
    )
