"""Trained networks for elsewhere: ONNX, programs of PyTorch, named tensors; each checked before it is put in place."""

from __future__ import annotations

from dnntrain.exporting.folding import Folded, fold_batch_norm
from dnntrain.exporting.formats import FORMATS
from dnntrain.exporting.writing import TOLERANCE, Exported, export

__all__ = ["FORMATS", "TOLERANCE", "Exported", "Folded", "export", "fold_batch_norm"]
