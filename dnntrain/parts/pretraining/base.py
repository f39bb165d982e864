"""What every way of pretraining is: the family, the task that it sets a network, and what several of them share."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.nn import functional
from typing_extensions import override

from dnntrain.errors import UsageError
from dnntrain.parts.layers import OUTPUT
from dnntrain.registry import Family, Positive, PositiveInt
from dnntrain.training.batches import Change
from dnntrain.training.built import Loss, Metric
from dnntrain.training.hooks import Monitor
from dnntrain.training.modes import evaluating

LATEST = Monitor("epoch", "max")
"""For what has no figure that says which epoch is best: the last one is."""


def _shared(*, epochs: PositiveInt = 20, lr: Positive | None = None, batch_size: PositiveInt | None = None) -> None:
    """Say how long, how fast and in what batches: options of all ways of pretraining.

    Args:
        epochs: passes over the samples, for each layer where layers are pretrained one by one.
        lr: learning rate, kept constant, of an optimizer like the experiment's; null for the experiment's rate.
        batch_size: samples in a batch; null for the experiment's.
    """


pretrainings = Family(
    "pretraining",
    summary="What the hidden layers learn from samples without labels, before training begins.",
    synonyms={
        "ae": "autoencoder",
        "dae": "denoising_autoencoder",
        "denoising": "denoising_autoencoder",
        "stacked_autoencoder": "greedy_autoencoder",
        "dbn": "rbm",
        "boltzmann": "rbm",
        "dcgan": "gan",
        "rotnet": "rotation",
        "mae": "masked",
        "bert": "masked",
        "simclr": "contrastive",
        "ranking": "max_margin",
    },
    shared=_shared,
)
"""A way of pretraining is a function of the network, the shape of a sample and the parts that layers are made of; it
returns the tasks that it sets, one after the other. It raises UsageError where the network or the samples do not fit.

PyTorch's layers draw their weights from the global generator as they are made. Whoever builds tasks seeds it before.
"""


@dataclass(frozen=True)
class Task:
    """Something to be learned from samples without labels.

    Attributes:
        model: what is trained. It holds layers of the network, the very same, under the names that they have there.
        loss: of its outputs and of what stands in place of targets; the mean over the samples of a batch.
        name: tells the tasks of one way of pretraining apart; empty where there is one only.
        raw: makes inputs and targets of samples before they are standardized; or None.
        prepared: makes inputs and targets of standardized samples, after `raw`; or None.
        views: how many different changes of each sample `data.augment` shall make; 1 leaves their shape (N, ...), more
            give (N, views, ...).
        metrics: figures measured beside the loss, by name.
        monitor: what decides which epoch's weights are kept; None for the loss.
        frozen: modules of the model that stay as they are, their noise switched off.
        from_zero_to_one: whether inputs must lie between 0 and 1.
    """

    model: nn.Module
    loss: Loss
    name: str = ""
    raw: Change | None = None
    prepared: Change | None = None
    views: int = 1
    metrics: Mapping[str, Metric] = field(default_factory=dict)
    monitor: Monitor | None = None
    frozen: Sequence[nn.Module] = ()
    from_zero_to_one: bool = False


class Above(nn.Module):
    """Base of what is trained: layers of the network, under their names, and what stands above them for a while.

    Args:
        layers: of the network from the bottom up; they are shared with it.
    """

    def __init__(self, layers: Mapping[str, nn.Module]) -> None:
        super().__init__()
        for name, layer in layers.items():
            self.add_module(name, layer)
        self._names = tuple(layers)

    def encode(self, x: Tensor, names: Sequence[str] | None = None) -> Tensor:
        """Pass samples through the layers of the network, or through some of them."""
        for name in self._names if names is None else names:
            x = self.get_submodule(name)(x)
        return x


class Headed(Above):
    """Layers of the network, and a head on top of them."""

    def __init__(self, layers: Mapping[str, nn.Module], head: nn.Module) -> None:
        super().__init__(layers)
        self.head = head

    @override
    def forward(self, x: Tensor) -> Tensor:
        outputs: Tensor = self.head(self.encode(x))
        return outputs


@dataclass(frozen=True)
class Mean:
    """The mean over the samples of a figure that each of them has.

    Attributes:
        figure: of each sample, (N,), by the outputs and what stands in place of targets.
    """

    figure: Callable[[Tensor, Tensor], Tensor]

    def sums(self, outputs: Tensor, targets: Tensor, /) -> Tensor:
        """Return the sum over the samples, of shape (1,)."""
        return self.figure(outputs, targets).sum().view(1)

    def value(self, sums: Tensor, count: int, /) -> float:
        """Divide by the number of samples."""
        return float(sums[0]) / count


def squared_error(outputs: Tensor, targets: Tensor) -> Tensor:
    """Return the mean of (outputs - targets)^2 over samples and values: two tensors (N, ...) to a scalar."""
    return functional.mse_loss(outputs.float(), targets.float())


def inputs_as_targets(x: Tensor, y: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Let samples be their own targets."""
    return x, x


