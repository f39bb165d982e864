from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor, nn

from dnntrain.parts.initializers import CUT_DEVIATION, Fans, fans_of, initializers

DRAWS = 1_000_000

# What a normal distribution cut at two deviations is left with, from its density: 1 - 2 c phi(c) / (2 Phi(c) - 1).
_DENSITY = math.exp(-2) / math.sqrt(2 * math.pi)
CUT_VARIANCE = 1 - 4 * _DENSITY / math.erf(math.sqrt(2))
# Its fourth moment by parts: E x^4 = 3 E x^2 - 2 c^3 phi(c) / (2 Phi(c) - 1).
CUT_KURTOSIS = (3 * CUT_VARIANCE - 16 * _DENSITY / math.erf(math.sqrt(2))) / CUT_VARIANCE**2
KURTOSIS = {"normal": 3.0, "uniform": 1.8, "truncated_normal": CUT_KURTOSIS}

# Each row: what a file writes, the mean and the variance as the equation states them, written out once more, and the
# shape of the distribution.
SCALED: list[tuple[Any, Any, str]] = [
    ("glorot_normal", lambda i, o: 2 / (i + o), "normal"),
    ("glorot_uniform", lambda i, o: 2 / (i + o), "uniform"),
    ("he_normal", lambda i, o: 2 / i, "normal"),
    ("he_uniform", lambda i, o: 2 / i, "uniform"),
    ("lecun_normal", lambda i, o: 1 / i, "normal"),
    ("lecun_uniform", lambda i, o: 1 / i, "uniform"),
    ("variance_scaling", lambda i, o: 1 / i, "truncated_normal"),
    *(
        (
            {"name": "variance_scaling", "scale": 3.0, "mode": mode, "distribution": distribution},
            variance,
            distribution,
        )
        for mode, variance in (
            ("fan_in", lambda i, o: 3 / i),
            ("fan_out", lambda i, o: 3 / o),
            ("fan_avg", lambda i, o: 6 / (i + o)),
        )
        for distribution in KURTOSIS
    ),
    ("normal", lambda i, o: 1.0, "normal"),
    ({"name": "normal", "std": 0.05}, lambda i, o: 0.05**2, "normal"),
    ({"name": "uniform", "low": -0.05, "high": 0.05}, lambda i, o: 0.1**2 / 12, "uniform"),
    ({"name": "truncated_normal", "std": 0.02}, lambda i, o: CUT_VARIANCE * 0.02**2, "truncated_normal"),
]
RANDOM = [*(row[0] for row in SCALED), "orthogonal"]
FIXED = {"zeros", "constant"}


def written_name(written: Any) -> str:
    return written if isinstance(written, str) else str(written["name"])


def fill(written: Any, weight: Tensor, fans: Fans, seed: int = 1) -> Tensor:
    initializers.choose(written).build(weight=weight, fans=fans, generator=torch.Generator().manual_seed(seed))
    return weight


def draw(written: Any, fans: Fans, shape: tuple[int, ...], seed: int = 1) -> Tensor:
    return fill(written, torch.full(shape, math.nan), fans, seed)


def test_every_initializer_has_a_row() -> None:
    assert {written_name(each) for each in RANDOM} | FIXED == set(initializers.names())


@pytest.mark.parametrize(
    ("shape", "fans"),
    [
        ((500, 2000), Fans(2000, 500)),
        ((2000, 500), Fans(500, 2000)),
        ((400, 100, 5, 5), Fans(2500, 10_000)),
    ],
    ids=["dense-narrowing", "dense-widening", "conv"],
)
@pytest.mark.parametrize(("written", "variance_of", "kind"), SCALED, ids=[str(row[0]) for row in SCALED])
def test_draws_have_the_stated_distribution(
    written: Any, variance_of: Any, kind: str, shape: tuple[int, ...], fans: Fans
) -> None:
    variance = variance_of(fans.fan_in, fans.fan_out)
    draws = draw(written, fans, shape).double().flatten()
    assert len(draws) == DRAWS

    # Five standard errors of the estimates from a million draws; the kurtosis decides the error of the variance.
    kurtosis = KURTOSIS[kind]
    assert abs(draws.mean()) < 5 * math.sqrt(variance / DRAWS)
    assert draws.var() == pytest.approx(variance, rel=5 * math.sqrt((kurtosis - 1) / DRAWS))
    assert (draws**4).mean() / draws.var() ** 2 == pytest.approx(kurtosis, abs=0.05)
    if kind == "normal":
        assert draws.abs().max() > 4 * math.sqrt(variance), "a plain normal distribution is not cut off"
        return
    limit = math.sqrt(3 * variance) if kind == "uniform" else 2 * math.sqrt(variance / CUT_VARIANCE)
    for end in (draws.max().item(), -draws.min().item()):
        assert 0.9999 * limit < end <= limit * (1 + 1e-6)


