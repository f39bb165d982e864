"""Which engine, and how many workers."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Final

from dnntrain.errors import UsageError, shorten
from dnntrain.sweep.engines import local
from dnntrain.sweep.engines.base import Engine

AUTO: Final = "auto"
MEMORY: Final = 2 * 1024**3
"""What a worker is supposed to need, in bytes: PyTorch itself takes a third of it."""


@dataclass(frozen=True)
class Cluster:
    """What is wanted of a Ray cluster; None where nothing was said.

    Attributes:
        address: which cluster.
        cpus: CPUs of each trial, which are its threads.
        gpus: GPUs of each trial.
        home: whether runs are trained in folders of the nodes and brought home.
    """

    address: str | None = None
    cpus: float | None = None
    gpus: float | None = None
    home: bool = False


def prepare(name: str | None, workers: str | None, address: str | None = None) -> None:
    """Begin what takes the engine seconds, where `choose` is going to return one of processes on this machine.

    To be called before PyTorch is imported here, so that both happen at a time. What is wrong about the arguments is
    left to `choose` to say.
    """
    if address is not None or name not in (None, "local"):
        return
    if workers == AUTO:
        several = len(os.sched_getaffinity(0)) > 1
    else:
        several = workers is not None and workers.isdecimal() and int(workers) > 1
    if several or name == "local":
        local.prepare()


def choose(name: str | None, workers: str | None, cluster: Cluster | None = None) -> Engine:
    """Return an engine.

    Args:
        name: `inline`, `local` or `ray`; unless given, inline for one worker, and ray where there is an address.
        workers: how many, or `auto`; unless given, as many as a Ray cluster has room for, and one elsewhere.
        cluster: what is wanted of a Ray cluster.

    Raises:
        UsageError: there is no such engine, or no such number, or no such cluster.
    """
    from dnntrain.sweep.engines.inline import Inline

    if workers is not None and workers != AUTO and not (workers.isdecimal() and int(workers) > 0):
        raise UsageError(f"--workers {shorten(workers)}: a whole number from 1 on, or {AUTO}")
    cluster = cluster or Cluster()
    if name == "ray" or (name is None and cluster.address is not None):
        return _ray(cluster, None if workers is None or workers == AUTO else int(workers))
    if cluster != Cluster():
        raise UsageError(
            "--address, --cpus, --gpus and --bring-home are asked of a Ray cluster: leave them out, or add --engine ray"
        )
    gpus = _gpus()
    count = most_workers(gpus) if workers == AUTO else int(workers or 1)
    name = name or ("inline" if count == 1 else "local")
    if name == "inline":
        if count > 1:
            raise UsageError(f"the engine inline has one worker, not {count}: choose --engine local")
        return Inline()
    if name == "local":
        return local.Local(count, gpus=gpus)
    raise UsageError(f"there is no engine '{shorten(name)}': known: inline, local, ray")


def _ray(cluster: Cluster, workers: int | None) -> Engine:
    from dnntrain.sweep.engines.ray import Ray

    shares = {"cpus": cluster.cpus, "gpus": cluster.gpus}
    given = {name: share for name, share in shares.items() if share is not None}
    return Ray(cluster.address, workers=workers, home=cluster.home, **given)


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
