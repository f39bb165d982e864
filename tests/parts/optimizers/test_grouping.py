"""Which parameters share learning rate and weight decay."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from tinynetworks import network
from tinyparts import make_mlp

from dnntrain import build, spec
from dnntrain.errors import UsageError
from dnntrain.parts.optimizers import optimizers
from dnntrain.parts.optimizers.grouping import grouped
from dnntrain.placement import place
from dnntrain.training.trainer import Trainer


def groups_of(value: dict[str, Any]) -> Any:
    return optimizers.choose(value).options.groups


def names(model: torch.nn.Module, params: list[torch.nn.Parameter]) -> set[str]:
    return {name for name, p in model.named_parameters() if any(p is q for q in params)}


def test_the_first_group_that_matches_has_the_layer() -> None:
    model = make_mlp((6,), 3, [5, 4])
    groups = groups_of({"name": "sgd", "groups": [{"layers": "dense1", "lr": 0.1}, {"layers": ["dense*"], "lr": 0.2}]})
    found = grouped(model, groups, decay=None)
    assert [(names(model, g["params"]), g.get("lr")) for g in found] == [
        ({"output.weight", "output.bias"}, None),
        ({"dense1.weight", "dense1.bias"}, 0.1),
        ({"dense2.weight", "dense2.bias"}, 0.2),
    ]


def test_decay_spares_biases_in_every_group() -> None:
    model = make_mlp((6,), 3, [5])
    groups = groups_of({"name": "adamw", "groups": [{"layers": "output", "weight_decay": 0.5}]})
    found = grouped(model, groups, decay=0.01)
    assert [(names(model, g["params"]), g.get("weight_decay")) for g in found] == [
        ({"dense1.weight"}, None),
        ({"dense1.bias"}, 0.0),
        ({"output.weight"}, 0.5),
        ({"output.bias"}, 0.0),
    ]


def vision() -> torch.nn.Module:
    return network({"name": "vit", "patch": 4, "width": 8, "heads": 2, "layers": 1})


def test_decay_spares_positions_and_embeddings() -> None:
    vit = vision()
    tokens = network({"name": "rnn", "units": 5, "embedding": {"vocabulary": 9, "size": 4}}, (6,))
    for model, table in ((vit, "positions.weight"), (tokens, "tokens.weight")):
        found = grouped(model, (), decay=0.1)
        with_decay = {name for g in found if "weight_decay" not in g for name in names(model, g["params"])}
        assert with_decay == {n for n, p in model.named_parameters() if p.ndim > 1} - {table}
        assert [names(model, g["params"]) for g in found if g.get("tables")] == [{table}]


def test_a_group_can_give_a_table_a_decay() -> None:
    model = vision()
    groups = groups_of({"name": "adamw", "groups": [{"layers": "positions", "weight_decay": 0.5}]})
    (table,) = [g for g in grouped(model, groups, decay=0.1) if g.get("tables")]
    assert table["weight_decay"] == 0.5


def test_muon_leaves_positions_to_adamw() -> None:
    model = vision()
    groups = grouped(model, (), decay=0.1)
    optimizer = optimizers.choose("muon").build(groups=groups)
    adamw = {name for g in optimizer.param_groups if "betas" in g for name in names(model, g["params"])}
    assert adamw == {n for n, p in model.named_parameters() if p.ndim == 1} | {"positions.weight"}


def test_every_pattern_of_a_group_must_match() -> None:
    groups = groups_of({"name": "sgd", "groups": [{"layers": ["dense*", "conv*"], "lr": 0.1}]})
    with pytest.raises(UsageError, match=r"no layer matches 'conv\*'; there are dense1, output"):
        grouped(make_mlp((6,), 3, [5]), groups, decay=None)


def test_frozen_parameters_are_in_no_group() -> None:
    model = make_mlp((6,), 3, [5])
    model.dense1.weight.requires_grad_(False)
    (only,) = grouped(model, (), decay=None)
    assert names(model, only["params"]) == {"dense1.bias", "output.weight", "output.bias"}


def test_what_cannot_be_is_said() -> None:
    model = make_mlp((6,), 3, [5])
    with pytest.raises(UsageError, match="no layer matches 'conv1'; there are dense1, output"):
        grouped(model, groups_of({"name": "sgd", "groups": [{"layers": "conv1", "lr": 0.1}]}), decay=None)
    with pytest.raises(UsageError, match="has no weight decay to set for 'output'"):
        grouped(model, groups_of({"name": "sgd", "groups": [{"layers": "output", "weight_decay": 0.1}]}), decay=None)


@pytest.mark.parametrize("optimizer", ["sgd", "adamw", "muon"])
def test_a_layer_with_a_tiny_rate_hardly_moves(optimizer: str) -> None:
    experiment = spec.loads(
        "{data: {dataset: digits, limit: 128}, model: {architecture: {name: mlp, hidden: [8, 8]}}, "
        "training: {epochs: 2, threads: 1}, callbacks: [], schedule: constant, "
        f"optimizer: {{name: {optimizer}, lr: 0.05, groups: [{{layers: dense1, lr: 1.0e-12}}]}}}}"
    )
    data = build.open_data(experiment)
    experiment = build.resolve(experiment, data)
    built = build.build(experiment, data, place(experiment))
    before = {name: p.detach().clone() for name, p in built.model.named_parameters()}
    trainer = Trainer(built)
    trainer.fit()
    moved = {name: (p - before[name]).abs().max().item() for name, p in built.model.named_parameters()}
    assert moved["dense1.weight"] < 1e-6
    assert moved["dense2.weight"] > 1e-3
    assert trainer.row["lr"] == 0.05
