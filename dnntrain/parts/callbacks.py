"""Hooks that an experiment file can name."""

from __future__ import annotations

import math
from typing import Any

from typing_extensions import override

from dnntrain.registry import Family, NonNegative, NonNegativeInt, PositiveInt
from dnntrain.training.hooks import Hook, Patience, RunView

callbacks = Family(
    "callback",
    summary="What watches over training and steps in.",
    synonyms={
        "earlystopping": "early_stopping",
        "early_stop": "early_stopping",
        "terminateonnan": "terminate_on_nan",
        "nan": "terminate_on_nan",
        "max_time": "training.max_time",
        "time_limit": "training.max_time",
        "timer": "training.max_time",
        "checkpoint": "training.checkpoint",
        "model_checkpoint": "training.checkpoint",
        "modelcheckpoint": "training.checkpoint",
        "clip": "training.clip",
        "gradient_clipping": "training.clip",
    },
)


class EarlyStopping(Hook):
    """Ask to stop after `patience` epochs without a better monitored metric; see `early_stopping`."""

    def __init__(self, *, patience: int, min_delta: float, restore_best: bool, warmup: int) -> None:
        self._restore_best = restore_best
        self._patience = Patience(patience, min_delta)
        self._warmup = warmup

    @override
    def on_epoch_end(self, run: RunView, /) -> None:
        if run.epoch - run.epochs_before > self._warmup and self._patience.runs_out(run):
            reason = f"early stopping: {run.monitor.metric} did not improve for {self._patience.waited} epochs"
            run.stop(reason, stage=True)

    @override
    def on_fit_end(self, run: RunView, /) -> None:
        if self._restore_best:
            run.restore_best()

    @override
    def state_dict(self) -> dict[str, Any]:
        return self._patience.state_dict()

    @override
    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._patience.load_state_dict(state)


class TerminateOnNan(Hook):
    """Ask to stop when training or the monitored metric is not finite any more; see `terminate_on_nan`."""

    stops_on_divergence = True

    @override
    def on_epoch_end(self, run: RunView, /) -> None:
        value = run.row.get(run.monitor.metric)
        if value is not None and not math.isfinite(value):
            run.stop(f"{run.monitor.metric} of epoch {run.epoch} is not finite")


@callbacks.register(
    "early_stopping",
    equation="stop at epoch e if the best monitored metric is that of epoch e - patience",
    cite="Prechelt 1998, Early stopping - but when?",
)
def early_stopping(
    *,
    patience: PositiveInt = 10,
    min_delta: NonNegative = 0.0,
    restore_best: bool = True,
    warmup: NonNegativeInt = 0,
) -> Hook:
    """Stop when the monitored metric no longer improves; in a training of several stages, go on to the next one.

    Args:
        patience: epochs in a row without improvement after which training stops.
        min_delta: what counts as an improvement.
        restore_best: end with the weights of the best epoch, also where training runs through.
        warmup: epochs at the start that are not counted, neither as waited for nor as what must be improved on; Keras
            calls it start_from_epoch. The weights of the best epoch may still be theirs.
    """
    return EarlyStopping(patience=patience, min_delta=min_delta, restore_best=restore_best, warmup=warmup)


@callbacks.register(
    "terminate_on_nan",
    equation="stop when a loss, a gradient or the monitored metric is not finite",
    cite="Keras, keras.callbacks.TerminateOnNaN",
)
def terminate_on_nan() -> Hook:
    """End training that diverges as a stopped run, not as a failed one.

    A loss or a gradient that is not finite is always noticed. Without this callback it is an error, and the run has
    failed; with it training stops there, the reason is kept with the run, and the weights of the best epoch come back
    where early_stopping keeps them. That is what a sweep over learning rates may want. A monitored metric that is not
    finite while training goes on is no error by itself, only never an improvement; with this callback it ends
    training too. Under fp16 an overflowing gradient is skipped and ends nothing.
    """
    return TerminateOnNan()
