from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from tinyparts import make_mlp
from torch import Tensor, nn

from dnntrain.errors import UsageError
from dnntrain.parts.dropouts import DropoutLayer, dropouts, mc_mode, mc_predict

COUNT = 1_000_000
LOWER_BOUND = -1.0507009873554805 * 1.6732632423543772  # of selu


ON_PICTURES = {"spatial"}
ON_FEATURES = [name for name in dropouts.names() if name not in ON_PICTURES]


def layer(name: str, rate: float, dims: int = 0) -> nn.Module:
    made: nn.Module = dropouts.choose({"name": name, "rate": rate}).build().make(dims)
    return made


def fitting(entry: Any) -> tuple[nn.Module, Tensor]:
    """Return a dropout as its example has it, and inputs that it can be given."""
    dims = 2 if entry.name in ON_PICTURES else 0
    z = normal()[:3600].reshape(100, 36) if dims == 0 else normal()[:3600].reshape(10, 40, 3, 3)
    return dropouts.choose(entry.example).build().make(dims), z


def normal() -> Tensor:
    return torch.randn(COUNT, dtype=torch.float64, generator=torch.Generator().manual_seed(11))


@pytest.mark.parametrize("rate", [0.0, 0.1, 0.5, 0.9])
def test_dropout_silences_at_its_rate_and_scales_the_rest(rate: float) -> None:
    z = normal() + 2.0
    outputs = layer("dropout", rate)(z)
    silent = outputs == 0
    assert silent.double().mean().item() == pytest.approx(rate, abs=5 * math.sqrt(0.25 / COUNT))
    torch.testing.assert_close(outputs[~silent], z[~silent] / (1 - rate), rtol=1e-12, atol=0)
    assert outputs.mean().item() == pytest.approx(2.0, abs=0.05)


