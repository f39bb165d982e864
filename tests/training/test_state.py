from __future__ import annotations

import math
import random
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tinyparts import make_mlp
from tinytraining import through_a_file
from torch import nn

from dnntrain.parts.optimizers import optimizers
from dnntrain.training.state import Attributes, OptimizerMemory, RandomState, copied, differences

CPU = torch.device("cpu")


def draws() -> list[Any]:
    return [
        torch.rand(5).tolist(),
        np.random.random(3).tolist(),
        np.random.normal(),
        random.random(),
        random.gauss(0.0, 1.0),
    ]


def test_every_generator_goes_on_where_it_was_saved() -> None:
    kept = RandomState(CPU).state_dict()
    try:
        draws()  # an odd number of normal draws: one is held back, and is part of the state
        state = through_a_file(RandomState(CPU).state_dict())
        expected = draws()
        draws()
        RandomState(CPU).load_state_dict(state)
        assert draws() == expected
    finally:
        RandomState(CPU).load_state_dict(kept)


def test_a_state_is_a_copy_and_not_the_generator() -> None:
    state = RandomState(CPU).state_dict()
    kept = copied(state)
    draws()
    assert not list(differences(state, kept))
    assert {path.split(".")[0] for path in differences(state, RandomState(CPU).state_dict())} == {
        "torch",
        "numpy",
        "python",
    }
    RandomState(CPU).load_state_dict(kept)


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_the_devices_noise_goes_on_too() -> None:
    device = torch.device("cuda")
    state = RandomState(device).state_dict()
    expected = torch.rand(5, device=device)
    RandomState(device).load_state_dict(state)
    assert torch.equal(torch.rand(5, device=device), expected)
    RandomState(device).load_state_dict(RandomState(CPU).state_dict())


def test_attributes_are_a_state() -> None:
    class Owner:
        a, b, c = 1, [2.0], None

    one, other = Owner(), Owner()
    one.a, one.c = 5, "x"
    Attributes(other, "a", "c").load_state_dict(through_a_file(Attributes(one, "a", "c").state_dict()))
    assert (other.a, other.b, other.c) == (5, [2.0], "x")


def test_an_optimizers_memory_leaves_its_options_to_the_experiment() -> None:
    def stepped(decay: float) -> tuple[nn.Module, torch.optim.Optimizer]:
        model = make_mlp()
        optimizer = optimizers.choose({"name": "adamw", "lr": 0.1, "weight_decay": decay}).build(
            groups=[{"params": list(model.parameters())}]
        )
        model(torch.ones(4, 6)).sum().backward()
        optimizer.step()
        return model, optimizer

    _, old = stepped(0.5)
    old.param_groups[0]["lr"] = 99.0
    _, new = stepped(0.25)
    before = new.param_groups[0]["weight_decay"]
    OptimizerMemory(new).load_state_dict(through_a_file(OptimizerMemory(old).state_dict()))
    assert not list(differences(new.state_dict()["state"], old.state_dict()["state"]))
    assert (new.param_groups[0]["lr"], new.param_groups[0]["weight_decay"]) == (0.1, before)


def test_a_copy_shares_nothing() -> None:
    state = {"a": torch.ones(2), "b": [torch.zeros(1), (torch.ones(1),)], "c": "text"}
    twin = copied(state)
    assert not list(differences(state, twin))
    state["a"].fill_(7)
    state["b"][1][0].fill_(7)
    assert list(differences(state, twin)) == ["a", "b.1.0"]


@pytest.mark.parametrize(
    ("one", "other", "paths"),
    [
        ({"a": 1, "b": 2}, {"a": 1, "b": 3}, ["b"]),
        ({"a": 1}, {"a": 1, "b": None}, ["b"]),
        ({"a": {"b": 1, "c": 2}}, {"a": {"b": 1}}, ["a.c"]),
        ([1, 2], [1, 2, 3], [""]),
        ([1, 2], [1, 3], ["1"]),
        (1, 1.0, [""]),
        (True, 1, [""]),
        (math.nan, math.nan, []),
        (math.nan, 0.0, [""]),
        (torch.tensor([math.nan]), torch.tensor([math.nan]), []),
        (torch.tensor([0.0]), torch.tensor([-0.0]), [""]),
        (torch.zeros(2), torch.zeros(2, 1), [""]),
        (torch.zeros(2), torch.zeros(2, dtype=torch.float64), [""]),
        (torch.tensor(1.0), torch.tensor(1.0 + 1e-7), [""]),
        (torch.zeros(0), torch.zeros(0), []),
        (torch.zeros(1), 0.0, [""]),
    ],
)
def test_a_single_bit_is_a_difference(one: Any, other: Any, paths: list[str]) -> None:
    assert list(differences(one, other)) == paths


@given(st.recursive(st.none() | st.integers() | st.floats() | st.text(), lambda s: st.dictionaries(st.text(), s)))
def test_a_state_does_not_differ_from_itself(state: Any) -> None:
    assert not list(differences(state, copied(state)))
