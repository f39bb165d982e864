"""Tasks made by hiding parts of samples, or by exchanging them: pieces of pictures, steps of sequences, values."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional
from typing_extensions import override

from dnntrain.errors import UsageError
from dnntrain.parts.architectures import Blocks
from dnntrain.parts.architectures.base import dense
from dnntrain.parts.architectures.recurrent import LastState
from dnntrain.parts.pretraining.autoencoders import Autoencoder
from dnntrain.parts.pretraining.base import (
    Above,
    Headed,
    Mean,
    Task,
    embedding_in,
    features_of,
    hidden_layers,
    pretrainings,
    shapes_in,
)
from dnntrain.parts.pretraining.mirror import mirror
from dnntrain.registry import Fraction, Positive, PositiveInt

HIDDEN = -1
"""Stands for a token that is hidden."""


@dataclass(frozen=True)
class Places:
    """The places of a sample that can be hidden: square patches of a picture, steps of a sequence, values of a row.

    Attributes:
        shape: of one sample.
        patch: side of a patch in pixels.
        share: of the places that are chosen.
    """

    shape: tuple[int, ...]
    patch: int
    share: float

    @property
    def grid(self) -> tuple[int, ...]:
        """How many places there are along each side."""
        return (self.shape[1] // self.patch, self.shape[2] // self.patch) if len(self.shape) == 3 else (self.shape[0],)

    @property
    def count(self) -> int:
        """How many of them are chosen, one at least."""
        return max(1, round(self.share * math.prod(self.grid)))

    def check(self, name: str) -> None:
        """See that patches come out even.

        Raises:
            UsageError: they do not.
        """
        if len(self.shape) == 3 and (self.shape[1] % self.patch or self.shape[2] % self.patch):
            sides = range(1, min(self.shape[1:]) + 1)
            fitting = [n for n in sides if self.shape[1] % n == 0 and self.shape[2] % n == 0]
            raise UsageError(
                f"{name} divides pictures of {self.shape[1]} x {self.shape[2]} into patches, and a patch of "
                f"{self.patch} does not come out even; possible: {', '.join(map(str, fitting))}"
            )

    def draw(self, x: Tensor, generator: torch.Generator) -> Tensor:
        """Choose as many places in each sample, and return what lies in them: True, of the shape of `x` (N, ...)."""
        cells = math.prod(self.grid)
        ranks = torch.rand(len(x), cells, generator=generator).argsort(dim=1)
        chosen = (ranks < self.count).to(x.device)
        if len(self.shape) == 3:
            chosen = chosen.view(len(x), 1, *self.grid)
            chosen = chosen.repeat_interleave(self.patch, 2).repeat_interleave(self.patch, 3)
        else:
            chosen = chosen.view(len(x), cells, *[1] * (len(self.shape) - 1))
        return chosen.expand(len(x), *self.shape)


class Steps(Above):
    """Layers of the network up to the last one that tells the steps of a sequence apart, and a head for each step.

    Sequences (N, T, F), or tokens (N, T), to (N, T, K). The vector of a hidden token is 0.

    Args:
        layers: all hidden layers; those above the state of the last step are kept, and see nothing.
        head: what the states of a step become.
    """

    def __init__(self, layers: Mapping[str, nn.Module], head: nn.Module) -> None:
        super().__init__(layers)
        self._telling = tuple(telling_steps(layers))
        self._embedding = embedding_in(layers)
        self.head = head

    @override
    def forward(self, x: Tensor) -> Tensor:
        names = self._telling
        if self._embedding is not None:
            shown = x > HIDDEN
            x = self.encode(x.clamp(min=0), names[:1]) * shown.unsqueeze(-1)
            names = names[1:]
        outputs: Tensor = self.head(self.encode(x, names))
        return outputs


class Pairs(Headed):
    """Score two variants of each sample: (N, 2, ...) to (N, 2)."""

    @override
    def forward(self, x: Tensor) -> Tensor:
        scores: Tensor = self.head(self.encode(x.flatten(0, 1)))
        return scores.view(len(x), 2)


def telling_steps(layers: Mapping[str, nn.Module]) -> dict[str, nn.Module]:
    """Return the layers in front of the one that keeps the last step of a sequence; none where there is no such."""
    names = list(layers)
    end = next((i for i, name in enumerate(names) if isinstance(layers[name], LastState)), 0)
    return {name: layers[name] for name in names[:end]}


@pretrainings.register(
    "masked",
    equation="min mean over hidden places of (g(f(x with places hidden)) - x)^2; tokens: -log p(token)",
    cite="arXiv:1810.04805 for tokens; arXiv:1604.07379 and arXiv:2111.06377 for pictures",
    example={"name": "masked", "patch": 2},
)
def masked(
    network: nn.Module,
    shape: tuple[int, ...],
    blocks: Blocks,
    /,
    *,
    share: Fraction = 0.5,
    patch: PositiveInt = 4,
) -> list[Task]:
    """Fill in what is hidden: patches of pictures, steps of sequences, tokens, values of tables.

    The same number of places is hidden in each sample, anew each time. Hidden numbers become 0, which is the mean where
    inputs are standardized by feature or channel; a hidden token's vector becomes 0. The loss is of the hidden places
    alone: the mean squared error of standardized values, or the cross-entropy of tokens, of which those that fill up
    short sequences do not count.

    Samples (N, ...) to reconstructions of the same shape, by the mirror image of the hidden layers (see `autoencoder`),
    or by one dense layer where there is none. In recurrent networks over sequences and tokens each step is filled in
    from its own state, (N, T, F) or (N, T, vocabulary): from the steps before it, and from those after it too with
    `bidirectional`. What stands above the last step's state learns nothing then.

    Args:
        network: of the experiment.
        shape: of one sample.
        blocks: the parts that layers are made of.
        share: of the places that are hidden.
        patch: side of a patch in pixels; divides the height and the width of pictures.

    Raises:
        UsageError: patches do not come out even, or there is no hidden layer.
    """
    layers = hidden_layers(network, "masked")
    places = Places(shape, patch, share)
    places.check("masked")
    embedding = embedding_in(layers)
    telling = telling_steps(layers)
    if embedding is not None:
        table = layers[embedding]
        # An embedding, as was just seen.
        vocabulary, padding = int(table.num_embeddings), table.padding_idx  # type: ignore[arg-type]
        head = dense(shapes_in(telling, shape)[-1][-1], vocabulary, blocks.initialize_output)
        tokens = HiddenTokens(places, None if padding is None else int(padding))  # type: ignore[arg-type]
        return [Task(Steps(layers, head), tokens.loss, prepared=tokens.change)]
    if len(shape) == 2 and telling:
        head = dense(shapes_in(telling, shape)[-1][-1], shape[1], blocks.initialize_output)
        return [Task(Steps(layers, head), hidden_error, prepared=HiddenValues(places).change)]
    model = Autoencoder(layers, _decoder(layers, shape, blocks))
    return [Task(model, hidden_error, prepared=HiddenValues(places).change)]


@pretrainings.register(
    "max_margin",
    equation="min mean max(0, margin - s(x) + s(x')), x' with places from another sample",
    cite="Collobert and Weston 2008, A unified architecture for natural language processing",
    example={"name": "max_margin", "patch": 2},
)
def max_margin(
    network: nn.Module,
    shape: tuple[int, ...],
    blocks: Blocks,
    /,
    *,
    margin: Positive = 1.0,
    share: Fraction = 0.5,
    patch: PositiveInt = 4,
) -> list[Task]:
    """A sample must score above a spoilt one: itself, with places taken from another sample of the batch.

    Places are those of `masked`: patches, steps, tokens or values. Samples (N, ...) and their spoilt variants to scores
    (N, 2), by the hidden layers and one dense unit on top; `ranked_right` is the share of pairs in the right order. The
    paper exchanges the middle word of a window for any word of the dictionary.

    Args:
        network: of the experiment.
        shape: of one sample.
        blocks: the parts that layers are made of.
        margin: by how much the score must be above the other.
        share: of the places that are exchanged.
        patch: side of a patch in pixels; divides the height and the width of pictures.

    Raises:
        UsageError: patches do not come out even, or there is no hidden layer.
    """
    layers = hidden_layers(network, "max_margin")
    places = Places(shape, patch, share)
    places.check("max_margin")
    head = nn.Sequential(nn.Flatten(), dense(features_of(layers, shape), 1, blocks.initialize_output))

    def loss(outputs: Tensor, targets: Tensor) -> Tensor:
        good, bad = outputs.float().unbind(1)
        return (margin - good + bad).clamp(min=0).mean()

    return [
        Task(Pairs(layers, head), loss, prepared=Spoiling(places).change, metrics={"ranked_right": Mean(_ranked_right)})
    ]


@dataclass(frozen=True)
class HiddenValues:
    """Hides places of samples that are numbers."""

    places: Places

    def change(self, x: Tensor, y: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Return samples with 0 in the hidden places; and the samples (N, ...) with what is hidden, (N, 2, ...)."""
        hidden = self.places.draw(x, generator)
        return x.masked_fill(hidden, 0.0), torch.stack((x, hidden.to(x.dtype)), dim=1)


