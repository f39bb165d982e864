from __future__ import annotations

import signal
from collections import OrderedDict

import pytest
import torch
from torch import Tensor, nn

from dnntrain.errors import Interrupted
from dnntrain.training import features
from dnntrain.training.batches import Batches, Examples
from dnntrain.training.features import Features, split

CPU = torch.device("cpu")


class Drawing(nn.Module):
    """Adds noise in training."""

    def forward(self, x: Tensor) -> Tensor:
        return x + torch.randn_like(x) if self.training else x


class Counting(nn.Module):
    """Gives its inputs back and counts how often it was asked."""

    calls: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        return x


class Doubling(nn.Module):
    """Does in training what it does not do in evaluation, and draws nothing."""

    def forward(self, x: Tensor) -> Tensor:
        return 2 * x if self.training else x


def network(**between: nn.Module) -> nn.Sequential:
    layers = OrderedDict(dense1=nn.Linear(3, 4), **between, dense2=nn.Linear(4, 4), output=nn.Linear(4, 2))
    model = nn.Sequential(layers)
    model.dense1.requires_grad_(False)
    model.dense2.requires_grad_(False)
    return model


def heights(model: nn.Sequential, held: tuple[nn.Module, ...] = ()) -> tuple[int, int] | None:
    sample = torch.linspace(-1, 1, 15).reshape(5, 3)
    found = split(model, sample, held=held, precision="fp32")
    return found and (len(found[0]), len(found[1]))


def test_everything_below_what_is_trained_is_cut_off() -> None:
    model = network(activation=nn.ReLU())
    lower, upper = split(model, torch.randn(5, 3), held=(), precision="fp32") or (None, None)
    assert lower is not None and upper is not None
    assert list(dict(lower.named_children())) == ["dense1", "activation", "dense2"]
    assert upper.get_submodule("output") is model.output
    x = torch.randn(7, 3)
    assert torch.equal(upper(lower(x)), model(x))


@pytest.mark.parametrize(
    "layer", [nn.Dropout(0.01), Drawing(), Counting(), Doubling(), nn.BatchNorm1d(4, affine=False)]
)
def test_nothing_random_or_changing_is_cut_off(layer: nn.Module) -> None:
    model = network(between=layer)
    before, noise = {k: v.clone() for k, v in model.state_dict().items()}, torch.get_rng_state()
    assert heights(model) == (1, 3)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert torch.equal(torch.get_rng_state(), noise)
    assert all(module.training for module in model.modules())


def test_a_normalization_that_is_held_does_not_change() -> None:
    norm = nn.BatchNorm1d(4).requires_grad_(False)
    assert heights(network(norm=norm), (norm,)) == (3, 1)
    assert norm.training


def test_a_dropout_that_drops_nothing_is_no_obstacle() -> None:
    assert heights(network(dropout=nn.Dropout(0.0))) == (3, 1)


def test_there_is_nothing_to_cut_off_below_a_first_layer_that_is_trained() -> None:
    model = network()
    model.dense1.requires_grad_(True)
    assert heights(model) is None
    only = nn.Sequential(OrderedDict(flatten=nn.Flatten(), output=nn.Linear(3, 2)))
    assert heights(only) is None, "layers without weights are not worth it"
    assert split(nn.Linear(3, 2), torch.randn(2, 3), held=(), precision="fp32") is None


def part(n: int = 11) -> Examples:
    index = torch.randperm(20, generator=torch.Generator().manual_seed(1))[:n]
    return Examples(torch.randn(20, 3), torch.arange(20), index, nn.Identity(), CPU)


def test_outputs_are_those_of_the_layers_in_any_order() -> None:
    norm = nn.BatchNorm1d(4)
    lower, examples = nn.Sequential(Counting(), nn.Linear(3, 4), norm, nn.Dropout(0.5)), part()
    lower.train()
    made = Features.of(examples, lower, batch_size=4, precision="fp32")
    positions = torch.tensor([3, 0, 10, 3])
    for _ in range(2):
        x, y = made.take(positions)
    raw, targets = examples.take(positions)
    torch.testing.assert_close(x, lower[1](raw) / (1 + norm.eps) ** 0.5)
    assert torch.equal(y, targets)
    assert lower[0].calls == 3, "11 samples, 4 at a time, once"
    assert lower.training and not x.requires_grad
    assert made.size_of(raw) == 16
    assert norm.num_batches_tracked == 0, "neither looking at the size nor computing moves statistics"
    assert type(made.source) is Examples and torch.equal(made.source.index, examples.index)
    assert [len(x) for x, _ in made.slices(6)] == [6, 5]


def test_outputs_have_the_number_format_of_the_pass() -> None:
    made = Features.of(part(), nn.Sequential(nn.Linear(3, 4)), batch_size=4, precision="bf16")
    assert made.outputs.dtype is torch.bfloat16 and made.size_of(torch.randn(2, 3)) == 8


def test_an_interruption_while_outputs_are_computed_takes_no_batch_away(monkeypatch: pytest.MonkeyPatch) -> None:
    lower, examples = nn.Linear(3, 4), part()

    def asked() -> None:
        raise Interrupted(signal.SIGINT)

    batches = Batches(
        Features.of(examples, lower, batch_size=4, precision="fp32"), batch_size=4, generator=torch.Generator()
    )
    before = batches.state_dict()
    with monkeypatch.context() as patch:
        patch.setattr(features.interruption, "check", asked)
        with pytest.raises(Interrupted):
            next(batches.epoch())
    after = batches.state_dict()
    assert torch.equal(before["generator"], after["generator"]) and after["position"] == 0
    assert len(list(batches.epoch())) == 3


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_outputs_are_kept_on_the_device() -> None:
    device = torch.device("cuda")
    lower = nn.Linear(3, 4).to(device)
    examples = part()
    on = Examples(examples.x, examples.y, examples.index, nn.Identity(), device)
    x, y = Features.of(on, lower, batch_size=4, precision="bf16").take(torch.tensor([1, 2]))
    assert (x.device.type, y.device.type, x.dtype) == ("cuda", "cuda", torch.bfloat16)
