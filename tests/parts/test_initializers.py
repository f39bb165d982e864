from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from dnntrain.parts.initializers import Fans, initializers

DRAWS = 1_000_000

# Each row: the variance as the equation states it, written out once more, and the shape of the distribution.
EXPECTED = {
    "glorot_normal": (lambda i, o: 2 / (i + o), "normal"),
    "glorot_uniform": (lambda i, o: 2 / (i + o), "uniform"),
    "he_normal": (lambda i, o: 2 / i, "normal"),
    "he_uniform": (lambda i, o: 2 / i, "uniform"),
    "lecun_normal": (lambda i, o: 1 / i, "normal"),
    "lecun_uniform": (lambda i, o: 1 / i, "uniform"),
}


def draw(name: str, fans: Fans, shape: tuple[int, ...], seed: int = 1) -> Tensor:
    weight = torch.full(shape, math.nan)
    initializers.choose(name).build(weight=weight, fans=fans, generator=torch.Generator().manual_seed(seed))
    return weight


def test_every_initializer_has_a_row() -> None:
    assert set(EXPECTED) == set(initializers.names())


@pytest.mark.parametrize(("fan_in", "fan_out"), [(1000, 1000), (2000, 500), (500, 2000)])
@pytest.mark.parametrize("name", EXPECTED)
def test_draws_have_the_stated_distribution(name: str, fan_in: int, fan_out: int) -> None:
    variance_of, kind = EXPECTED[name]
    variance = variance_of(fan_in, fan_out)
    draws = draw(name, Fans(fan_in, fan_out), (fan_out, fan_in)).double().flatten()
    assert len(draws) == DRAWS

    # Five standard errors of the estimates from a million draws; the kurtosis is 3 for a normal and 9/5 for a uniform
    # distribution, which decides the error of the variance.
    kurtosis = 3.0 if kind == "normal" else 1.8
    assert abs(draws.mean()) < 5 * math.sqrt(variance / DRAWS)
    assert draws.var() == pytest.approx(variance, rel=5 * math.sqrt((kurtosis - 1) / DRAWS))
    assert (draws**4).mean() / draws.var() ** 2 == pytest.approx(kurtosis, abs=0.05)
    largest = draws.abs().max().item()
    if kind == "uniform":
        limit = math.sqrt(3 * variance)
        assert 0.9999 * limit < largest <= limit * (1 + 1e-6)
    else:
        assert largest > 4 * math.sqrt(variance), "a plain normal distribution is not cut off"


@pytest.mark.parametrize("name", EXPECTED)
def test_fans_count_and_not_the_shape(name: str) -> None:
    variance = EXPECTED[name][0](288, 576)
    assert draw(name, Fans(288, 576), (64, 32, 9, 9)).var() == pytest.approx(variance, rel=0.03)


@pytest.mark.parametrize("name", EXPECTED)
def test_draws_come_from_the_given_generator_alone(name: str) -> None:
    fans, before = Fans(7, 5), torch.get_rng_state()
    first, again, other = (draw(name, fans, (5, 7), seed) for seed in (1, 1, 2))
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(123)
    assert torch.equal(first, again)
    assert torch.equal(first, draw(name, fans, (5, 7), 1)), "the global generator has a say"
    assert not torch.equal(first, other)


@pytest.mark.parametrize("name", EXPECTED)
def test_a_parameter_is_filled_in_place_without_a_graph(name: str) -> None:
    layer = torch.nn.Linear(4, 3)
    weight, generator = layer.weight, torch.Generator().manual_seed(0)
    address = weight.data_ptr()
    initializers.choose(name).build(weight=weight, fans=Fans(4, 3), generator=generator)
    assert weight.data_ptr() == address
    assert weight.is_leaf
    first = weight.clone()
    initializers.choose(name).build(weight=weight, fans=Fans(4, 3), generator=generator)
    assert not torch.equal(first, weight), "a second layer gets the same weights"
