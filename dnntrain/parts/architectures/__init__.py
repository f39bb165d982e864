"""Networks, all built of the same activations, initializers, normalizations and dropouts."""

from dnntrain.parts.architectures import cnn, mlp, recurrent, resnet, vit, zoo
from dnntrain.parts.architectures.base import Blocks, Moments, architectures

__all__ = ["Blocks", "Moments", "architectures", "cnn", "mlp", "recurrent", "resnet", "vit", "zoo"]
