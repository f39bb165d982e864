"""Where an experiment runs and in which number format, and the process's settings meanwhile."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch

from dnntrain.errors import UsageError
from dnntrain.registry import AUTO
from dnntrain.spec import Spec
from dnntrain.training.randomness import derive
from dnntrain.training.state import RandomState


@dataclass(frozen=True)
class Placement:
    """Where and in which number format an experiment runs.

    Attributes:
        device: the device.
        precision: number format of the forward pass.
        compile: whether the model is compiled.
    """

    device: torch.device
    precision: Literal["fp32", "tf32", "bf16", "fp16"]
    compile: bool


def place(spec: Spec) -> Placement:
    """Choose the device and the precision.

    Raises:
        UsageError: a device was asked for that is not there, or a precision that it does not have.
    """
    name = spec.training.device
    if name == AUTO:
        name = "cuda" if torch.cuda.is_available() else "cpu"
    device = torch.device(name)
    if device.type == "cuda" and not torch.cuda.is_available():
        raise UsageError(f"training.device is {name}, but PyTorch finds no CUDA device here; use auto or cpu")
    if device.type == "cuda" and device.index is not None and device.index >= torch.cuda.device_count():
        raise UsageError(f"training.device is {name}, but there are only {torch.cuda.device_count()} CUDA devices")
    if device.type == "mps" and not torch.backends.mps.is_available():
        raise UsageError("training.device is mps, but PyTorch finds no Metal device here; use auto or cpu")
    precision = spec.training.precision
    if precision == AUTO:
        precision = "bf16" if device.type == "cuda" and torch.cuda.is_bf16_supported() else "fp32"
    if precision == "tf32" and device.type != "cuda":
        raise UsageError(f"training.precision is tf32, which only CUDA devices have, and the device is {device.type}")
    return Placement(device, precision, compile=spec.training.compile is True)


@contextmanager
def settings(spec: Spec, placement: Placement) -> Iterator[None]:
    """Set seed, threads and number formats for one experiment, and put everything back."""
    threads = torch.get_num_threads()
    noise = RandomState(placement.device)
    before = noise.state_dict()
    # The switches of each backend are made at run time, where type checkers do not see them.
    backends: Any = torch.backends
    switches = (backends.cuda.matmul, backends.cudnn.conv)
    formats = [switch.fp32_precision for switch in switches]
    if isinstance(spec.training.threads, int):
        torch.set_num_threads(spec.training.threads)
    if placement.device.type == "cuda":
        for switch in switches:
            switch.fp32_precision = "tf32" if placement.precision == "tf32" else "ieee"
    try:
        # What draws from a global generator is a part of somebody's own: it shall depend on the seed as well.
        torch.manual_seed(derive(spec.seed, "noise"))
        np.random.seed(derive(spec.seed, "numpy") % 2**32)
        random.seed(derive(spec.seed, "python"))
        yield
    finally:
        noise.load_state_dict(before)
        torch.set_num_threads(threads)
        for switch, format_ in zip(switches, formats, strict=True):
            switch.fp32_precision = format_
