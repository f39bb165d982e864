"""How gradients change the weights. Names and defaults follow torch.optim.

The trait `elementwise` says that an update looks at each component by itself; then all parameters can be laid into one
buffer and updated at once. Weight decay is decoupled where an optimizer offers it, and skips biases and the parameters
of normalization layers; the older kind, which adds to the gradient, is the regularizer l2.
"""

from __future__ import annotations

from dnntrain.parts.optimizers import adagrad, adam, lion, muon, radam, sgd
from dnntrain.parts.optimizers.base import optimizers
from dnntrain.parts.optimizers.nadam import NAdam

__all__ = ["NAdam", "adagrad", "adam", "lion", "muon", "optimizers", "radam", "sgd"]
