from __future__ import annotations

import pytest
import torch

from dnntrain.training.randomness import derive, forked, generator


def test_a_stream_is_made_of_the_seed_and_its_name() -> None:
    assert derive(0, "order") == derive(0, "order")
    streams = {derive(seed, name) for seed in range(50) for name in ("order", "initialization", "noise")}
    assert len(streams) == 150
    assert all(0 <= value < 2**63 for value in streams)


def test_streams_never_change_between_versions() -> None:
    # Golden numbers: another value here means that every old experiment comes out differently.
    assert derive(0, "order") == 3744741786310882764
    assert torch.rand(2, generator=generator(42, "initialization")).tolist() == pytest.approx(
        [0.8969387, 0.2301819], abs=1e-6
    )


def test_a_seed_and_a_name_cannot_be_confused() -> None:
    assert derive(1, "2:x") != derive(12, "x")
    assert derive(1, "1") != derive(11, "")


def test_generators_are_on_the_cpu_and_independent() -> None:
    first, second = generator(1, "a"), generator(1, "b")
    assert first.device.type == "cpu"
    alone = torch.rand(5, generator=generator(1, "b"))
    torch.rand(1000, generator=first)
    assert torch.equal(torch.rand(5, generator=second), alone)


@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_a_fork_leaves_no_trace(device: str) -> None:
    before = torch.get_rng_state()
    with forked(torch.device(device)):
        torch.rand(100)
        torch.manual_seed(7)
    assert torch.equal(torch.get_rng_state(), before)


def test_a_fork_is_put_back_after_an_error() -> None:
    before = torch.get_rng_state()
    with pytest.raises(KeyError), forked(torch.device("cpu")):
        torch.rand(100)
        raise KeyError
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_a_fork_covers_the_device() -> None:
    device = torch.device("cuda")
    before = torch.cuda.get_rng_state(device)
    with forked(device):
        torch.rand(100, device=device)
    assert torch.equal(torch.cuda.get_rng_state(device), before)
