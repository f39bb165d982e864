"""Weights out of files that other programs wrote, under the names that layers have here."""

from dnntrain.parts.weights.base import Weights
from dnntrain.parts.weights.reading import read_weights

__all__ = ["Weights", "read_weights"]
