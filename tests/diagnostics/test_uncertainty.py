"""Monte Carlo dropout as a network: logits of the mean prediction."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from dnntrain.diagnostics.uncertainty import MonteCarlo, predicted
from dnntrain.errors import UsageError


def network(outputs: int) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Linear(4, 32), nn.BatchNorm1d(32), nn.ReLU(), nn.Dropout(0.5), nn.Linear(32, outputs)
    ).eval()


def test_the_loss_is_that_of_the_mean_probability() -> None:
    model, x, y = network(3), torch.randn(6, 4), torch.tensor([0, 1, 2, 0, 1, 2])
    torch.manual_seed(1)
    outputs = MonteCarlo(model, 20, "classes")(x)
    torch.manual_seed(1)
    model[3].train()
    mean = torch.stack([model(x).softmax(1) for _ in range(20)]).mean(0)
    expected = -mean[torch.arange(6), y].log().mean()
    torch.testing.assert_close(F.cross_entropy(outputs, y), expected)


def test_one_logit_gives_the_log_odds_of_the_mean() -> None:
    model, x = network(1), torch.randn(6, 4)
    torch.manual_seed(1)
    outputs = MonteCarlo(model, 20, "binary")(x)
    torch.manual_seed(1)
    torch.testing.assert_close(outputs.sigmoid(), MonteCarlo(model, 20, "binary").sample(x).mean)


def test_numbers_are_averaged_as_they_are() -> None:
    model, x = network(2), torch.randn(6, 4)
    torch.manual_seed(1)
    outputs = MonteCarlo(model, 5, "values")(x)
    torch.manual_seed(1)
    torch.testing.assert_close(outputs, MonteCarlo(model, 5, "values").sample(x).mean)


def test_batch_norm_is_left_alone_and_modes_come_back() -> None:
    model = network(3)
    before = model[1].running_mean.clone()
    sampled = MonteCarlo(model, 4, "classes").sample(torch.randn(6, 4) + 5)
    assert torch.equal(model[1].running_mean, before)
    assert not any(module.training for module in model.modules())
    assert (sampled.spread > 0).any()


def test_without_dropout_there_is_nothing_to_sample() -> None:
    with pytest.raises(UsageError, match="dropout"):
        MonteCarlo(nn.Linear(4, 2), 5, "classes")(torch.randn(3, 4))


@pytest.mark.parametrize("kind", ["classes", "binary", "values"])
def test_what_is_predicted(kind: str) -> None:
    outputs = torch.tensor([[2.0, 0.0]]) if kind == "classes" else torch.tensor([[2.0]])
    expected = {"classes": outputs.softmax(1), "binary": outputs.sigmoid(), "values": outputs}[kind]
    torch.testing.assert_close(predicted(outputs, kind), expected)
