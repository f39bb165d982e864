"""Hooks that an experiment file can name."""

from __future__ import annotations

from typing import Any

from typing_extensions import override

from dnntrain.registry import Family, NonNegative, PositiveInt
from dnntrain.training.hooks import Hook, Patience, RunView

callbacks = Family(
    "callback",
    summary="What watches over training and steps in.",
    synonyms={"earlystopping": "early_stopping", "early_stop": "early_stopping"},
)


class EarlyStopping(Hook):
    """Ask to stop after `patience` epochs without a better monitored metric; see `early_stopping`."""

    def __init__(self, *, patience: int, min_delta: float, restore_best: bool) -> None:
        self.needs_best_weights = restore_best
        self._patience = Patience(patience, min_delta)

    @override
    def on_epoch_end(self, run: RunView, /) -> None:
        if self._patience.runs_out(run):
            run.stop(f"early stopping: {run.monitor.metric} did not improve for {self._patience.waited} epochs")

    @override
    def on_fit_end(self, run: RunView, /) -> None:
        if self.needs_best_weights:
            run.restore_best()

    @override
    def state_dict(self) -> dict[str, Any]:
        return self._patience.state_dict()

    @override
    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._patience.load_state_dict(state)


@callbacks.register(
    "early_stopping",
    equation="stop at epoch e if the best monitored metric is that of epoch e - patience",
    cite="Prechelt 1998, Early stopping - but when?",
)
def early_stopping(*, patience: PositiveInt = 10, min_delta: NonNegative = 0.0, restore_best: bool = True) -> Hook:
    """Stop when the monitored metric no longer improves.

    Args:
        patience: epochs in a row without improvement after which training stops.
        min_delta: what counts as an improvement.
        restore_best: end with the weights of the best epoch, also where training runs through.
    """
    return EarlyStopping(patience=patience, min_delta=min_delta, restore_best=restore_best)
