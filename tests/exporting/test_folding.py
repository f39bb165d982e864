"""Batch normalization as part of the layer before it: the same outputs, and only where nothing else would change."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from tinynetworks import network, small
from torch import Tensor, nn

from dnntrain.exporting import fold_batch_norm
from dnntrain.parts.architectures import architectures


def lived(model: nn.Module) -> nn.Module:
    """Give batch normalizations statistics and weights as training would leave them."""
    draws = torch.Generator().manual_seed(3)
    for each in model.modules():
        if isinstance(each, nn.modules.batchnorm._BatchNorm):
            each.running_mean.normal_(generator=draws)
            each.running_var.uniform_(0.2, 3.0, generator=draws)
            if each.affine:
                with torch.no_grad():
                    each.weight.uniform_(-2.0, 2.0, generator=draws)
                    each.bias.normal_(generator=draws)
    return model.eval()


def norms(model: nn.Module) -> int:
    return sum(isinstance(each, nn.modules.batchnorm._BatchNorm) for each in model.modules())


def largest(model: nn.Module, folded: nn.Module, x: Tensor) -> float:
    with torch.no_grad():
        expected = model(x)
        return float((folded(x) - expected).abs().max() / expected.abs().max().clamp(min=1.0))


BATCH = [{"name": "batch"}, {"name": "batch", "position": "after"}, {"name": "batch", "affine": False}]


@pytest.mark.parametrize("normalization", BATCH, ids=["before", "after", "no-gamma"])
@pytest.mark.parametrize("name", [name for name in architectures.names() if name != "vit"])
def test_every_architecture_gives_the_same(name: str, normalization: dict[str, Any]) -> None:
    model = lived(network(small(name), normalization=normalization))
    state = copy.deepcopy(model.state_dict())
    folded, layers = fold_batch_norm(model)
    assert largest(model, folded, torch.randn(5, 3, 8, 8)) < 1e-5
    assert norms(folded) == norms(model) - layers
    assert all(torch.equal(a, b) for a, b in zip(state.values(), model.state_dict().values(), strict=True))


@pytest.mark.parametrize(
    ("name", "options", "layers", "left"),
    [
        ("mlp", {}, 2, 0),
        ("cnn", {}, 5, 0),
        ("resnet", {}, 7, 0),
        ("resnet", {"shortcut": "projection"}, 9, 0),
        # The first norm of each block, and the last one of all, stand behind a sum.
        ("wide_resnet", {}, 3, 4),
        ("lstm", {}, 0, 2),
    ],
)
def test_what_can_be_folded_is(name: str, options: dict[str, Any], layers: int, left: int) -> None:
    model = lived(network({**small(name), **options}, normalization="batch"))
    folded, count = fold_batch_norm(model)
    assert (count, norms(folded)) == (layers, left)


def test_the_equation() -> None:
    layer, norm = nn.Linear(2, 1), nn.BatchNorm1d(1, eps=0.5)
    with torch.no_grad():
        for tensor, value in (
            (layer.weight, [[3.0, -1.0]]), (layer.bias, [2.0]), (norm.weight, [5.0]), (norm.bias, [7.0]),
            (norm.running_mean, [1.0]), (norm.running_var, [3.5]),
        ):  # fmt: skip
            tensor.copy_(torch.tensor(value))
    folded = fold_batch_norm(nn.Sequential(layer, norm)).model
    # gamma / sqrt(var + eps) = 5 / 2
    assert folded[0].weight.tolist() == [[7.5, -2.5]]
    assert folded[0].bias.tolist() == [7.0 + (2.0 - 1.0) * 2.5]
    assert isinstance(folded[1], nn.Identity)


class Between(nn.Module):
    """A convolution whose outputs two take."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3)

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv(x)
        return self.norm(y) + y


class Twice(Between):
    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.conv(self.conv(x)))


class Read(Between):
    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.conv(x)) * self.conv.weight.mean()


class Doubled(Between):
    def forward(self, x: Tensor) -> Tensor:
        return self.norm(2 * self.conv(x))


class Chooses(nn.Module):
    """Cannot be traced as a whole; its branch can."""

    def __init__(self) -> None:
        super().__init__()
        self.branch = nn.Sequential(nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3))

    def forward(self, x: Tensor) -> Tensor:
        return self.branch(x) if x.mean() > 100 else self.branch(-x)


def tied() -> nn.Module:
    model = nn.Sequential(nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3), nn.Conv2d(3, 3, 1))
    model[2].weight = model[0].weight
    return model


def shared() -> nn.Module:
    layer = nn.Conv2d(3, 3, 1)
    return nn.Sequential(layer, nn.BatchNorm2d(3), layer, nn.BatchNorm2d(3))


def parametrized() -> nn.Module:
    return nn.Sequential(nn.utils.parametrizations.weight_norm(nn.Conv2d(3, 3, 1)), nn.BatchNorm2d(3))


def of_the_batch() -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3, track_running_stats=False))


@pytest.mark.parametrize("make", [Between, Twice, Read, Doubled, tied, shared, parametrized], ids=lambda m: m.__name__)
def test_what_others_use_stays(make: Any) -> None:
    model = lived(make())
    folded, count = fold_batch_norm(model)
    assert count == 0
    assert largest(model, folded, torch.randn(4, 3, 5, 5)) == 0.0


def test_statistics_of_the_batch_stay() -> None:
    model = of_the_batch().eval()
    assert fold_batch_norm(model).layers == 0


def test_pieces_of_what_cannot_be_traced() -> None:
    model = lived(Chooses())
    folded, count = fold_batch_norm(model)
    assert count == 1
    assert largest(model, folded, torch.randn(4, 3, 5, 5)) < 1e-5


def test_groups_and_strides_and_one_dimension() -> None:
    model = lived(
        nn.Sequential(
            nn.Conv1d(4, 8, 3, stride=2, groups=2, bias=False), nn.BatchNorm1d(8), nn.ReLU(), nn.Conv1d(8, 2, 1),
            nn.BatchNorm1d(2),
        )
    )  # fmt: skip
    folded, count = fold_batch_norm(model)
    assert count == 2
    assert largest(model, folded, torch.randn(3, 4, 9)) < 1e-5


def test_networks_of_torchvision_too() -> None:
    from torchvision.models import resnet18

    model = lived(resnet18(num_classes=3))
    folded, count = fold_batch_norm(model)
    assert (count, norms(folded)) == (20, 0)
    assert largest(model, folded, torch.randn(1, 3, 32, 32)) < 1e-5