def hidden_error(outputs: Tensor, targets: Tensor) -> Tensor:
    """Return the mean squared error of outputs (N, ...) in the hidden places that targets (N, 2, ...) mark."""
    x, hidden = targets.float().unbind(1)
    return ((outputs.float() - x).square() * hidden).sum() / hidden.sum()


@dataclass(frozen=True)
class HiddenTokens:
    """Hides tokens.

    Attributes:
        places: which can be hidden.
        padding: the token that fills up short sequences, or None.
    """

    places: Places
    padding: int | None

    def change(self, x: Tensor, y: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Return sequences (N, T) with the hidden tokens marked; and these tokens (N, T), the others marked."""
        hidden = self.places.draw(x, generator)
        wanted = hidden if self.padding is None else hidden & (x != self.padding)
        return x.masked_fill(hidden, HIDDEN), x.long().masked_fill(~wanted, HIDDEN)

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return the cross-entropy of the hidden tokens: of logits (N, T, vocabulary), over N times the places."""
        total = functional.cross_entropy(
            outputs.float().flatten(0, 1), targets.flatten(), ignore_index=HIDDEN, reduction="sum"
        )
        return total / (len(targets) * self.places.count)


@dataclass(frozen=True)
class Spoiling:
    """Puts places of other samples into samples."""

    places: Places

    def change(self, x: Tensor, y: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Return samples beside spoilt ones, (N, 2, ...): all take from the sample a number of places ahead."""
        ahead = int(torch.randint(1, max(2, len(x)), (), generator=generator))
        spoilt = torch.where(self.places.draw(x, generator), x.roll(ahead, 0), x)
        return torch.stack((x, spoilt), dim=1), y


def _ranked_right(outputs: Tensor, targets: Tensor) -> Tensor:
    return outputs[:, 0] > outputs[:, 1]


def _decoder(layers: Mapping[str, nn.Module], shape: tuple[int, ...], blocks: Blocks) -> nn.Module:
    """Return what leads back to the samples."""
    try:
        return mirror(layers, shape, blocks, name="masked")
    except UsageError:
        values = dense(features_of(layers, shape), math.prod(shape), blocks.initialize_output)
        return nn.Sequential(nn.Flatten(), values, nn.Unflatten(1, shape))
