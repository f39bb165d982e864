"""A trained network: read from its run directory, measured, and asked for predictions."""

from __future__ import annotations

from dnntrain.trained.evaluating import Evaluation, assess, evaluate
from dnntrain.trained.loading import CHECKPOINT_SCHEMA, Trained, load, load_best, read_checkpoint, spec_of
from dnntrain.trained.predicting import Prediction, predict, predictions

__all__ = [
    "CHECKPOINT_SCHEMA",
    "Evaluation",
    "Prediction",
    "Trained",
    "assess",
    "evaluate",
    "load",
    "load_best",
    "predict",
    "predictions",
    "read_checkpoint",
    "spec_of",
]
