"""Tasks made by changing whole samples: which way a picture was turned, and which views show the same sample."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional
from typing_extensions import override

from dnntrain.errors import UsageError
from dnntrain.parts.architectures import Blocks
from dnntrain.parts.architectures.base import dense
from dnntrain.parts.metrics import Accuracy
from dnntrain.parts.pretraining.base import Headed, Task, features_of, hidden_layers, pretrainings
from dnntrain.registry import Positive, PositiveInt

TURNS = 4


class Projected(Headed):
    """Project several views of each sample: (N, views, ...) to (N, views, K)."""

    @override
    def forward(self, x: Tensor) -> Tensor:
        projected: Tensor = self.head(self.encode(x.flatten(0, 1)))
        return projected.view(*x.shape[:2], -1)


@pretrainings.register(
    "rotation",
    equation="min -log p(r | x turned by r quarters), r = 0, 1, 2 or 3",
    cite="arXiv:1803.07728",
)
def rotation(network: nn.Module, shape: tuple[int, ...], blocks: Blocks, /) -> list[Task]:
    """Which way is up: each picture is turned by a quarter, a half, three quarters or not at all, and the turn guessed.

    Square pictures (N, C, H, H) to logits of the turns (N, 4), by the hidden layers and a dense layer on top. They are
    turned before they are standardized. Each has one turn in an epoch, drawn anew; the paper shows all four of them in
    one batch. `accuracy` is the share of turns that are right. Things without an upper side cannot be learned so.

    Args:
        network: of the experiment.
        shape: of one sample.
        blocks: the parts that layers are made of.

    Raises:
        UsageError: samples are no square pictures, or there is no hidden layer.
    """
    layers = hidden_layers(network, "rotation")
    if len(shape) != 3 or shape[1] != shape[2]:
        form = " x ".join(map(str, shape))
        raise UsageError(f"rotation turns square pictures, and a sample of this data has the form {form}")
    head = nn.Sequential(nn.Flatten(), dense(features_of(layers, shape), TURNS, blocks.initialize_output))
    return [Task(Headed(layers, head), _cross_entropy, raw=turned, metrics={"accuracy": Accuracy()})]


@pretrainings.register(
    "contrastive",
    equation="min mean -log(exp(s_ij / t) / sum_k exp(s_ik / t)), k != i; s cosine, i and j views of one sample",
    cite="arXiv:2002.05709",
)
def contrastive(
    network: nn.Module,
    shape: tuple[int, ...],
    blocks: Blocks,
    /,
    *,
    temperature: Positive = 0.5,
    projection: PositiveInt = 64,
) -> list[Task]:
    """Two views of a sample must be more alike than views of different ones (NT-Xent, as in SimCLR).

    A view is the sample as `data.augment` changes it, so it must say something; what mixes samples is left out. Both
    views of N samples, (N, 2, ...), pass the hidden layers and a head with one relu layer, to (N, 2, projection); of
    the 2 N views in a batch each is to find its partner among the 2 N - 1 others. Large batches make it harder, and
    better. In validation the views are the same in all epochs, and as many as in training are compared.

    Args:
        network: of the experiment.
        shape: of one sample.
        blocks: the parts that layers are made of.
        temperature: divides the similarities; low ones look at the nearest views only.
        projection: numbers that a view is compared by.

    Raises:
        UsageError: there is no hidden layer.
    """
    layers = hidden_layers(network, "contrastive")
    features = features_of(layers, shape)
    head = nn.Sequential(
        nn.Flatten(),
        dense(features, features, blocks.initialize),
        nn.ReLU(),
        dense(features, projection, blocks.initialize_output),
    )

    def loss(outputs: Tensor, targets: Tensor) -> Tensor:
        return nt_xent(outputs, temperature)

    return [Task(Projected(layers, head), loss, views=2)]


def turned(x: Tensor, y: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Turn each picture (N, C, H, H) by 0 to 3 quarters, counter-clockwise; the targets say by how many, (N,)."""
    turns = torch.randint(TURNS, (len(x),), generator=generator).to(x.device)
    variants = torch.stack([x.rot90(turn, (2, 3)) for turn in range(TURNS)], dim=1)
    return variants[torch.arange(len(x), device=x.device), turns], turns


def nt_xent(projections: Tensor, temperature: float) -> Tensor:
    """Return the mean over the views (N, 2, K) of the cross-entropy of finding the partner among all others."""
    unit = functional.normalize(projections.float().flatten(0, 1), dim=1)
    similarities = unit @ unit.t() / temperature
    itself = torch.eye(len(unit), dtype=torch.bool, device=unit.device)
    # Views 0 and 1 belong together, 2 and 3, and so on.
    partners = torch.arange(len(unit), device=unit.device) ^ 1
    return functional.cross_entropy(similarities.masked_fill(itself, -torch.inf), partners)


def _cross_entropy(outputs: Tensor, targets: Tensor) -> Tensor:
    return functional.cross_entropy(outputs.float(), targets)
