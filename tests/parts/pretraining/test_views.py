"""Turned pictures and pairs of views, against the same things written out."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from pretrainingtasks import asked, net, tasks

from dnntrain.errors import UsageError
from dnntrain.parts.pretraining.views import nt_xent


def test_pictures_are_turned_as_the_targets_say() -> None:
    (task,) = tasks("rotation", net([4], (2, 5, 5)), (2, 5, 5))
    x = torch.randint(0, 256, (400, 2, 5, 5), dtype=torch.uint8)
    turned, turns = asked(task, x)
    assert turned.dtype == torch.uint8 and turns.dtype == torch.int64
    for before, after, turn in zip(x.numpy(), turned.numpy(), turns.tolist(), strict=True):
        np.testing.assert_array_equal(after, np.rot90(before, turn, axes=(1, 2)))
    assert all(70 < int((turns == turn).sum()) < 130 for turn in range(4))


def test_the_turn_is_guessed_by_cross_entropy() -> None:
    (task,) = tasks("rotation", net([4], (1, 3, 3)), (1, 3, 3))
    outputs, turns = task.model(torch.randn(6, 1, 3, 3)), torch.tensor([0, 1, 2, 3, 0, 1])
    assert outputs.shape == (6, 4)
    p = np.exp(outputs.detach().numpy().astype(np.float64))
    p /= p.sum(axis=1, keepdims=True)
    expected = -np.mean(np.log(p[np.arange(6), turns.numpy()]))
    assert float(task.loss(outputs, turns).detach()) == pytest.approx(expected, rel=1e-5)
    metric = task.metrics["accuracy"]
    right = float((outputs.argmax(dim=1) == turns).float().mean())
    assert metric.value(metric.sums(outputs.detach(), turns).double(), 6) == pytest.approx(right)


@pytest.mark.parametrize("shape", [(10,), (6, 6), (1, 4, 6)])
def test_only_square_pictures_can_be_turned(shape: tuple[int, ...]) -> None:
    with pytest.raises(UsageError, match="rotation turns square pictures, and a sample of this data has the form"):
        tasks("rotation", net([4], shape), shape)


@pytest.mark.parametrize("temperature", [0.1, 0.5, 2.0])
def test_nt_xent_as_the_paper_writes_it(temperature: float) -> None:
    z = np.random.default_rng(0).normal(size=(5, 2, 3))
    views = z.reshape(10, 3)
    total = 0.0
    for i in range(10):
        j = i + 1 if i % 2 == 0 else i - 1

        def similar(a: int, b: int) -> float:
            cosine = views[a] @ views[b] / np.linalg.norm(views[a]) / np.linalg.norm(views[b])
            return float(np.exp(cosine / temperature))

        total -= np.log(similar(i, j) / sum(similar(i, k) for k in range(10) if k != i))
    assert float(nt_xent(torch.tensor(z), temperature)) == pytest.approx(total / 10, rel=1e-5)


def test_the_loss_is_least_where_partners_agree_and_others_do_not() -> None:
    apart = torch.eye(4).unsqueeze(1).repeat(1, 2, 1)
    together = torch.ones(4, 2, 4)
    t = 0.5
    best = -1 / t + math.log(math.exp(1 / t) + 6)
    assert float(nt_xent(apart, t)) == pytest.approx(best, rel=1e-5)
    assert float(nt_xent(together, t)) == pytest.approx(math.log(7), rel=1e-5)
    assert float(nt_xent(apart * 9, t)) == pytest.approx(best, rel=1e-5), "length does not count"
    assert float(nt_xent(torch.randn(1, 2, 4), t)) == pytest.approx(0, abs=1e-6)


def test_each_view_is_projected_by_itself() -> None:
    (task,) = tasks({"name": "contrastive", "projection": 6}, net([4], (5,)), (5,))
    x = torch.randn(3, 2, 5)
    projected = task.model(x)
    assert projected.shape == (3, 2, 6) and task.views == 2
    torch.testing.assert_close(task.model(x.flip(1)), projected.flip(1))
    torch.testing.assert_close(task.model(x[1:2])[0], projected[1])
    assert float(task.loss(projected, torch.zeros(3)).detach()) == pytest.approx(
        float(nt_xent(projected, 0.5).detach())
    )
