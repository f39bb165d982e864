"""Networks, all built of the same activations, initializers, normalizations and dropouts."""

from dnntrain.parts.architectures import mlp
from dnntrain.parts.architectures.base import Blocks, architectures

__all__ = ["Blocks", "architectures", "mlp"]
