"""Every architecture leaves in every format, for any number of samples."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from tinynetworks import network, small
from torch import Tensor

from dnntrain.exporting.formats import FORMATS, Network
from dnntrain.parts.architectures import architectures

# Beside the plain form of each: what is read from both ends, and tokens. Sequences are short, as exporters unroll them.
OPTIONS: dict[str, dict[str, Any]] = {
    "rnn": {"bidirectional": True, "layers": 1},
    "lstm": {"layers": 1, "embedding": {"vocabulary": 9, "size": 4}},
    "gru": {"layers": 1},
    "vit": {"layers": 1},
    "torchvision": {"model": "squeezenet1_1"},
}
SHAPES: dict[str, tuple[int, ...]] = {"rnn": (4, 3), "gru": (4, 3), "torchvision": (3, 24, 24)}


def inputs(name: str) -> Tensor:
    draws = torch.Generator().manual_seed(0)
    if "embedding" in OPTIONS.get(name, {}):
        return torch.randint(9, (7, 5), generator=draws).float()
    return torch.randn(7, *SHAPES.get(name, (3, 8, 8)), generator=draws)


@pytest.mark.parametrize("format_", FORMATS)
@pytest.mark.parametrize("name", architectures.names())
def test_it_computes_the_same_there(name: str, format_: str) -> None:
    x = inputs(name)
    model = network({**small(name), **OPTIONS.get(name, {})}, shape=tuple(x.shape[1:])).eval().requires_grad_(False)
    with torch.no_grad():
        expected = model(x)
        assert expected.std(0).min() > 1e-3, "what differs could be seen"
        written = FORMATS[format_].make(Network(model, x[:3], "logits", model.state_dict()), None)
        for samples in (1, 2, 7):
            assert (written.compute(x[:samples]) - expected[:samples]).abs().max() < 1e-5
