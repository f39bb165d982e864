"""A plugin that ends its own process in the middle of training, once, or waits there until it may or shall leave."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

from torch import Tensor, nn

from dnntrain import interruption
from dnntrain.parts.activations import activations

STEP = 15  # in the second epoch, where an epoch has ten


class Dying(nn.Module):
    def __init__(self, mark: Path) -> None:
        super().__init__()
        self.mark = mark
        self.steps = 0

    def forward(self, z: Tensor) -> Tensor:
        self.steps += self.training
        if self.steps == STEP and not self.mark.exists():
            self.mark.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return z.relu()


class Waiting(nn.Module):
    def __init__(self, mark: Path) -> None:
        super().__init__()
        self.mark = mark
        self.steps = 0

    def forward(self, z: Tensor) -> Tensor:
        self.steps += self.training
        if self.training and self.steps == STEP:
            self.mark.touch()
            while not self.mark.with_suffix(".go").exists() and interruption._asked is None:
                time.sleep(0.005)
        return z.relu()


@activations.register("dying", equation="max(0, z)", cite="a test")
def dying(*, mark: str = "mark") -> nn.Module:
    """Be a ReLU for a while."""
    return Dying(Path(mark))


@activations.register("waiting_relu", equation="max(0, z)", cite="a test")
def waiting_relu(*, mark: str = "mark") -> nn.Module:
    """Be a ReLU that takes its time."""
    return Waiting(Path(mark))