def test_the_constant_of_the_truncated_form_follows_from_the_density() -> None:
    assert CUT_DEVIATION == pytest.approx(math.sqrt(CUT_VARIANCE), rel=1e-14)


def test_uniform_may_lie_anywhere() -> None:
    draws = draw({"name": "uniform", "low": 2, "high": 5}, Fans(1, 1), (1000, 1000)).double()
    assert draws.mean().item() == pytest.approx(3.5, abs=5 * math.sqrt(0.75 / DRAWS))
    assert draws.var().item() == pytest.approx(0.75, rel=0.01)
    assert 2 <= draws.min() < 2.0001
    assert 4.9999 < draws.max() <= 5


@pytest.mark.parametrize("high", [0.1, 0.05])
def test_an_interval_that_is_none_is_refused(high: float) -> None:
    with pytest.raises(ValidationError, match=rf"low is 0\.1 and high {high}"):
        initializers.choose({"name": "uniform", "low": 0.1, "high": high})


@pytest.mark.parametrize("shape", [(60, 60), (30, 80), (80, 30), (20, 6, 3, 3), (60, 2, 5)])
@pytest.mark.parametrize("gain", [1.0, 1.5])
def test_orthogonal_rows_or_columns_have_the_length_of_the_gain(shape: tuple[int, ...], gain: float) -> None:
    weight = draw({"name": "orthogonal", "gain": gain}, Fans(7, 5), shape)
    matrix = weight.double().flatten(1)
    fewer = matrix if matrix.shape[0] <= matrix.shape[1] else matrix.T
    torch.testing.assert_close(fewer @ fewer.T, gain**2 * torch.eye(len(fewer), dtype=torch.float64), atol=1e-5, rtol=0)
    assert (matrix**2).mean().item() == pytest.approx(gain**2 / max(matrix.shape), rel=1e-5)


def test_orthogonal_matrices_are_drawn_evenly() -> None:
    # For a rotation-invariant draw, every entry of a 3 x 3 matrix has mean 0, variance 1 / 3 and fourth moment 3 / 15,
    # the trace has mean 0 and variance 1. Without its signs turned, the diagonal of Q would lean to one side.
    generator = torch.Generator().manual_seed(0)
    choice, weight = initializers.choose("orthogonal"), torch.empty(3, 3)
    draws = torch.empty(4000, 3, 3)
    for each in draws:
        choice.build(weight=weight, fans=Fans(3, 3), generator=generator)
        each.copy_(weight)
    assert draws.mean(0).abs().max() < 5 * math.sqrt(1 / 3 / 4000)
    torch.testing.assert_close((draws**2).mean(0), torch.full((3, 3), 1 / 3), atol=0.03, rtol=0)
    torch.testing.assert_close((draws**4).mean(0), torch.full((3, 3), 1 / 5), atol=0.03, rtol=0)
    trace = draws.diagonal(dim1=1, dim2=2).sum(1)
    assert trace.mean().item() == pytest.approx(0, abs=5 / math.sqrt(4000))
    assert trace.var().item() == pytest.approx(1, abs=0.15)


def test_fixed_initializers_are_fixed() -> None:
    assert not draw("zeros", Fans(3, 2), (2, 3)).any()
    assert torch.equal(draw({"name": "constant", "value": -0.3}, Fans(3, 2), (2, 3)), torch.full((2, 3), -0.3))


@pytest.mark.parametrize("written", [row[0] for row in SCALED], ids=str)
def test_fans_count_and_not_the_shape(written: Any) -> None:
    variance = next(row[1] for row in SCALED if row[0] == written)(288, 576)
    assert draw(written, Fans(288, 576), (64, 32, 9, 9)).var() == pytest.approx(variance, rel=0.03)


