"""What the scripts of all networks share: the lines of their layers, in the order of the forward pass."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from dnntrain.build.locating import chosen
from dnntrain.ejecting.layers import ACTIVATIONS, DROPOUTS, NORMALIZATIONS, define_initializer
from dnntrain.ejecting.script import Script, fill, signature
from dnntrain.registry import Choice
from dnntrain.spec import Spec

_DENSE: Final = '''
$head
    """Return a dense layer with drawn weights$zeros."""
    layer = nn.Linear(inputs, units$given)
    initialize(layer.weight, inputs, units, draws)
    $biases
    return layer
'''

_CONVOLUTION: Final = '''
$head
    """Return a convolution $about."""
    layer = nn.Conv2d(channels, filters, $kernel$stride$padding$given)
    $initialize(layer.weight, channels * $area, filters * $area, draws)
    $biases
    return layer
'''

_BY_ITSELF: Final = '''
class $name(nn.Module):
    """Applies a layer to each $what by itself: (N, T, F) to (N, T, G)."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x.flatten(0, 1)).unflatten(0, x.shape[:2])
'''

_FEATURES_FIRST: Final = '''
class FeaturesFirst(nn.Module):
    """Applies a layer that takes (N, F, T) to (N, T, F)."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x.transpose(1, 2)).transpose(1, 2)
'''

_OVER_SEQUENCES: Final = {
    "PerStep": fill(_BY_ITSELF, name="PerStep", what="step of a sequence"),
    "PerPatch": fill(_BY_ITSELF, name="PerPatch", what="patch"),
    "FeaturesFirst": _FEATURES_FIRST,
}

_STRIDE: Final = ("stride: int = 1",)
_BIAS: Final = ("bias: bool = True",)
_ZEROS: Final = "nn.init.zeros_(layer.bias)"


class Writer:
    """Writes the layers of a network, from the bottom up.

    Args:
        script: what takes definitions.
        spec: the experiment.
    """

    def __init__(self, script: Script, spec: Spec) -> None:
        self.script = script
        self.count: int = spec.model.architecture.entry.traits["depth"](spec.model.architecture.options)
        self._model = spec.model
        self._norm = chosen(spec.model.normalization)
        self._normalized = self._norm.build()
        hidden, output = chosen(spec.model.initializer), chosen(spec.model.output_initializer)
        self.initialize = hidden.name
        another = output.name == hidden.name and output != hidden
        self.initialize_output = f"output_{output.name}" if another else output.name
        self._initializers = (hidden, output)

    def define_initializers(self) -> None:
        """Define what draws the weights of hidden layers, if there are any, and of the output."""
        hidden, output = self._initializers
        if self.count:
            define_initializer(self.script, hidden, self.initialize)
        define_initializer(self.script, output, self.initialize_output)

    @property
    def norm_position(self) -> str:
        """Where a normalization stands, `before` or `after` the activation, or `none`."""
        return "none" if self._normalized.make is None else self._normalized.position

    def bias(self, features: Sequence[int], name: str) -> str:
        """Return the argument `bias` of hidden layers of so many features, or nothing where all have one."""
        if self.norm_position != "before":
            return ""
        drops = [self._normalized.drops_bias(each) for each in features]
        if all(drops):
            return ", bias=False"
        # Where a part of the layers is without: groups of a single channel.
        return f", bias={name} != {self._norm.options.groups}" if any(drops) else ""  # type: ignore[attr-defined]

    def input_norm(self, features: int, dims: int, *, within: str = "") -> list[str]:
        """Return the line of the normalization at the network's input, if there is to be one."""
        return self.norm("input_norm", str(features), dims, within=within) if self._normalized.at_input else []

    def input_dropouts(self, dims: int, *, within: str = "") -> list[str]:
        """Return the lines of the dropouts at the network's input."""
        drops = [each for each in self._model.dropout if each.build().at_input()]
        return self._numbered("input_dropout", drops, dims, within)

    def norm(self, name: str, features: str, dims: int, *, within: str = "") -> list[str]:
        """Return the line of a normalization, or nothing where the file wants none.

        Args:
            name: of the layer.
            features: how the number of them is called.
            dims: spatial dimensions of the signal.
            within: what it stands within, one of `_OVER_SEQUENCES`, if it does.
        """
        write = NORMALIZATIONS[self._norm.name]
        if write is None:
            return []
        return [layer(name, self.over_sequences(within, write(self.script, self._norm.options, features, dims)))]

    def over_sequences(self, within: str, made: str) -> str:
        """Return the expression that makes a layer, within one that applies it to sequences if it is to be so."""
        if not within:
            return made
        self.script.define(_OVER_SEQUENCES[within])
        return f"{within}({made})"

    def activation(self, features: str) -> str:
        """Return the expression that makes an activation."""
        choice = chosen(self._model.activation)
        return ACTIVATIONS[choice.name](self.script, choice.options, features)

    @property
    def activation_learns(self) -> bool:
        """Whether an activation has weights of its own."""
        return any(True for _ in chosen(self._model.activation).build().parameters())

    def norm_and_activation(self, suffix: str, features: str, dims: int) -> list[str]:
        """Return the lines of what follows a hidden layer right away.

        Args:
            suffix: what follows `norm` and `activation` in their names.
            features: how the number of what the layer gives is called.
            dims: spatial dimensions of the signal.
        """
        activation = [layer(f"activation{suffix}", self.activation(features))]
        norm = self.norm(f"norm{suffix}", features, dims)
        return norm + activation if self.norm_position == "before" else activation + norm

    def dropouts(self, dims: int) -> tuple[list[str], list[str]]:
        """Return the lines of the dropouts that follow every hidden layer, and those of the last one alone."""
        every: list[str] = []
        last: list[str] = []
        drops = [each for each in self._model.dropout if each.build().layers != "input"]
        for place, choice in enumerate(drops, start=1):
            suffix = "" if place == 1 else f"_{place}"
            made = DROPOUTS[choice.name](self.script, choice.options, dims)
            if choice.build().layers == "last":
                last.append(layer(f"dropout{self.count}{suffix}", made))
            else:
                # Where one of the last layer alone stands before this one, its turn is in the loop.
                every += [f"if number == {self.count}:\n    {line}" for line in last]
                last.clear()
                every.append(layer(f"dropout{{number}}{suffix}", made))
        return every, last

    def hidden_dropouts(self, name: str, dims: int, *, within: str = "") -> list[str]:
        """Return the lines of the dropouts that follow every hidden layer; they bear a name."""
        drops = [each for each in self._model.dropout if each.build().layers in ("hidden", "all")]
        return self._numbered(name, drops, dims, within)

    def last_dropouts(self, name: str) -> list[str]:
        """Return the lines of all dropouts that follow the last hidden layer; they bear a name."""
        drops = [each for each in self._model.dropout if each.build().layers != "input"]
        return self._numbered(name, drops, 0, "")

    def final_dropouts(self) -> list[str]:
        """Return the lines of the dropouts right in front of a residual network's output."""
        return self._numbered("dropout", [each for each in self._model.dropout if each.build().layers == "last"], 0, "")

    def _numbered(self, name: str, choices: list[Choice], dims: int, within: str) -> list[str]:
        made = [DROPOUTS[choice.name](self.script, choice.options, dims) for choice in choices]
        written = [self.over_sequences(within, each) for each in made]
        return [layer(name if i == 1 else f"{name}_{i}", each) for i, each in enumerate(written, start=1)]


