"""What every architecture is given, what the family wants to know of each, and the layers that they share."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor, nn
from typing_extensions import override

from dnntrain.errors import Problem, SpecError
from dnntrain.parts.dropouts import Dropout
from dnntrain.parts.initializers import Fans, fans_of
from dnntrain.parts.normalizations import InstanceNorm, Normalization
from dnntrain.registry import Family, Options, PositiveInt

architectures = Family(
    "architecture",
    summary="Networks.",
    traits={
        "depth": None,
        "standardize": "feature",
        "activation": None,
        "normalization": None,
        "vocabulary": None,
        "own_parts": False,
        "pretrained": None,
        "problems": None,
    },
    synonyms={
        "dense": "mlp",
        "feedforward": "mlp",
        "fully_connected": "mlp",
        "dnn": "mlp",
        "convnet": "cnn",
        "wrn": "wide_resnet",
        "transformer": "vit",
    },
)
"""Traits:

- `depth`: a function from the options to the number of hidden layers, on which defaults depend;
- `standardize`: how its inputs are standardized unless the file says otherwise;
- `activation`, `normalization`: what `auto` picks here, for architectures that have a custom of their own; None where
  depth decides;
- `vocabulary`: a function from the options to the number of tokens that its inputs may name, or None where they are no
  tokens. Tokens are never standardized;
- `own_parts`: whether it brings activations, normalizations, dropouts and the initializers of hidden layers with it, so
  that a file cannot choose them;
- `pretrained`: a function from the options to the moments that its inputs are standardized by where it comes with
  weights that were trained, and None where they are new;
- `problems`: a function from the options to what cannot be about them: option, message and hint of each.
"""

Depth = Callable[[Options], int]
Initialize = Callable[[Tensor, Fans], None]
Widths = Annotated[tuple[PositiveInt, ...], Field(strict=False)]


@dataclass(frozen=True)
class Moments:
    """Mean and deviation of each channel of the pictures that a network was trained with, on the scale from 0 to 1."""

    mean: tuple[float, ...]
    deviation: tuple[float, ...]


@dataclass(frozen=True)
class Blocks:
    """The parts that a network is made of, chosen by the experiment file.

    Attributes:
        activation: builds the activation of a hidden layer.
        normalization: what normalizes, and where.
        dropouts: what drops out, and where.
        initialize: draws the weights of a hidden layer, in place.
        initialize_output: draws the weights of the output layer, in place.
        initialize_recurrent: draws the weights from one step's state to the next one's, in place.
        pretrained: whether layers may be read that were trained elsewhere; else all weights are new, such as where
            others take their place at once.
    """

    activation: Callable[[], nn.Module]
    normalization: Normalization
    dropouts: Sequence[Dropout]
    initialize: Initialize
    initialize_output: Initialize
    initialize_recurrent: Initialize
    pretrained: bool = True

    def needs_bias(self, features: int) -> bool:
        """Whether a layer needs a bias of its own where its normalization stands as the file says.

        A normalization right behind the layer that subtracts the mean of each feature takes any bias away again.

        Args:
            features: what the layer gives.
        """
        norm = self.normalization
        return norm.make is None or norm.position == "after" or not norm.drops_bias(features)

    def norm(self, name: str, features: int, dims: int) -> dict[str, nn.Module]:
        """Return a normalization under its name, or nothing where the file wants none."""
        make = self.normalization.make
        return {} if make is None else {name: make(features, dims)}

    def norm_and_activation(self, suffix: str, features: int, dims: int) -> dict[str, nn.Module]:
        """Return a normalization and an activation, named and in the order that the file wants.

        Args:
            suffix: what follows `norm` and `activation` in their names.
            features: what the normalization works on.
            dims: spatial dimensions of the signal.
        """
        norm = self.norm(f"norm{suffix}", features, dims)
        activation = {f"activation{suffix}": self.activation()}
        return {**norm, **activation} if self.normalization.position == "before" else {**activation, **norm}

    def input_norm(self, features: int, dims: int) -> dict[str, nn.Module]:
        """Return the normalization at the network's input, if there is to be one."""
        return self.norm("input_norm", features, dims) if self.normalization.at_input else {}

    def input_dropouts(self, dims: int) -> dict[str, nn.Module]:
        """Return the dropouts at the network's input."""
        return numbered("input_dropout", [drop.make(dims) for drop in self.dropouts if drop.at_input()])

    def hidden_dropouts(self, name: str, dims: int, layer: int, count: int) -> dict[str, nn.Module]:
        """Return the dropouts that follow hidden layer number `layer` (from 1) of `count`."""
        return numbered(name, [drop.make(dims) for drop in self.dropouts if drop.after_hidden(layer, count)])

    def branch_dropouts(self, name: str, dims: int) -> dict[str, nn.Module]:
        """Return the dropouts of a residual branch: those that follow every hidden layer.

        One that follows the last layer alone belongs to the features in front of the output; see `final_dropouts`.
        """
        return numbered(name, [drop.make(dims) for drop in self.dropouts if drop.layers in ("hidden", "all")])

    def final_dropouts(self) -> dict[str, nn.Module]:
        """Return the dropouts of a residual network's features, right in front of its output."""
        return numbered("dropout", [drop.make(0) for drop in self.dropouts if drop.layers == "last"])


