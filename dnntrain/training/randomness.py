"""Random streams: each purpose draws from a generator of its own, made of the seed and the stream's name.

Adding a dropout layer thus leaves the order of the data alone, and a wider layer leaves the augmentation alone.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager

import torch


def derive(seed: int, stream: str, /) -> int:
    """Return a 63-bit seed for one stream: the head of BLAKE2b over the seed and the stream's name."""
    digest = hashlib.blake2b(f"{seed}:{stream}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1


def generator(seed: int, stream: str, /) -> torch.Generator:
    """Return a CPU generator for one stream, so that draws are the same on every device."""
    return torch.Generator().manual_seed(derive(seed, stream))


@contextmanager
def forked(device: torch.device) -> Iterator[None]:
    """Run a block and put torch's global generators of the CPU and of `device` back as they were."""
    if device.type in ("cpu", "meta"):
        with torch.random.fork_rng(devices=[]):
            yield
    else:
        with torch.random.fork_rng(devices=[device], device_type=device.type):
            yield
