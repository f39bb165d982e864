"""All ways of pretraining on all architectures: what fits takes a step, on any device; what does not says so."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from pretrainingtasks import draws, tasks
from tinynetworks import PICTURE, SMALL, network, small
from torch import nn

from dnntrain.errors import UsageError
from dnntrain.parts.layers import layers_of, state_of
from dnntrain.parts.pretraining import Task, pretrainings

TOKENS = {"name": "lstm", "units": 4, "layers": 2, "bidirectional": True, "embedding": {"vocabulary": 9, "size": 3}}
NETWORKS: dict[str, tuple[Any, tuple[int, ...]]] = {
    **{name: (small(name), PICTURE) for name in SMALL},
    "table": ({"name": "mlp", "hidden": [8, 6]}, (7,)),
    "sequence": ({"name": "gru", "units": 5, "layers": 2}, (6, 4)),
    "tokens": (TOKENS, (6,)),
}
MIRRORED = {"mlp", "cnn", "table"}
FITS = {
    "autoencoder": MIRRORED,
    "denoising_autoencoder": MIRRORED,
    "greedy_autoencoder": MIRRORED,
    "rbm": {"mlp", "table"},
    "gan": set(NETWORKS) - {"tokens"},
    "rotation": set(SMALL),
    "masked": set(NETWORKS),
    "contrastive": set(NETWORKS),
    "max_margin": set(NETWORKS),
}
COMBINATIONS = [(name, where) for name in pretrainings.names() for where in NETWORKS]


def made(name: str, where: str) -> tuple[nn.Module, list[Task], tuple[int, ...]]:
    architecture, shape = NETWORKS[where]
    own = {"activation": "sigmoid", "normalization": "none"} if name == "rbm" and where in FITS["rbm"] else {}
    model = network(architecture, shape, **own)
    return model, tasks({"name": name}, model, shape, activation="relu"), shape


def test_every_part_is_tried() -> None:
    assert set(FITS) == set(pretrainings.names())


@pytest.mark.parametrize("device", ["cpu", "meta"])
@pytest.mark.parametrize(("name", "where"), [(name, where) for name, where in COMBINATIONS if where in FITS[name]])
def test_a_step_is_taken(name: str, where: str, device: str) -> None:
    model, found, shape = made(name, where)
    for task in found:
        kept = {key: p.detach().clone() for key, p in model.named_parameters()}
        task.model.to(device).train()
        task.model.requires_grad_(True)
        for each in task.frozen:
            each.requires_grad_(False)
        x = torch.randint(0, 9, (6, *shape)).float() if where == "tokens" else torch.rand(6, *shape)
        x, y = x.to(device), torch.zeros(6, dtype=torch.int64, device=device)
        if task.views > 1:
            x = torch.stack((x, x.roll(1, 0)), dim=1)
        for change in (task.raw, task.prepared):
            if change is not None:
                x, y = change(x, y, draws())
        assert (x.device.type, y.device.type, len(x), len(y)) == (device, device, 6, 6)
        outputs = task.model(x)
        loss = task.loss(outputs, y)
        loss.backward()
        assert loss.shape == () and len(outputs) == 6
        gradients = {key: p.grad for key, p in task.model.named_parameters() if p.grad is not None}
        assert {p.device.type for p in gradients.values()} | {loss.device.type} == {device}
        for metric in task.metrics.values():
            assert metric.sums(outputs, y).shape == (1,)
        if device == "cpu":
            assert torch.isfinite(loss)
            lowest = task.name or layers_of(model)[0].name
            assert any(key.startswith(lowest) and bool(g.any()) for key, g in gradients.items()), (
                "the lowest layer learns"
            )
            assert all(torch.equal(p, kept[key]) for key, p in model.named_parameters())


@pytest.mark.parametrize(("name", "where"), [(name, where) for name, where in COMBINATIONS if where not in FITS[name]])
def test_what_does_not_fit_says_so(name: str, where: str) -> None:
    with pytest.raises(UsageError, match=name) as raised:
        made(name, where)
    assert str(raised.value).startswith(name)


@pytest.mark.parametrize(("name", "where"), [(name, where) for name, where in COMBINATIONS if where in FITS[name]])
def test_the_last_task_holds_all_hidden_layers_under_their_names(name: str, where: str) -> None:
    model, found, _ = made(name, where)
    ours, theirs = model.state_dict(), found[-1].model.state_dict()
    for layer in layers_of(model):
        if not layer.is_output:
            for key in state_of(layer, model):
                assert theirs[key].data_ptr() == ours[key].data_ptr(), "the very same"
    assert "output.weight" not in theirs
    assert sum(p.numel() for p in found[-1].model.parameters()) == sum(
        value.numel() for key, value in theirs.items() if key in dict(found[-1].model.named_parameters())
    )