class Stack:
    """Piles up layers in the order of the forward pass, each with its normalization, activation and dropouts.

    Args:
        blocks: the parts that each layer is made of.
        hidden: how many hidden layers there will be.
    """

    def __init__(self, blocks: Blocks, hidden: int) -> None:
        self._blocks = blocks
        self._hidden = hidden
        self._layers: OrderedDict[str, nn.Module] = OrderedDict()
        self._done = 0

    def add(self, layers: dict[str, nn.Module]) -> None:
        """Put named layers on top."""
        self._layers.update(layers)

    def open(self, features: int, dims: int) -> None:
        """Put on top what stands at the network's input."""
        self.add(self._blocks.input_norm(features, dims))
        self.add(self._blocks.input_dropouts(dims))

    def hidden(
        self,
        kind: str,
        make: Callable[..., nn.Module],
        features: int,
        dims: int,
        *,
        pool: dict[str, nn.Module] | None = None,
    ) -> None:
        """Put a hidden layer on top: dropout(pool(activation(norm(layer)))), or with norm and activation exchanged.

        Args:
            kind: what the layer is called; its number follows.
            make: builds it; is told whether it needs a `bias`.
            features: what it gives.
            dims: spatial dimensions of what it gives.
            pool: makes pictures smaller behind the activation.
        """
        self._done += 1
        number = self._done
        self.add({f"{kind}{number}": make(bias=self._blocks.needs_bias(features))})
        self.add(self._blocks.norm_and_activation(str(number), features, dims))
        self.add(pool or {})
        self.add(self._blocks.hidden_dropouts(f"dropout{number}", dims, number, self._hidden))

    def sequential(self) -> nn.Sequential:
        """Return the network."""
        return nn.Sequential(self._layers)


class PerStep(nn.Module):
    """Apply a layer to every step of a sequence by itself: (N, T, F) to (N, T, G) for a layer of (N, F) to (N, G)."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    @override
    def forward(self, x: Tensor) -> Tensor:
        steps: Tensor = self.layer(x.flatten(0, 1))
        return torch.unflatten(steps, 0, x.shape[:2])


class FeaturesFirst(nn.Module):
    """Apply a layer that expects (N, F, T) to a sequence (N, T, F)."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    @override
    def forward(self, x: Tensor) -> Tensor:
        features: Tensor = self.layer(x.transpose(1, 2))
        return features.transpose(1, 2)


def over_sequences(wrapper: Callable[[nn.Module], nn.Module], layers: dict[str, nn.Module]) -> dict[str, nn.Module]:
    """Wrap named layers so that they take sequences (N, T, F)."""
    return {name: wrapper(layer) for name, layer in layers.items()}


def dense(features: int, units: int, initialize: Initialize, *, bias: bool = True) -> nn.Linear:
    """Return a dense layer with its weights drawn and its bias, if it has one, zero."""
    layer = nn.Linear(features, units, bias=bias)
    initialize(layer.weight, fans_of(layer.weight.shape, "dense"))
    if bias:
        nn.init.zeros_(layer.bias)
    return layer


def convolution(
    channels: int, filters: int, kernel: int, initialize: Initialize, *, stride: int = 1, bias: bool = True
) -> nn.Conv2d:
    """Return a convolution that keeps the size of pictures (at stride 1), its weights drawn and its bias zero.

    Args:
        channels: of its input.
        filters: channels of its output.
        kernel: side of the window, odd.
        initialize: draws the weights.
        stride: pixels from one window to the next.
        bias: whether it has one.
    """
    layer = nn.Conv2d(channels, filters, kernel, stride=stride, padding=kernel // 2, bias=bias)
    initialize(layer.weight, fans_of(layer.weight.shape, "conv"))
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
    return layer


@torch.no_grad()
def draw_stacked(weight: Tensor, matrices: int, initialize: Initialize) -> None:
    """Draw the matrices (out, in) that lie on top of each other in one weight, each with its own fans."""
    fans = fans_of(weight.shape, "stacked", matrices=matrices)
    for matrix in weight.chunk(matrices):
        initialize(matrix, fans)


def global_average(blocks: Blocks, channels: int, *, behind_norm: bool) -> dict[str, nn.Module]:
    """Return the layers that take each channel's mean over the picture: (N, C, H, W) to (N, C).

    Args:
        blocks: the parts of the layers in front.
        channels: of the picture.
        behind_norm: whether a normalization of position `after` comes right before.

    Raises:
        SpecError: it would give each channel of each picture the same mean, so that all pictures looked alike.
    """
    norm = blocks.normalization
    if behind_norm and norm.make is not None and norm.position == "after" and _levels(norm.make(channels, 2)):
        raise misfit(
            "model.normalization.position is after, so the mean of each channel of each picture is taken away right "
            "before the network averages over the picture: all pictures would look alike",
            "write position: before, or another normalization",
        )
    return {"global_pool": nn.AdaptiveAvgPool2d(1), "flatten": nn.Flatten()}


def _levels(norm: nn.Module) -> bool:
    """Whether a normalization makes the mean of each channel of each picture the same."""
    return isinstance(norm, InstanceNorm) or (isinstance(norm, nn.GroupNorm) and norm.num_groups == norm.num_channels)


def picture_shape(architecture: str, shape: tuple[int, ...]) -> tuple[int, int, int]:
    """Return channels, height and width of an input sample.

    Raises:
        SpecError: samples are not pictures.
    """
    if len(shape) != 3:
        raise misfit(
            f"model.architecture is {architecture}, which needs pictures (channels, height, width), "
            f"but a sample of this data has the shape {shape}",
            "use an mlp, or a data set of pictures",
        )
    channels, height, width = shape
    return channels, height, width


def misfit(message: str, hint: str = "") -> SpecError:
    """Return the error for a network that cannot be built of what the file and the data say.

    Args:
        message: what does not fit: the YAML key and the numbers.
        hint: how to mend it.
    """
    return SpecError([Problem(message, hint=hint)])


def numbered(name: str, layers: Sequence[nn.Module]) -> dict[str, nn.Module]:
    """Name layers of one kind: `name`, `name_2`, `name_3`."""
    return {name if i == 1 else f"{name}_{i}": layer for i, layer in enumerate(layers, start=1)}
