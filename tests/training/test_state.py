from __future__ import annotations

import io

import pytest
import torch

from dnntrain.training.state import load_random_state, random_state


def test_the_noise_goes_on_where_it_was_saved() -> None:
    torch.rand(3)
    file = io.BytesIO()
    torch.save(random_state(torch.device("cpu")), file)
    expected = torch.rand(5)
    torch.rand(1000)
    file.seek(0)
    load_random_state(torch.load(file, weights_only=True), torch.device("cpu"))
    assert torch.equal(torch.rand(5), expected)


def test_a_state_is_a_copy_and_not_the_generator() -> None:
    state = random_state(torch.device("cpu"))
    kept = state["cpu"].clone()
    torch.rand(100)
    assert torch.equal(state["cpu"], kept)


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_the_devices_noise_goes_on_too() -> None:
    device = torch.device("cuda")
    state = random_state(device)
    expected = torch.rand(5, device=device)
    load_random_state(state, device)
    assert torch.equal(torch.rand(5, device=device), expected)
    load_random_state(random_state(torch.device("cpu")), device)
