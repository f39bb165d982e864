"""Layers picked by name, and what counts as a kernel."""

from __future__ import annotations

import pytest
import torch
from tinynetworks import SMALL, network, small
from torch import nn

from dnntrain.errors import UsageError
from dnntrain.parts.layers import Table, check_matches, kernels, matches, table_weights


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
