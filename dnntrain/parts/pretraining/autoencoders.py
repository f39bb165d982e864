"""Autoencoders: layers that keep what it takes to bring a sample back."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn
from typing_extensions import override

from dnntrain.parts.architectures import Blocks
from dnntrain.parts.pretraining.base import (
    Above,
    Task,
    hidden_layers,
    inputs_as_targets,
    pretrainings,
    squared_error,
)
from dnntrain.parts.pretraining.mirror import mirror


class Autoencoder(Above):
    """Layers of the network, and a decoder that leads back: samples (N, ...) to reconstructions of that shape."""

    def __init__(self, layers: Mapping[str, nn.Module], decoder: nn.Module) -> None:
        super().__init__(layers)
        self.decoder = decoder

    @override
    def forward(self, x: Tensor) -> Tensor:
        reconstruction: Tensor = self.decoder(self.encode(x))
        return reconstruction


@pretrainings.register(
    "autoencoder",
    equation="min mean (g(f(x)) - x)^2, f the hidden layers, g their mirror image",
    cite="Hinton and Salakhutdinov 2006, Reducing the dimensionality of data with neural networks",
)
def autoencoder(network: nn.Module, shape: tuple[int, ...], blocks: Blocks, /, *, tied: bool = False) -> list[Task]:
    """All hidden layers at once: a decoder brings samples back from what they make of them.

    Samples (N, ...) to reconstructions of the same shape; the loss is the mean squared error of standardized samples,
    over samples and values. The decoder is the mirror image of the hidden layers: dense layers, transposed
    convolutions, repeated values where there was a pool, and no normalization or dropout. Its last layer has no
    activation, since standardized inputs have any sign.

    A layer wider than its inputs can learn to copy them. `denoising_autoencoder` cannot.

    Args:
        network: of the experiment: dense layers and convolutions, with pools.
        shape: of one sample.
        blocks: the parts that layers are made of.
        tied: the decoder uses the transposed weights of the hidden layers, and only has biases of its own.

    Raises:
        UsageError: the network has layers of other kinds.
    """
    layers = hidden_layers(network, "autoencoder")
    model = Autoencoder(layers, mirror(layers, shape, blocks, tied=tied, name="autoencoder"))
    return [Task(model, squared_error, prepared=inputs_as_targets)]