def hidden_layers(network: nn.Module, name: str) -> dict[str, nn.Module]:
    """Return everything below the output layer, from the bottom up.

    Args:
        network: of the experiment.
        name: of the way of pretraining, for the message.

    Raises:
        UsageError: the network is no stack of layers below an output, or there is nothing below it.
    """
    layers = dict(network.named_children())
    if not isinstance(network, nn.Sequential) or OUTPUT not in layers:
        raise UsageError(f"{name} pretrains stacks of layers below an output, and this network is none")
    del layers[OUTPUT]
    if not any(True for layer in layers.values() for _ in layer.parameters()):
        raise UsageError(f"{name} has no hidden layer to pretrain: this network has an output layer only")
    return layers


def groups_of(layers: Mapping[str, nn.Module]) -> dict[str, dict[str, nn.Module]]:
    """Divide hidden layers into those with weights, each with what follows it and has none.

    What comes before the first one belongs to it.

    Args:
        layers: from the bottom up.

    Returns:
        the modules of each by its name.
    """
    groups: dict[str, dict[str, nn.Module]] = {}
    waiting: dict[str, nn.Module] = {}
    for name, layer in layers.items():
        if any(p.ndim > 1 for p in layer.parameters()):
            groups[name] = {**waiting, name: layer}
            waiting = {}
        elif groups:
            groups[list(groups)[-1]][name] = layer
        else:
            waiting[name] = layer
    return groups


def embedding_in(layers: Mapping[str, nn.Module]) -> str | None:
    """Return the name of the layer that looks up the vectors of tokens; None where samples are numbers."""
    return next((name for name, layer in layers.items() if isinstance(layer, nn.Embedding)), None)


def refuse_tokens(layers: Mapping[str, nn.Module], name: str) -> None:
    """Refuse samples that are tokens.

    Raises:
        UsageError: they are.
    """
    if embedding_in(layers) is not None:
        raise UsageError(
            f"{name} needs samples that are numbers, and these are tokens; masked and max_margin take them"
        )


def features_of(layers: Mapping[str, nn.Module], shape: tuple[int, ...]) -> int:
    """Return how many numbers the hidden layers make of a sample."""
    return math.prod(shapes_in(layers, shape)[-1])


def shapes_in(layers: Mapping[str, nn.Module], shape: tuple[int, ...]) -> list[tuple[int, ...]]:
    """Return the shape of one sample in front of each layer, and behind the last one."""
    x = torch.zeros(1, *shape)
    shapes = [tuple(x.shape[1:])]
    with torch.no_grad(), evaluating(*layers.values()):
        for layer in layers.values():
            x = layer(x)
            shapes.append(tuple(x.shape[1:]))
    return shapes
