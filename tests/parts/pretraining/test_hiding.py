"""What is hidden and exchanged: how much, where, and what it costs not to know it."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from pretrainingtasks import asked, draws, net, tasks
from tinynetworks import network

from dnntrain.errors import UsageError
from dnntrain.parts.pretraining.hiding import HIDDEN, Places, Steps, hidden_error

TOKENS = {"name": "gru", "units": 4, "embedding": {"vocabulary": 9, "size": 3, "padding": 0}}


@pytest.mark.parametrize(
    ("shape", "patch", "share", "count"),
    [((2, 8, 12), 4, 0.5, 3), ((1, 4, 4), 2, 0.3, 1), ((7,), 4, 0.5, 4), ((10, 3), 4, 0.25, 2), ((5,), 1, 0.0, 1)],
)
def test_each_sample_has_as_many_places_hidden(shape: tuple[int, ...], patch: int, share: float, count: int) -> None:
    places = Places(shape, patch, share)
    hidden = places.draw(torch.zeros(200, *shape), draws())
    assert hidden.shape == (200, *shape) and hidden.dtype == torch.bool
    if len(shape) == 3:
        cells = hidden.unflatten(3, (-1, patch)).unflatten(2, (-1, patch)).float().mean(dim=(1, 3, 5)).flatten(1)
    else:
        cells = hidden.float().flatten(2).mean(dim=2) if len(shape) == 2 else hidden.float()
    assert set(cells.flatten().tolist()) <= {0.0, 1.0}, "whole places"
    assert (cells.sum(dim=1) == count).all()
    shares = cells.mean(dim=0)
    assert float(shares.min()) > 0.5 * count / cells.shape[1], "every place has its turn"


def test_what_is_hidden_is_zero_and_alone_counts() -> None:
    (task,) = tasks({"name": "masked", "share": 0.4}, net([3], (10,)), (10,))
    x = torch.randn(6, 10) + 3
    inputs, targets = asked(task, x)
    hidden = targets[:, 1].bool()
    assert torch.equal(targets[:, 0], x) and (hidden.sum(dim=1) == 4).all()
    assert not inputs[hidden].any() and torch.equal(inputs[~hidden], x[~hidden])
    outputs = torch.randn(6, 10)
    expected = np.mean([(float(outputs[i, j]) - float(x[i, j])) ** 2 for i, j in hidden.nonzero().tolist()])
    assert float(task.loss(outputs, targets).detach()) == pytest.approx(expected, rel=1e-5)
    outputs[~hidden] += 100
    assert float(hidden_error(outputs, targets)) == pytest.approx(expected, rel=1e-5)


def test_hidden_tokens_are_guessed_and_padding_is_not() -> None:
    (task,) = tasks({"name": "masked", "share": 0.5}, model := network(TOKENS, (6,)), (6,))
    x = torch.tensor([[0.0, 0, 3, 1, 8, 2], [0, 5, 5, 6, 7, 1]]).repeat(10, 1)
    inputs, targets = asked(task, x)
    hidden = inputs == HIDDEN
    assert (hidden.sum(dim=1) == 3).all()
    assert torch.equal(inputs[~hidden], x[~hidden])
    wanted = hidden & (x != 0)
    assert torch.equal(targets[wanted], x[wanted].long()) and (targets[~wanted] == HIDDEN).all()
    logits = task.model(inputs)
    assert logits.shape == (20, 6, 9)
    log_p = torch.log_softmax(logits, dim=-1)
    total = -sum(float(log_p[i, j, int(x[i, j])].detach()) for i, j in wanted.nonzero().tolist())
    assert float(task.loss(logits, targets).detach()) == pytest.approx(total / (20 * 3), rel=1e-5)
    assert isinstance(task.model, Steps)
    # What a hidden token was makes no difference; what is shown does.
    other = x.clone()
    other[hidden] = 4
    again = other.masked_fill(hidden, HIDDEN)
    assert torch.equal(task.model(again), logits)
    changed = inputs.clone()
    changed[:, 0] = torch.where(hidden[:, 0], HIDDEN, 7)
    assert not torch.equal(task.model(changed), logits)
    assert "output" not in dict(task.model.named_children()) and "tokens" in dict(model.named_children())


def test_steps_of_a_sequence_are_filled_in_from_their_own_states() -> None:
    lstm = {"name": "lstm", "units": 5, "layers": 2}
    (task,) = tasks("masked", network(lstm, (7, 3), normalization="layer"), (7, 3))
    x = torch.randn(4, 7, 3)
    inputs, targets = asked(task, x)
    assert isinstance(task.model, Steps)
    outputs = task.model(inputs)
    assert outputs.shape == (4, 7, 3)
    later = inputs.clone()
    later[:, 5:] = 9.0
    torch.testing.assert_close(task.model(later)[:, :5], outputs[:, :5])
    assert {"norm1", "norm2", "last"} <= {name for name, _ in task.model.named_children()}


def test_pictures_are_filled_in_by_layers_of_every_kind() -> None:
    for architecture in (
        {"name": "cnn", "widths": [4]},
        {"name": "vit", "patch": 4, "width": 8, "heads": 2, "layers": 1},
    ):
        (task,) = tasks("masked", network(architecture), (3, 8, 8))
        assert task.model(torch.randn(2, 3, 8, 8)).shape == (2, 3, 8, 8)


@pytest.mark.parametrize("name", ["masked", "max_margin"])
def test_patches_must_come_out_even(name: str) -> None:
    with pytest.raises(UsageError, match=r"pictures of 8 x 12 .* possible: 1, 2, 4"):
        tasks({"name": name, "patch": 3}, net([3], (1, 8, 12)), (1, 8, 12))


@pytest.mark.parametrize("shape", [(10,), (3, 8, 8), (6, 4)])
def test_a_spoilt_sample_has_places_of_one_other_sample(shape: tuple[int, ...]) -> None:
    model: Any = network({"name": "gru", "units": 4}, shape) if len(shape) == 2 else net([3], shape)
    (task,) = tasks({"name": "max_margin", "share": 0.5}, model, shape)
    x = torch.arange(5.0).view(5, *[1] * len(shape)) * 1000 + torch.rand(5, *shape)
    assert all((asked(task, x, seed)[0][:, 1] != x).flatten(1).any(dim=1).all() for seed in range(20)), "never itself"
    pairs, _ = asked(task, x)
    assert pairs.shape == (5, 2, *shape) and torch.equal(pairs[:, 0], x)
    spoilt = pairs[:, 1]
    moved = spoilt != x
    assert float(moved.float().mean()) == pytest.approx(0.5, abs=0.01)
    donors = {
        (int(i), int(v // 1000)) for i, v in zip(moved.nonzero()[:, 0].tolist(), spoilt[moved].tolist(), strict=True)
    }
    assert len(donors) == 5 and all(one != other for one, other in donors)
    for i, donor in donors:
        assert torch.equal(spoilt[i][moved[i]], x[donor][moved[i]]), "at their own places"


def test_the_loss_is_the_hinge_of_the_two_scores() -> None:
    (task,) = tasks({"name": "max_margin", "margin": 0.5}, net([3], (10,)), (10,))
    outputs = torch.tensor([[2.0, 1.0], [1.0, 0.8], [0.0, 1.0]])
    expected = (0 + 0.3 + 1.5) / 3
    assert float(task.loss(outputs, torch.zeros(3)).detach()) == pytest.approx(expected, rel=1e-6)
    metric = task.metrics["ranked_right"]
    assert metric.value(metric.sums(outputs, torch.zeros(3)).double(), 3) == pytest.approx(2 / 3)
    x = torch.randn(4, 2, 10)
    scores = task.model(x)
    for i, j in ((0, 0), (3, 1)):
        torch.testing.assert_close(scores[i, j], task.model(x[i : i + 1, j : j + 1].repeat(1, 2, 1))[0, 0])
    alone = task.loss(task.model(asked(task, torch.randn(1, 10))[0]), torch.zeros(1))
    assert math.isfinite(alone.item()), "a batch of one sample has nobody to take from"
