"""Autoencoders: layers that keep what it takes to bring a sample back."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Literal

import torch
from torch import Tensor, nn
from typing_extensions import override

from dnntrain.errors import UsageError
from dnntrain.parts.architectures import Blocks
from dnntrain.parts.pretraining.base import (
    Above,
    Task,
    groups_of,
    hidden_layers,
    inputs_as_targets,
    pretrainings,
    shapes_in,
    squared_error,
)
from dnntrain.parts.pretraining.mirror import mirror
from dnntrain.registry import Positive

Noise = Literal["gaussian", "masking", "salt_and_pepper"]
VINCENT = "Vincent, Larochelle, Lajoie, Bengio and Manzagol 2010, Stacked denoising autoencoders"


class Autoencoder(Above):
    """Layers of the network, and a decoder that leads back: samples (N, ...) to reconstructions of that shape."""

    def __init__(self, layers: Mapping[str, nn.Module], decoder: nn.Module) -> None:
        super().__init__(layers)
        self.decoder = decoder

    @override
    def forward(self, x: Tensor) -> Tensor:
        reconstruction: Tensor = self.decoder(self.encode(x))
        return reconstruction


class LayerAutoencoder(Above):
    """One layer on top of others, and a decoder that leads back to what these give.

    Samples (N, ...) to the reconstruction and to what was to be reconstructed, (N, 2, ...).
    """

    def __init__(self, below: Mapping[str, nn.Module], own: Mapping[str, nn.Module], decoder: nn.Module) -> None:
        super().__init__({**below, **own})
        self._below, self._own = tuple(below), tuple(own)
        self.decoder = decoder

    @override
    def forward(self, x: Tensor) -> Tensor:
        given = self.encode(x, self._below)
        reconstruction = self.decoder(self.encode(given, self._own))
        return torch.stack((reconstruction, given.to(reconstruction.dtype)), dim=1)


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

    A layer wider than its inputs can learn to copy them; `denoising_autoencoder` cannot.

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


@pretrainings.register(
    "denoising_autoencoder",
    equation="min mean (g(f(x')) - x)^2, x' the sample with noise",
    cite=VINCENT,
)
def denoising_autoencoder(
    network: nn.Module,
    shape: tuple[int, ...],
    blocks: Blocks,
    /,
    *,
    noise: Noise = "masking",
    amount: Positive = 0.25,
    tied: bool = False,
) -> list[Task]:
    """An autoencoder that sees noisy samples and must bring back clean ones, so that copying is of no use.

    Noise is put on standardized samples, each value by itself: `gaussian` adds N(0, amount^2); `masking` sets the share
    `amount` of them to 0, which is the mean where inputs are standardized by feature or channel; `salt_and_pepper` sets
    that share to the least or the greatest value in the batch, either as likely. Everything else is as for
    `autoencoder`; in validation each sample has the same noise in all epochs.

    Args:
        network: of the experiment: dense layers and convolutions, with pools.
        shape: of one sample.
        blocks: the parts that layers are made of.
        noise: its kind.
        amount: deviation of gaussian noise, or the share of the values that the others change.
        tied: the decoder uses the transposed weights of the hidden layers, and only has biases of its own.

    Raises:
        UsageError: the network has layers of other kinds, or more than all values are to be changed.
    """
    if noise != "gaussian" and amount > 1:
        raise UsageError(f"denoising_autoencoder changes the share 'amount' of the values: it is {amount:g}, above 1")
    layers = hidden_layers(network, "denoising_autoencoder")
    model = Autoencoder(layers, mirror(layers, shape, blocks, tied=tied, name="denoising_autoencoder"))
    return [Task(model, squared_error, prepared=partial(_noisy, noise, amount))]


@pretrainings.register(
    "greedy_autoencoder",
    equation="for each layer l: min mean (g_l(f_l(h)) - h)^2, h = f_{l-1}(... f_1(x))",
    cite="Bengio, Lamblin, Popovici and Larochelle 2007, Greedy layer-wise training of deep networks",
)
def greedy_autoencoder(
    network: nn.Module, shape: tuple[int, ...], blocks: Blocks, /, *, tied: bool = False
) -> list[Task]:
    """Layer by layer from the bottom up: each learns to bring back what the layers below make of a sample.

    Each hidden layer, with its normalization, activation, pool and dropout, is trained for all `epochs` with a decoder
    of its own, as for `autoencoder`, while the layers below stay as they are, without dropout. One run directory for
    each; that of the last one holds them all.

    Args:
        network: of the experiment: dense layers and convolutions, with pools.
        shape: of one sample.
        blocks: the parts that layers are made of.
        tied: decoders use the transposed weights of their layers, and only have biases of their own.

    Raises:
        UsageError: the network has layers of other kinds.
    """
    layers = hidden_layers(network, "greedy_autoencoder")
    tasks: list[Task] = []
    below: dict[str, nn.Module] = {}
    for name, own in groups_of(layers).items():
        decoder = mirror(own, shapes_in(below, shape)[-1], blocks, tied=tied, name="greedy_autoencoder")
        frozen = tuple(below.values())
        tasks.append(Task(LayerAutoencoder(below, own, decoder), _reconstruction_error, name, frozen=frozen))
        below = {**below, **own}
    return tasks


def _reconstruction_error(outputs: Tensor, targets: Tensor) -> Tensor:
    """Return the mean squared difference of the two halves of (N, 2, ...)."""
    return squared_error(outputs[:, 0], outputs[:, 1].detach())


def _noisy(noise: Noise, amount: float, x: Tensor, y: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    if noise == "gaussian":
        return x + amount * torch.randn(x.shape, generator=generator).to(x.device), x
    chosen = (torch.rand(x.shape, generator=generator) < amount).to(x.device)
    if noise == "masking":
        return x.masked_fill(chosen, 0.0), x
    salt = (torch.rand(x.shape, generator=generator) < 0.5).to(x.device)
    return torch.where(chosen, torch.where(salt, x.max(), x.min()), x), x