@pytest.mark.parametrize("rate", [0.05, 0.1, 0.3])
def test_alpha_dropout_keeps_mean_and_variance_of_selu(rate: float) -> None:
    z = torch.nn.functional.selu(normal())
    outputs = layer("alpha", rate)(z)
    assert outputs.mean().item() == pytest.approx(0.0, abs=1e-2)
    assert outputs.var().item() == pytest.approx(1.0, abs=1.5e-2)

    # z is kept or becomes the lower bound; then a z + b with a and b from the paper (equation 8 and following).
    keep = 1 - rate
    a = 1 / math.sqrt(keep + LOWER_BOUND**2 * keep * rate)
    b = -a * rate * LOWER_BOUND
    silent = torch.isclose(outputs, torch.full_like(outputs, a * LOWER_BOUND + b), rtol=0, atol=1e-9)
    assert silent.double().mean().item() == pytest.approx(rate, abs=5 * math.sqrt(0.25 / COUNT))
    np.testing.assert_allclose(outputs[~silent].numpy(), (a * z[~silent] + b).numpy(), rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("rate", [0.1, 0.5, 0.8])
def test_gaussian_dropout_multiplies_by_noise_of_dropouts_variance(rate: float) -> None:
    z = normal() + 3.0
    noise = layer("gaussian", rate)(z) / z
    variance = rate / (1 - rate)
    assert noise.mean().item() == pytest.approx(1.0, abs=5 * math.sqrt(variance / COUNT))
    assert noise.var().item() == pytest.approx(variance, rel=5 * math.sqrt(2 / COUNT))
    standard = (noise - 1) / math.sqrt(variance)
    assert (standard**4).mean().item() == pytest.approx(3.0, abs=0.06)
    # The noise of dropout has the same two moments.
    bernoulli = layer("dropout", rate)(torch.ones(COUNT, dtype=torch.float64))
    assert bernoulli.var().item() == pytest.approx(variance, rel=0.02)


def test_gaussian_dropout_at_rate_zero_changes_nothing() -> None:
    assert torch.equal(layer("gaussian", 0.0)(normal()), normal())


def test_gaussian_noise_scales_the_gradient_too() -> None:
    z = (normal()[:100] + 3.0).requires_grad_()
    outputs = layer("gaussian", 0.3)(z)
    outputs.sum().backward()
    torch.testing.assert_close(z.grad, (outputs / z).detach())


@pytest.mark.parametrize("shape", [(1000, 200, 5), (1000, 200, 5, 3)])
@pytest.mark.parametrize("rate", [0.0, 0.2, 0.5])
def test_spatial_dropout_silences_whole_channels(rate: float, shape: tuple[int, ...]) -> None:
    z = torch.rand(shape) + 0.5
    outputs = layer("spatial", rate, len(shape) - 2)(z)
    silent = (outputs == 0).flatten(2)
    assert torch.equal(silent.all(2), silent.any(2)), "a channel is silent in part"
    by_channel = silent.all(2)
    assert by_channel.double().mean().item() == pytest.approx(rate, abs=5 * math.sqrt(0.25 / by_channel.numel()))
    assert by_channel.double().mean(1).std().item() == pytest.approx(math.sqrt(rate * (1 - rate) / 200), rel=0.15)
    loud = ~by_channel
    torch.testing.assert_close(outputs[loud], z[loud] / (1 - rate))


def test_spatial_dropout_cannot_follow_a_dense_layer() -> None:
    with pytest.raises(UsageError, match="a dense layer has none; use dropout"):
        make_mlp(dropout=({"name": "spatial", "rate": 0.2},))


@pytest.mark.parametrize("entry", list(dropouts), ids=lambda entry: entry.name)
def test_nothing_happens_in_evaluation(entry: Any) -> None:
    (drop, z), before = fitting(entry), torch.get_rng_state()
    assert torch.equal(drop.eval()(z), z)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("entry", list(dropouts), ids=lambda entry: entry.name)
def test_noise_is_the_global_generators(entry: Any) -> None:
    drop, z = fitting(entry)
    outputs = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        outputs.append(drop(z))
    assert torch.equal(outputs[0], outputs[1])
    assert not torch.equal(outputs[0], outputs[2])
    assert outputs[0].shape == z.shape


@pytest.mark.parametrize(
    ("layers", "expected"),
    [
        ("all", ["input_dropout", "dropout1", "dropout2", "dropout3"]),
        ("hidden", ["dropout1", "dropout2", "dropout3"]),
        ("input", ["input_dropout"]),
        ("last", ["dropout3"]),
    ],
)
@pytest.mark.parametrize("name", ON_FEATURES)
def test_layers_say_where_they_stand(name: str, layers: str, expected: list[str]) -> None:
    model = make_mlp(hidden=(4, 4, 4), dropout=({"name": name, "rate": 0.2, "layers": layers},))
    names = list(dict(model.named_children()))
    assert [each for each in names if "dropout" in each] == expected
    for each in expected:
        behind = "flatten" if each == "input_dropout" else f"activation{each[-1]}"
        assert names.index(each) == names.index(behind) + 1


def test_the_default_is_after_every_hidden_layer() -> None:
    assert dropouts.choose({"name": "dropout", "rate": 0.2}).build().layers == "hidden"


def test_several_dropouts_stand_side_by_side() -> None:
    model = make_mlp(
        dropout=(
            {"name": "dropout", "rate": 0.1, "layers": "all"},
            {"name": "alpha", "rate": 0.2, "layers": "last"},
            {"name": "dropout", "rate": 0.3, "layers": "input"},
        )
    )
    found = {name: module.p for name, module in model.named_children() if "dropout" in name}
    assert found == {"input_dropout": 0.1, "input_dropout_2": 0.3, "dropout1": 0.1, "dropout2": 0.1, "dropout2_2": 0.2}


def test_mc_mode_wakes_dropout_alone_and_puts_everything_back() -> None:
    class Own(DropoutLayer):
        pass

    model = nn.Sequential(
        nn.BatchNorm1d(4),
        nn.RReLU(),
        *(layer(name, 0.5) for name in ON_FEATURES),
        layer("spatial", 0.5, 1),
        layer("spatial", 0.5, 2),
        Own(),
        nn.LSTM(4, 4, num_layers=2, dropout=0.1),
        nn.LSTM(4, 4),
        nn.MultiheadAttention(4, 2, dropout=0.1),
        nn.MultiheadAttention(4, 2),
    )
    awake = len(ON_FEATURES) + 3
    expected = [False, False, *[True] * awake, True, False, True, False]
    model.train()
    model[0].eval()
    before = [module.training for module in model.modules()]
    with mc_mode(model):
        assert [module.training for module in model] == expected
        assert not model.training
    assert [module.training for module in model.modules()] == before

    model.eval()
    with pytest.raises(KeyError), mc_mode(model):
        raise KeyError
    assert not any(module.training for module in model.modules())


@pytest.mark.parametrize("entry", list(dropouts), ids=lambda entry: entry.name)
def test_every_dropout_is_found_by_mc_mode(entry: Any) -> None:
    drop, z = fitting(entry)
    model = nn.Sequential(drop).eval()
    with mc_mode(model):
        assert not torch.equal(model(z), model(z))
    assert torch.equal(model(z), z)


def network() -> nn.Sequential:
    return make_mlp(
        (6,), 3, (40, 40), normalization="batch", activation="rrelu", dropout=({"name": "dropout", "rate": 0.4},)
    )


@pytest.mark.parametrize("samples", [1, 2, 7])
def test_mc_prediction_is_the_mean_and_the_spread_of_its_samples(samples: int) -> None:
    model, x = network().double(), torch.randn(11, 6, dtype=torch.float64)
    state = {name: value.clone() for name, value in model.state_dict().items()}

    model.eval()
    for module in model:
        if isinstance(module, nn.Dropout):
            module.train()
    torch.manual_seed(5)
    with torch.no_grad():
        each = np.stack([np.exp(logits - logits.max()) for logits in (model(x).numpy() for _ in range(samples))])
    each /= each.sum(axis=2, keepdims=True)

    model.train()
    torch.manual_seed(5)
    sampled = mc_predict(model, x, samples=samples)
    np.testing.assert_allclose(sampled.mean.numpy(), each.mean(axis=0), rtol=1e-5)
    np.testing.assert_allclose(sampled.spread.numpy(), each.std(axis=0), rtol=1e-4, atol=1e-7)
    assert (sampled.spread > 0.005).any() == (samples > 1)
    assert all(torch.equal(model.state_dict()[name], value) for name, value in state.items()), "statistics moved"
    assert model.training
    assert not sampled.mean.requires_grad


def test_mc_samples_of_other_outputs() -> None:
    model, x = network(), torch.randn(5, 6)
    torch.manual_seed(1)
    sampled = mc_predict(model, x, samples=3, probabilities=lambda outputs: outputs)
    torch.manual_seed(1)
    with mc_mode(model), torch.no_grad():
        each = torch.stack([model(x) for _ in range(3)])
    torch.testing.assert_close(sampled.mean, each.mean(0))
    torch.testing.assert_close(sampled.spread, each.std(0, correction=0))


def test_a_small_spread_is_not_lost_to_rounding() -> None:
    class Shifting(DropoutLayer):
        def forward(self, z: Tensor) -> Tensor:
            return 1000.0 + 0.01 * torch.randn_like(z)

    model = nn.Sequential(Shifting())
    sampled = mc_predict(model, torch.zeros(400, 1), samples=50, probabilities=lambda outputs: outputs)
    assert sampled.spread.mean().item() == pytest.approx(0.01, rel=0.05)


def test_mc_prediction_without_anything_to_sample_says_so() -> None:
    with pytest.raises(UsageError, match="this one has none"):
        mc_predict(make_mlp(), torch.randn(2, 6), samples=10)
    with pytest.raises(UsageError, match="one sample or more, not 0"):
        mc_predict(network(), torch.randn(2, 6), samples=0)


@pytest.mark.parametrize("name", ["alpha", "dropout", "gaussian"])
def test_dropout_at_a_rate_of_zero_is_nothing_to_sample(name: str) -> None:
    silent = nn.Sequential(nn.Linear(6, 4), layer(name, 0.0))
    with pytest.raises(UsageError, match="none with a rate above 0"):
        mc_predict(silent, torch.randn(2, 6), samples=10)
    assert mc_predict(silent.append(layer(name, 0.1)), torch.randn(2, 6), samples=10).spread.max() > 0
