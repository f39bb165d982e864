"""A trained network: read from its run directory, measured, and asked for predictions."""

from __future__ import annotations

from dnntrain.trained.evaluating import Evaluation, assess, evaluate
from dnntrain.trained.loading import Trained, load, load_best, resizing, spec_of
from dnntrain.trained.predicting import Prediction, predict, predictions

__all__ = [
    "Evaluation",
    "Prediction",
    "Trained",
    "assess",
    "evaluate",
    "load",
    "load_best",
    "predict",
    "predictions",
    "resizing",
    "spec_of",
]
