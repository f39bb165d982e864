"""A plugin whose callback holds an epoch back until somebody has seen the one before."""

from __future__ import annotations

import time
from pathlib import Path

from typing_extensions import override

from dnntrain import interruption
from dnntrain.parts.callbacks import callbacks
from dnntrain.training.hooks import Hook, RunView

PATIENCE = 60.0  # seconds


class Gate(Hook):
    """Before an epoch, wait for the file `seen-N`, where N epochs were trained."""

    @override
    def on_epoch_start(self, run: RunView, /) -> None:
        seen = Path(f"seen-{run.epoch - 1}")
        end = time.monotonic() + PATIENCE
        while run.epoch > 1 and not seen.exists():
            if time.monotonic() > end:
                raise TimeoutError(f"nobody has seen epoch {run.epoch - 1}")
            interruption.sleep(0.001)


@callbacks.register("gate", equation="epoch N + 1 after the file seen-N", cite="a test")
def gate() -> Hook:
    """Hold epochs back."""
    return Gate()
