"""State dicts of PyTorch and safetensors, whatever they are wrapped in."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from dnntrain.errors import DataError
from dnntrain.parts.weights import read_weights

STATE = {"dense1.weight": torch.randn(3, 4), "dense1.bias": torch.randn(3), "output.weight": torch.randn(2, 3)}


def same(read: Any, expected: dict[str, torch.Tensor]) -> None:
    assert list(read.tensors) == list(expected)
    for name, tensor in expected.items():
        assert torch.equal(read.tensors[name], tensor), name


@pytest.mark.parametrize(
    "wrapped",
    [
        STATE,
        {"state_dict": STATE, "epoch": 3},
        {"model": STATE, "schema": 1, "classes": None},
        {"model_state_dict": STATE, "optimizer": {}},
        {f"module.{name}": tensor for name, tensor in STATE.items()},
        {f"module._orig_mod.{name}": tensor for name, tensor in STATE.items()},
        {**STATE, "version": 2},
    ],
    ids=["bare", "state_dict", "model", "model_state_dict", "module", "compiled", "beside plain values"],
)
@pytest.mark.parametrize("ending", [".pt", ".pth"])
def test_a_state_dict_is_found(wrapped: Any, ending: str, tmp_path: Path) -> None:
    torch.save(wrapped, tmp_path / f"w{ending}")
    same(read_weights(tmp_path / f"w{ending}"), STATE)


def test_a_prefix_that_not_all_have_stays(tmp_path: Path) -> None:
    mixed = {"module.a.weight": torch.zeros(1), "b.weight": torch.zeros(1)}
    torch.save(mixed, tmp_path / "w.pt")
    same(read_weights(tmp_path / "w.pt"), mixed)


def test_safetensors(tmp_path: Path) -> None:
    save_file = pytest.importorskip("safetensors.torch").save_file
    save_file(STATE, tmp_path / "w.safetensors")
    read = read_weights(tmp_path / "w.safetensors")
    same(read, dict(sorted(STATE.items())) if list(read.tensors) == sorted(STATE) else STATE)
    assert read.source == str(tmp_path / "w.safetensors")


def test_names_pick_and_rename_tensors_and_whole_layers(tmp_path: Path) -> None:
    torch.save(STATE, tmp_path / "w.pt")
    read = read_weights(tmp_path / "w.pt", names={"conv1": "dense1", "output.weight": "output.weight"})
    same(
        read,
        {
            "conv1.weight": STATE["dense1.weight"],
            "conv1.bias": STATE["dense1.bias"],
            "output.weight": STATE["output.weight"],
        },
    )


def test_a_name_that_is_not_there_is_said_with_the_nearest(tmp_path: Path) -> None:
    torch.save(STATE, tmp_path / "w.pt")
    with pytest.raises(
        DataError, match=r"has no tensor and no layer 'dense1\.wieght'\n.*did you mean 'dense1\.weight'"
    ):
        read_weights(tmp_path / "w.pt", names={"dense1.weight": "dense1.wieght"})


def test_what_could_run_code_is_refused(tmp_path: Path) -> None:
    torch.save(nn.Linear(2, 2), tmp_path / "w.pt")
    with pytest.raises(DataError, match="refused to read .* could run code"):
        read_weights(tmp_path / "w.pt")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([1, 2], "holds no state dict, but a value of type list"),
        ({"a": 1}, "holds no tensors by name"),
        ({}, "holds no tensors by name"),
    ],
)
def test_what_holds_no_weights_is_refused(content: Any, message: str, tmp_path: Path) -> None:
    torch.save(content, tmp_path / "w.pt")
    with pytest.raises(DataError, match=message):
        read_weights(tmp_path / "w.pt")
