"""A plugin that waits at a place of the training until it is told to go on, so that a signal meets it there."""

from __future__ import annotations

import os
import time
from pathlib import Path

from torch import Tensor, nn

from dnntrain import interruption
from dnntrain.parts.activations import activations
from dnntrain.parts.datasets import datasets
from dnntrain.parts.datasets.base import Decoded, Source

CALL = 14  # of a place: in training the fourth step of the second epoch, where an epoch has ten
passed = {"training": 0, "evaluating": 0, "preparing": 13}


def pass_by(place: str) -> None:
    """Wait in the CALL-th call from a place, if somebody waits for it, until there is a file `go`."""
    passed[place] += 1
    if place == "evaluating":
        passed[place] += 6  # the second evaluation
    if passed[place] != CALL or not Path(f"wait-{place}").exists():
        return
    if Path("fork").exists():
        child = os.fork()
        if child == 0:
            time.sleep(60)
            os._exit(0)
        Path("forked").write_text(f"{child}\n")
        _, status = os.waitpid(child, 0)
        Path("ended").write_text(str(os.waitstatus_to_exitcode(status)))
    Path("reached").touch()
    while not Path("go").exists():
        if interruption._asked is not None:
            Path("noted").touch()
        time.sleep(0.001)


class Waiting(nn.Module):
    """ReLU, once it is let through."""

    def forward(self, z: Tensor) -> Tensor:
        pass_by("training" if self.training else "evaluating")
        return z.relu()


@activations.register("waiting", equation="max(0, z)", cite="a test")
def waiting() -> nn.Module:
    """Wait, then be a ReLU."""
    return Waiting()


@datasets.register("waiting_digits", equation="digits, in their time", cite="a test")
def waiting_digits() -> Source:
    """Wait, then be digits."""
    return Source(load=_decode, key={"never the same": time.time()})


def _decode() -> Decoded:
    pass_by("preparing")
    return datasets.choose("digits").build().load()
