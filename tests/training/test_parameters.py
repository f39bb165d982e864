from __future__ import annotations

import pytest
import torch
from tinyparts import make_mlp
from torch import nn

from dnntrain.training.parameters import FlatParameters, Parameters, TensorParameters


class Network(nn.Module):
    """A convolution in channels_last, a scalar, and a layer that takes no part in the loss."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3).to(memory_format=torch.channels_last)
        self.scale = nn.Parameter(torch.tensor(1.5))
        self.dense = nn.Linear(4, 2)
        self.unused = nn.Linear(3, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.dense(self.scale * self.conv(x).mean(dim=(2, 3)))


def network() -> Network:
    torch.manual_seed(1)
    return Network()


def split(model: nn.Module) -> list[dict[str, object]]:
    kernels = [p for p in model.parameters() if p.ndim > 1]
    rest = [p for p in model.parameters() if p.ndim <= 1]
    return [{"params": kernels, "weight_decay": 0.1}, {"params": rest}]


def backward(model: nn.Module, parameters: Parameters) -> None:
    parameters.clear()
    x = torch.randn(5, 3, 6, 6, generator=torch.Generator().manual_seed(2))
    model(x).square().sum().backward()
    parameters.collect()


def test_moving_into_one_buffer_changes_no_value_and_no_layout() -> None:
    before, model = network(), network()
    x = torch.randn(2, 3, 6, 6)
    parameters = FlatParameters(split(model))
    for (name, ours), theirs in zip(model.named_parameters(), before.parameters(), strict=True):
        assert torch.equal(ours, theirs), name
        assert ours.stride() == theirs.stride(), name
    assert model.conv.weight.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(model(x), before(x))
    storages = {p.untyped_storage().data_ptr() for p in model.parameters()}
    assert storages == {group["params"][0].untyped_storage().data_ptr() for group in parameters.groups}


def test_groups_keep_their_options_and_share_out_every_parameter() -> None:
    model = network()
    parameters = FlatParameters(split(model))
    kernels, rest = parameters.groups
    assert kernels["weight_decay"] == 0.1
    assert "weight_decay" not in rest
    sizes = [group["params"][0].numel() for group in parameters.groups]
    assert sizes == [sum(p.numel() for p in group["params"]) for group in split(network())]


def test_an_update_of_the_buffer_shows_in_the_model_and_the_reverse() -> None:
    model = network()
    parameters = FlatParameters(split(model))
    with torch.no_grad():
        for group in parameters.groups:
            group["params"][0].fill_(0.25)
    assert all((p == 0.25).all() for p in model.parameters())
    with torch.no_grad():
        model.scale.fill_(7.0)
    assert (parameters.groups[1]["params"][0] == 7.0).sum() == 1


def test_loading_weights_keeps_the_views() -> None:
    model, other = network(), network()
    with torch.no_grad():
        for p in other.parameters():
            p.add_(1.0)
    parameters = FlatParameters(split(model))
    model.load_state_dict(other.state_dict())
    with torch.no_grad():
        for group in parameters.groups:
            group["params"][0].mul_(2.0)
    for ours, theirs in zip(model.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(ours, 2 * theirs)


def test_gradients_are_those_of_each_tensor() -> None:
    plain, model = network(), network()
    single, flat = TensorParameters(split(plain)), FlatParameters(split(model))
    for _ in range(2):  # the second time the buffer holds old gradients
        backward(plain, single)
        backward(model, flat)
    for p, view, theirs in zip(flat.tensors, flat.gradients_by_tensor, single.tensors, strict=True):
        expected = torch.zeros_like(p) if theirs.grad is None else theirs.grad
        assert torch.equal(view, expected)
    assert (model.unused.weight.grad, plain.unused.weight.grad) == (None, None)
    torch.testing.assert_close(flat.norm(), single.norm())
    total = sum(p.grad.double().square().sum() for p in plain.parameters() if p.grad is not None)
    assert flat.norm().item() == pytest.approx(total.sqrt().item(), rel=1e-6)


def test_a_parameter_without_a_part_in_the_loss_stays() -> None:
    model = network()
    parameters = FlatParameters([{"params": list(model.parameters())}])
    optimizer = torch.optim.SGD(parameters.groups, lr=0.1)
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    backward(model, parameters)
    optimizer.step()
    for name, p in model.named_parameters():
        assert torch.equal(p, before[name]) == name.startswith("unused"), name


@pytest.mark.parametrize("kind", [FlatParameters, TensorParameters])
def test_norms_by_tensor_are_those_of_each_and_make_up_no_gradient(kind: type[Parameters]) -> None:
    model = network()
    parameters = kind(split(model))
    backward(model, parameters)
    norms = parameters.norms()
    for p, norm in zip(parameters.tensors, norms, strict=True):
        assert norm.item() == pytest.approx(0.0 if p.grad is None else p.grad.norm().item(), rel=1e-6)
    assert norms[-1] == 0
    assert norms.norm().item() == pytest.approx(parameters.norm().item(), rel=1e-6)
    assert model.unused.weight.grad is None


def test_decay_does_not_reach_a_parameter_without_a_gradient() -> None:
    model = network()
    parameters = TensorParameters([{"params": list(model.parameters())}])
    optimizer = torch.optim.AdamW(parameters.groups, weight_decay=0.5)
    before = model.unused.weight.detach().clone()
    backward(model, parameters)
    parameters.norms()
    optimizer.step()
    assert torch.equal(model.unused.weight, before)


def test_a_gradient_of_another_layout_lands_in_its_place() -> None:
    model = network()
    parameters = FlatParameters([{"params": list(model.parameters())}])
    values = torch.randn(4, 3, 3, 3)
    model.conv.weight.grad = values  # contiguous, where the weight is channels_last
    parameters.collect()
    views = dict(zip((id(p) for p in parameters.tensors), parameters.gradients_by_tensor, strict=True))
    assert torch.equal(views[id(model.conv.weight)], values)
    assert parameters.norm().item() == pytest.approx(values.norm().item())


def test_clearing_forgets_the_last_gradients() -> None:
    model = network()
    for parameters in (FlatParameters(split(model)), TensorParameters(split(model))):
        backward(model, parameters)
        parameters.clear()
        assert all(p.grad is None for p in model.parameters())
        parameters.collect()
        assert all((g == 0).all() for g in parameters.gradients)


def test_frozen_parameters_are_left_where_they_are() -> None:
    model = make_mlp()
    model.dense1.weight.requires_grad_(False)
    frozen = model.dense1.weight.data_ptr()
    parameters = FlatParameters([{"params": [p for p in model.parameters() if p.requires_grad]}])
    assert model.dense1.weight.data_ptr() == frozen
    assert sum(g["params"][0].numel() for g in parameters.groups) == sum(p.numel() for p in model.parameters()) - 30


def test_what_cannot_be_one_piece_is_refused() -> None:
    single, double = nn.Parameter(torch.zeros(3)), nn.Parameter(torch.zeros(3, dtype=torch.float64))
    with pytest.raises(ValueError, match="share one type and one device"):
        FlatParameters([{"params": [single, double]}])
    with pytest.raises(ValueError, match="share one type and one device"):
        FlatParameters([{"params": [single, nn.Parameter(torch.zeros(3, device="meta"))]}])
    with pytest.raises(ValueError, match="dense"):
        FlatParameters([{"params": [nn.Parameter(torch.zeros(1).expand(3))]}])
    with pytest.raises(ValueError, match="dense"):
        FlatParameters([{"params": [nn.Parameter(torch.zeros(4, 4)[:, :2])]}])
