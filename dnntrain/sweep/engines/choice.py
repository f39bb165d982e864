"""Which engine, and how many workers."""

from __future__ import annotations

import os
from typing import Final

from dnntrain.errors import UsageError, shorten
from dnntrain.sweep.engines.base import Engine

AUTO: Final = "auto"
MEMORY: Final = 2 * 1024**3
"""What a worker is supposed to need, in bytes: PyTorch itself takes a third of it."""


def choose(name: str | None, workers: str, address: str | None = None) -> Engine:
    """Return an engine.

    Args:
        name: `inline`, `local` or `ray`; unless given, inline for one worker, and ray where there is an address.
        workers: how many, or `auto`.
        address: of a Ray cluster.

    Raises:
        UsageError: there is no such engine, or no such number, or no such cluster.
    """
    from dnntrain.sweep.engines.inline import Inline
    from dnntrain.sweep.engines.local import Local

    if workers != AUTO and not (workers.isdecimal() and int(workers) > 0):
        raise UsageError(f"--workers {shorten(workers)}: a whole number from 1 on, or {AUTO}")
    if name == "ray" or (name is None and address is not None):
        from dnntrain.sweep.engines.ray import Ray

        return Ray(address, workers=None if workers == AUTO else int(workers))
    if address is not None:
        raise UsageError(f"--address names a Ray cluster, which the engine {shorten(name or '')} does not ask")
    gpus = _gpus()
    count = most_workers(gpus) if workers == AUTO else int(workers)
    name = name or ("inline" if count == 1 else "local")
    if name == "inline":
        if count > 1:
            raise UsageError(f"the engine inline has one worker, not {count}: choose --engine local")
        return Inline()
    if name == "local":
        return Local(count, gpus=gpus)
    raise UsageError(f"there is no engine '{shorten(name)}': known: inline, local, ray")


def most_workers(gpus: int) -> int:
    """Return how many workers this machine has room for: one for each GPU, else for each core, as memory allows."""
    if gpus:
        return gpus
    return max(1, min(len(os.sched_getaffinity(0)), _free_memory() // MEMORY))


def _gpus() -> int:
    import torch

    return torch.cuda.device_count() if torch.cuda.is_available() else 0


def _free_memory() -> int:
    """Return the bytes that programs may still take, the file cache included."""
    with open("/proc/meminfo", encoding="ascii") as file:
        kilobytes = {line.split(":")[0]: int(line.split()[1]) for line in file}
    return kilobytes.get("MemAvailable", 0) * 1024
