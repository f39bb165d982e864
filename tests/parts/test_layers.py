"""Layers picked by name, and what counts as a kernel."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from tinynetworks import SMALL, network, small, usual
from tinyparts import make_mlp
from torch import nn

from dnntrain.errors import UsageError
from dnntrain.parts.layers import (
    Layer,
    Table,
    check_matches,
    kernels,
    layers_of,
    matches,
    pick,
    state_of,
    table_weights,
)


def test_names_match_patterns_by_case_and_in_full() -> None:
    assert matches("dense1", "dense1")
    assert matches("dense12", "dense*")
    assert matches("conv1", ("dense*", "conv1"))
    assert not matches("Dense1", "dense*")
    assert not matches("dense12", "dense1")


def test_a_pattern_without_a_layer_is_named() -> None:
    check_matches(["dense1", "output"], ("*", "out*"), kind="layer")
    with pytest.raises(UsageError, match=r"^no layer matches 'conv\*'; there are dense1, output$"):
        check_matches(["dense1", "output"], ("dense1", "conv*"), kind="layer")


@pytest.mark.parametrize("name", SMALL)
def test_kernels_are_what_inputs_are_multiplied_by(name: str) -> None:
    model = network(small(name))
    expected = {n.removesuffix(".weight") for n, p in model.named_parameters() if p.ndim > 1} - {"positions"}
    assert set(kernels(model)) == expected
    assert (len(table_weights(model)) == 1) == (name == "vit")


def test_embeddings_and_tables_are_no_kernels_but_what_they_contain_may_be() -> None:
    class Within(Table):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.zeros(3, 2))
            self.dense = nn.Linear(2, 2)

    model = nn.Sequential(nn.Embedding(5, 2), Within())
    assert list(kernels(model)) == ["1.dense"]
    assert table_weights(model) == {model[0].weight, model[1].weight}


def test_layers_take_along_what_follows_them() -> None:
    model = make_mlp((6,), 3, (5, 4), normalization={"name": "batch", "input": True}, activation="prelu")
    found = {layer.name: layer.modules for layer in layers_of(model)}
    assert found == {
        "dense1": ("dense1", "input_norm", "norm1", "activation1"),
        "dense2": ("dense2", "norm2", "activation2"),
        "output": ("output",),
    }
    assert [layer.is_output for layer in layers_of(model)] == [False, False, True]


@pytest.mark.parametrize("name", SMALL)
def test_every_weight_and_every_statistic_belongs_to_one_layer(name: str) -> None:
    model = network(small(name), normalization=usual(small(name), "normalization", "batch"))
    layers = layers_of(model)
    assert layers[-1].is_output and not any(layer.is_output for layer in layers[:-1])
    found = [key for layer in layers for key in state_of(layer, model)]
    assert sorted(found) == sorted(model.state_dict())


LAYERS = [
    Layer(name, (name,)) for name in ("conv1", "stage1.block1.conv1", "stage1.block1.conv2", "stage2.conv1", "output")
]


@pytest.mark.parametrize(
    ("selection", "expected"),
    [
        (0, []),
        (2, [0, 1]),
        (5, [0, 1, 2, 3, 4]),
        ("none", []),
        ("all", [0, 1, 2, 3, 4]),
        ("all_but_output", [0, 1, 2, 3]),
        ("reused", [1, 3]),
        ("conv1", [0]),
        ("stage1", [1, 2]),
        ("stage*", [1, 2, 3]),
        (("stage1.block1.conv2", "output"), [2, 4]),
    ],
)
def test_layers_are_picked_by_number_word_name_and_block(selection: Any, expected: list[int]) -> None:
    picked = pick(LAYERS, selection, reused=["stage1.block1.conv1", "stage2.conv1"])
    assert picked == [LAYERS[i] for i in expected]


def test_what_cannot_be_picked_is_told_with_what_there_is() -> None:
    with pytest.raises(UsageError, match=r"^there are 2 layers to pick from, not 3: conv1, stage1\.block1\.conv1$"):
        pick(LAYERS[:2], 3)
    with pytest.raises(UsageError, match=r"^no layer matches 'dense1'; there are conv1$"):
        pick(LAYERS[:1], ("conv1", "dense1"))
