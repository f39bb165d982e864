from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import nn

from dnntrain.diagnostics.histograms import BUCKETS, MOST_VALUES, is_due, weight_histograms


class Holding(nn.Module):
    """Has the parameters it is given."""

    def __init__(self, **tensors: torch.Tensor) -> None:
        super().__init__()
        for name, tensor in tensors.items():
            self.register_parameter(name, nn.Parameter(tensor))


def test_buckets_are_those_of_numpy() -> None:
    tensors = {"a": torch.randn(40, 50), "b": torch.rand(7).bfloat16(), "c": torch.randn(4000) ** 5}
    for name, rows in weight_histograms(Holding(**tensors)).items():
        values = tensors[name].float().numpy().ravel().astype(np.float64)
        counts, edges = np.histogram(values, bins=BUCKETS)
        assert [row[0] for row in rows] == pytest.approx(edges[:-1].tolist(), rel=1e-6, abs=1e-9)
        assert [row[1] for row in rows] == pytest.approx(edges[1:].tolist(), rel=1e-6, abs=1e-9)
        # A value on an edge may fall to either side of it in single precision.
        assert np.abs(np.cumsum([row[2] for row in rows]) - np.cumsum(counts)).max() <= 1
        assert sum(row[2] for row in rows) == values.size


def test_every_parameter_is_told_in_order_and_keeps_to_its_own_buckets() -> None:
    model = nn.Sequential(nn.Linear(5, 6), nn.BatchNorm1d(6), nn.Linear(6, 2))
    made = weight_histograms(model)
    assert list(made) == [name for name, _ in model.named_parameters()]
    for name, parameter in model.named_parameters():
        assert sum(row[2] for row in made[name]) == parameter.numel()
        assert made[name][-1][2] >= 1, "the highest value is in the last bucket"


def test_what_is_not_finite_is_left_out() -> None:
    made = weight_histograms(
        Holding(
            part=torch.tensor([1.0, math.nan, 2.0, math.inf, -math.inf, 4.0]),
            nothing=torch.full((3,), math.nan),
            huge=torch.tensor([-3e38, 3e38, 1.0]),
            empty=torch.empty(0),
            good=torch.tensor([0.0, 1.0]),
        )
    )
    assert list(made) == ["part", "huge", "good"]
    assert sum(row[2] for row in made["part"]) == 3
    assert (made["part"][0][0], made["part"][-1][1]) == (1.0, 4.0)
    assert made["huge"] == [(0.5, 1.5, 1.0)]
    assert [made["good"][0][2], made["good"][-1][2]] == [1.0, 1.0]


def test_equal_values_are_one_bucket() -> None:
    assert weight_histograms(Holding(bias=torch.zeros(9))) == {"bias": [(-0.5, 0.5, 9.0)]}


def test_of_a_large_tensor_every_column_is_seen() -> None:
    tensor = torch.arange(64.0).repeat(1024, 1)  # each column has a value of its own; a step of 16 would see four
    (rows,) = weight_histograms(Holding(weight=tensor)).values()
    total = sum(row[2] for row in rows)
    assert MOST_VALUES / 2 <= total <= MOST_VALUES
    counts, _ = np.histogram(tensor.numpy(), bins=BUCKETS)
    for row, count in zip(rows, counts / counts.sum(), strict=True):
        assert row[2] / total == pytest.approx(count, abs=0.005)


def test_nothing_is_changed_and_nothing_is_drawn() -> None:
    model = Holding(a=torch.randn(300, 300), b=torch.randn(3))
    before, noise = [p.clone() for p in model.parameters()], torch.get_rng_state()
    weight_histograms(model)
    assert torch.equal(torch.get_rng_state(), noise)
    assert all(torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))
    assert all(p.grad is None for p in model.parameters())


def test_a_model_without_parameters_has_none() -> None:
    assert weight_histograms(nn.ReLU()) == {}


def test_epochs_become_rarer_as_training_grows_longer() -> None:
    due = [epoch for epoch in range(1, 1025) if is_due(epoch)]
    assert due[:16] == list(range(1, 17))
    assert due[16:24] == list(range(18, 33, 2))
    assert due[24:32] == list(range(36, 65, 4))
    assert len(due) == 16 + 8 * 6


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_a_gpu_counts_the_same() -> None:
    model = Holding(a=torch.randn(40, 50), b=torch.randn(5))
    assert {name: len(rows) for name, rows in weight_histograms(model.cuda()).items()} == {"a": BUCKETS, "b": BUCKETS}