def layer(name: str, made: str) -> str:
    """Return the line that puts a layer under a name, in which the number of the layer may stand."""
    return f'layers[{"f" if "{" in name else ""}"{name}"] = {made}'


def define_dense(script: Script, *, optional: bool) -> None:
    """Define `dense`.

    Args:
        script: what takes it.
        optional: whether some layers are without a bias.
    """
    parameters = ("inputs: int", "units: int", "initialize: Initializer", "draws: Generator")
    script.define("Initializer = Callable[[Tensor, int, int, Generator], None]")
    script.define(
        fill(
            _DENSE,
            head=signature("dense", [*parameters, *(_BIAS if optional else ())], "nn.Linear"),
            given=", bias=bias" if optional else "",
            zeros="" if optional else " and a bias of zeros",
            biases=f"if bias:\n        {_ZEROS}" if optional else _ZEROS,
        )
    )


def define_convolution(writer: Writer, filters: Sequence[int], kernel: int, *, strides: bool = False) -> None:
    """Define `convolution`.

    Args:
        writer: of the network.
        filters: of all convolutions.
        kernel: side of their window.
        strides: whether some make pictures smaller.
    """
    bias = writer.bias(filters, "filters")
    fixed = bias == ", bias=False"
    optional = _BIAS if bias and not fixed else ()
    parameters = ("channels: int", "filters: int", "draws: Generator", *(_STRIDE if strides else ()), *optional)
    made = fill(
        _CONVOLUTION,
        head=signature("convolution", parameters, "nn.Conv2d"),
        about="with drawn weights; a stride of 2 halves pictures"
        if strides
        else "that keeps the size of pictures, with drawn weights",
        kernel=kernel,
        stride=", stride" if strides else "",
        padding=f", padding={kernel // 2}" if kernel > 1 else "",
        area=kernel**2,
        initialize=writer.initialize,
        given=", bias=False" if fixed else ", bias=bias" if bias else "",
        biases="" if fixed else f"if bias:\n        {_ZEROS}" if bias else _ZEROS,
    )
    writer.script.define(made)


def called(bias: str) -> str:
    """Return the argument `bias` for a call of `convolution`, which gives none where no layer has one."""
    return bias.replace(", bias=False", "")
