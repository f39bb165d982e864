from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from tinyparts import make_mlp
from torch import Tensor, nn

from dnntrain.parts.dropouts import dropouts

COUNT = 1_000_000
LOWER_BOUND = -1.0507009873554805 * 1.6732632423543772  # of selu


def layer(name: str, rate: float) -> nn.Module:
    made: nn.Module = dropouts.choose({"name": name, "rate": rate}).build().make(0)
    return made


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


@pytest.mark.parametrize("entry", list(dropouts), ids=lambda entry: entry.name)
def test_nothing_happens_in_evaluation(entry: Any) -> None:
    z, before = normal()[:1000], torch.get_rng_state()
    drop = dropouts.choose(entry.example).build().make(0).eval()
    assert torch.equal(drop(z), z)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("entry", list(dropouts), ids=lambda entry: entry.name)
def test_noise_is_the_global_generators(entry: Any) -> None:
    z, drop = normal()[:1000], dropouts.choose(entry.example).build().make(0)
    outputs = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        outputs.append(drop(z))
    assert torch.equal(outputs[0], outputs[1])
    assert not torch.equal(outputs[0], outputs[2])


@pytest.mark.parametrize(
    ("layers", "expected"),
    [
        ("all", ["input_dropout", "dropout1", "dropout2", "dropout3"]),
        ("hidden", ["dropout1", "dropout2", "dropout3"]),
        ("input", ["input_dropout"]),
        ("last", ["dropout3"]),
    ],
)
@pytest.mark.parametrize("name", dropouts.names())
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
