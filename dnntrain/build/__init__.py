"""From a `Spec` to a `Built`: the data is opened, `auto` is replaced by what it chooses, and all parts are made."""

from __future__ import annotations

from dnntrain.build.data import Data, open_data, outputs, part_of, resizer, size_of, standardizer, targets
from dnntrain.build.model import build_model, laid_out
from dnntrain.build.pretraining import Named, Pretraining
from dnntrain.build.resolving import resolve
from dnntrain.build.reuse import digest, locate, reused_layers
from dnntrain.build.staging import Stage, freeze
from dnntrain.build.training import at_stage, build, loss_and_metrics, stages

__all__ = [
    "Data",
    "Named",
    "Pretraining",
    "Stage",
    "at_stage",
    "build",
    "build_model",
    "digest",
    "freeze",
    "laid_out",
    "locate",
    "loss_and_metrics",
    "open_data",
    "outputs",
    "part_of",
    "resizer",
    "resolve",
    "reused_layers",
    "size_of",
    "stages",
    "standardizer",
    "targets",
]
