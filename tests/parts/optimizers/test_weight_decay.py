"""Decoupled weight decay, over all optimizers that have it."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from tinyparts import make_mlp

from dnntrain import build, spec
from dnntrain.build import training as building
from dnntrain.parts.optimizers import optimizers

DECAYING = [entry for entry in optimizers if "weight_decay" in entry.options.model_fields]


def test_decay_is_offered_where_it_is_decoupled() -> None:
    assert {entry.name for entry in DECAYING} == {"adamw", "lion", "muon", "nadam", "radam"}


@pytest.mark.parametrize("entry", DECAYING, ids=lambda entry: entry.name)
def test_weight_decay_takes_kernels_alone(entry: Any) -> None:
    text = (
        "data: {dataset: digits}\nmodel: {architecture: {name: mlp, hidden: [4]}}\n"
        f"optimizer: {{name: {entry.name}, lr: 0.1, weight_decay: 0.5}}\n"
    )
    experiment = spec.loads(text)
    model = make_mlp(normalization={"name": "batch"}, activation={"name": "swish", "learnable": True})
    for p in model.parameters():
        p.data.add_(1.0)
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    parameters = building.parameters_of(build.stages(experiment, model)[0], model)
    optimizer = entry.factory(parameters.groups, lr=0.1, weight_decay=0.5)
    for p in model.parameters():
        p.grad = torch.zeros_like(p)
    parameters.collect()
    optimizer.step()
    for name, p in model.named_parameters():
        kernel = name in ("dense1.weight", "dense2.weight", "output.weight")
        expected = before[name] * (1 - 0.1 * 0.5) if kernel else before[name]
        torch.testing.assert_close(p.detach(), expected, rtol=1e-6 if kernel else 0, atol=0, msg=name)