@pytest.mark.parametrize("written", RANDOM, ids=str)
def test_draws_come_from_the_given_generator_alone(written: Any) -> None:
    fans, before = Fans(7, 5), torch.get_rng_state()
    first, again, other = (draw(written, fans, (5, 7), seed) for seed in (1, 1, 2))
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(123)
    assert torch.equal(first, again)
    assert torch.equal(first, draw(written, fans, (5, 7), 1)), "the global generator has a say"
    assert not torch.equal(first, other)


@pytest.mark.parametrize("entry", list(initializers), ids=lambda entry: entry.name)
def test_a_parameter_is_filled_in_place_without_a_graph(entry: Any) -> None:
    weight, generator = torch.nn.Linear(4, 3).weight, torch.Generator().manual_seed(0)
    address = weight.data_ptr()
    choice = initializers.choose(entry.example)
    choice.build(weight=weight, fans=Fans(4, 3), generator=generator)
    assert weight.data_ptr() == address
    assert weight.is_leaf
    assert weight.requires_grad
    first = weight.clone()
    choice.build(weight=weight, fans=Fans(4, 3), generator=generator)
    assert torch.equal(first, weight) == (entry.name in FIXED), "a second layer gets the same weights"


@pytest.mark.parametrize("entry", list(initializers), ids=lambda entry: entry.name)
@pytest.mark.parametrize("shape", [(6, 4), (6, 4, 3), (6, 4, 3, 3)])
def test_every_weight_of_any_layer_is_filled(entry: Any, shape: tuple[int, ...]) -> None:
    assert draw(entry.example, fans_of(shape, "conv"), shape).isfinite().all()


@pytest.mark.parametrize(
    ("layer", "kind", "expected"),
    [
        (nn.Linear(7, 5), "dense", Fans(7, 5)),
        (nn.Conv2d(8, 12, (3, 5)), "conv", Fans(8 * 15, 12 * 15)),
        (nn.Conv2d(8, 12, 3, stride=2), "conv", Fans(8 * 9, 12 * 9)),
        (nn.Conv1d(6, 4, 5), "conv", Fans(6 * 5, 4 * 5)),
    ],
    ids=lambda value: str(value),
)
def test_fans_are_the_connections_of_a_layer(layer: nn.Linear | nn.Conv1d, kind: Any, expected: Fans) -> None:
    fans = fans_of(layer.weight.shape, kind)
    assert fans == expected
    assert layer.bias is not None
    # With all weights one, an output counts the inputs it adds up, and the gradient of an input the outputs it went to.
    # Border and stride cut connections off, so the middle of a large input counts them, at stride 1.
    if isinstance(layer, nn.Linear):
        x = torch.ones(1, 7, requires_grad=True)
        middle: tuple[int, ...] = ()
    else:
        layer.stride = (1,) * len(layer.kernel_size)
        x = torch.ones(1, layer.in_channels, *(15,) * len(layer.kernel_size), requires_grad=True)
        middle = (7,) * len(layer.kernel_size)
    layer.weight.data.fill_(1.0)
    layer.bias.data.zero_()
    out = layer(x)
    out.sum().backward()
    assert x.grad is not None
    assert out.max() == fans.fan_in
    assert x.grad[(0, 0, *middle)] == fans.fan_out


@pytest.mark.parametrize(("cell", "gates"), [(nn.RNN, 1), (nn.GRU, 3), (nn.LSTM, 4)])
def test_each_gate_of_a_recurrent_layer_is_a_matrix_of_its_own(cell: type[nn.RNNBase], gates: int) -> None:
    layer: Any = cell(6, 5)
    assert fans_of(layer.weight_ih_l0.shape, "stacked", matrices=gates) == Fans(6, 5)
    assert fans_of(layer.weight_hh_l0.shape, "stacked", matrices=gates) == Fans(5, 5)


@pytest.mark.parametrize("words", [10, 100_000])
def test_an_embedding_keeps_variance_one_for_any_vocabulary(words: int) -> None:
    shape = nn.Embedding(words, 20, device="meta").weight.shape
    fans = fans_of(shape, "embedding")
    assert fans == Fans(1, 20)
    rows = draw("lecun_normal", fans, tuple(shape))[torch.randint(words, (1000,))]
    assert rows.var().item() == pytest.approx(1, abs=0.35 if words == 10 else 0.05)
