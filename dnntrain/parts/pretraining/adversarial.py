"""Adversarial pretraining: layers that tell samples from what another network makes up."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional
from typing_extensions import override

from dnntrain.parts.architectures import Blocks
from dnntrain.parts.architectures.base import dense
from dnntrain.parts.pretraining.base import (
    LATEST,
    Above,
    Headed,
    Mean,
    Task,
    features_of,
    hidden_layers,
    pretrainings,
    refuse_tokens,
)
from dnntrain.registry import PositiveInt


class Adversaries(Above):
    """Layers of the network that judge samples, and a generator that wants to deceive them.

    Samples (N, ...) to three judgements (N, 3), logits of a sample being real: of the sample; of something made up, as
    the judge is to see it; and of the same, as its maker is to see it, through which no gradient reaches the judge.

    Args:
        layers: of the network.
        head: turns their outputs into a logit (N, 1).
        generator: noise (N, latent) to samples.
        latent: numbers of noise.
    """

    def __init__(self, layers: Mapping[str, nn.Module], head: nn.Module, generator: nn.Module, latent: int) -> None:
        super().__init__(layers)
        self.head = head
        self.generator = generator
        self._latent = latent
        # The judge by itself; in a tuple, since its layers belong to this module already.
        self._judge = (Headed(layers, head),)

    @override
    def forward(self, x: Tensor) -> Tensor:
        judge = self._judge[0]
        made = self.generator(torch.randn(len(x), self._latent, device=x.device))
        real, made_up = judge(torch.cat((x, made.detach().to(x.dtype)))).chunk(2)
        held = {name: p.detach() for name, p in judge.named_parameters()}
        statistics = {name: buffer.clone() for name, buffer in judge.named_buffers()}
        deceived = functional_call(judge, {**held, **statistics}, (made.to(x.dtype),))
        return torch.cat((real, made_up, deceived), dim=1)


@pretrainings.register(
    "gan",
    equation="min_D -log D(x) - log(1 - D(G(z))), min_G -log D(G(z)), D = sigmoid(w h(x) + b), z ~ N(0, 1)",
    cite="arXiv:1406.2661, its non-saturating form; arXiv:1511.06434 for keeping the discriminator's layers",
)
def gan(
    network: nn.Module,
    shape: tuple[int, ...],
    blocks: Blocks,
    /,
    *,
    latent: PositiveInt = 64,
    units: PositiveInt = 256,
) -> list[Task]:
    """The hidden layers as a discriminator: they learn to tell samples from those that a generator makes up.

    Samples (N, ...) to logits of being real. The generator has two dense hidden layers with relu. Both sides take each
    step at once, from the sum of both losses: the discriminator's part, softplus(-d(x)) + softplus(d(G(z))), with G(z)
    held constant, and the generator's, softplus(-d(G(z))), with the discriminator held constant. The papers take turns,
    and draw new noise for each.

    Neither loss says how far the two have come: the last epoch's weights are kept, and `told_apart` is the share of
    samples and inventions that the discriminator sees through, 0.5 where it guesses. Batch normalization sees both in
    one batch, and its running statistics are of both.

    Args:
        network: of the experiment.
        shape: of one sample.
        blocks: the parts that layers are made of.
        latent: numbers of noise that a sample is made from.
        units: in the generator's hidden layers.

    Raises:
        UsageError: samples are tokens, or there is no hidden layer.
    """
    layers = hidden_layers(network, "gan")
    refuse_tokens(layers, "gan")
    head = nn.Sequential(nn.Flatten(), dense(features_of(layers, shape), 1, blocks.initialize_output))
    generator = nn.Sequential(
        dense(latent, units, blocks.initialize),
        nn.ReLU(),
        dense(units, units, blocks.initialize),
        nn.ReLU(),
        dense(units, math.prod(shape), blocks.initialize_output),
        nn.Unflatten(1, shape),
    )
    model = Adversaries(layers, head, generator, latent)
    return [Task(model, _both_sides, metrics={"told_apart": Mean(_told_apart)}, monitor=LATEST)]


def _told_apart(outputs: Tensor, targets: Tensor) -> Tensor:
    """Return the share of right judgements of a sample and of what was made up beside it: 0, 1/2 or 1."""
    return 0.5 * ((outputs[:, 0] > 0).float() + (outputs[:, 1] < 0).float())


def _both_sides(outputs: Tensor, targets: Tensor) -> Tensor:
    real, made_up, deceived = outputs.float().unbind(1)
    judge = functional.softplus(-real) + functional.softplus(made_up)
    return (judge + functional.softplus(-deceived)).mean()
