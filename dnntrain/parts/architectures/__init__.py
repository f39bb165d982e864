"""Networks, all built of the same activations, initializers, normalizations and dropouts."""

from dnntrain.parts.architectures import cnn, mlp, recurrent, resnet, vit
from dnntrain.parts.architectures.base import Blocks, architectures

__all__ = ["Blocks", "architectures", "cnn", "mlp", "recurrent", "resnet", "vit"]
