"""The network of an experiment as a function that puts PyTorch's layers together."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, Final

from dnntrain import build
from dnntrain.build import Data
from dnntrain.build.locating import chosen
from dnntrain.ejecting.layers import ACTIVATIONS, DROPOUTS, NORMALIZATIONS, define_initializer
from dnntrain.ejecting.script import Script, fill, lines, signature
from dnntrain.parts.architectures.mlp import widths
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
    """Return a convolution that keeps the size of pictures, with drawn weights."""
    layer = nn.Conv2d(channels, filters, $kernel$padding$given)
    $initialize(layer.weight, channels * $area, filters * $area, draws)
    $biases
    return layer
'''

_BIAS: Final = ("bias: bool = True",)

_NETWORK: Final = '''
def make_network() -> nn.Sequential:
    """Return $about, with its first weights."""
    draws = generator("initialization")
    layers = OrderedDict()
$body
    return nn.Sequential(layers)
'''


class _Writer:
    """Writes the layers of a network, from the bottom up.

    Args:
        script: what takes definitions.
        spec: the experiment.
        count: how many hidden layers there are.
    """

    def __init__(self, script: Script, spec: Spec, count: int) -> None:
        self.script = script
        self._model = spec.model
        self._count = count
        self._norm = chosen(spec.model.normalization)
        self._normalized = self._norm.build()
        hidden, output = chosen(spec.model.initializer), chosen(spec.model.output_initializer)
        self.initialize = hidden.name
        another = output.name == hidden.name and output != hidden
        self.initialize_output = f"output_{output.name}" if another else output.name
        self._initializers = (hidden, output)

    def define_initializers(self) -> None:
        hidden, output = self._initializers
        if self._count:
            define_initializer(self.script, hidden, self.initialize)
        define_initializer(self.script, output, self.initialize_output)

    def bias(self, features: Sequence[int], name: str) -> str:
        """Return the argument `bias` of hidden layers of so many features, or nothing where all have one."""
        if self._normalized.make is None or self._normalized.position == "after":
            return ""
        drops = [self._normalized.drops_bias(each) for each in features]
        if all(drops):
            return ", bias=False"
        # Where a part of the layers is without: groups of a single channel.
        return f", bias={name} != {self._norm.options.groups}" if any(drops) else ""  # type: ignore[attr-defined]

    def at_input(self, features: int, dims: int) -> list[str]:
        """Return the lines of what stands at the network's input."""
        made = []
        write = NORMALIZATIONS[self._norm.name]
        if write is not None and self._normalized.at_input:
            made.append(_layer("input_norm", write(self.script, self._norm.options, str(features), dims)))
        drops = [each for each in self._model.dropout if each.build().at_input()]
        for number, choice in enumerate(drops, start=1):
            name = "input_dropout" if number == 1 else f"input_dropout_{number}"
            made.append(_layer(name, DROPOUTS[choice.name](self.script, choice.options, dims)))
        return made

    def norm_and_activation(self, features: str, dims: int) -> list[str]:
        """Return the lines of what follows a hidden layer, called `number`, right away."""
        choice = chosen(self._model.activation)
        activation = _layer("activation{number}", ACTIVATIONS[choice.name](self.script, choice.options, features))
        write = NORMALIZATIONS[self._norm.name]
        if write is None:
            return [activation]
        norm = _layer("norm{number}", write(self.script, self._norm.options, features, dims))
        return [norm, activation] if self._normalized.position == "before" else [activation, norm]

    def dropouts(self, dims: int) -> tuple[list[str], list[str]]:
        """Return the lines of the dropouts that follow every hidden layer, and those of the last one alone."""
        every: list[str] = []
        last: list[str] = []
        drops = [each for each in self._model.dropout if each.build().layers != "input"]
        for place, choice in enumerate(drops, start=1):
            suffix = "" if place == 1 else f"_{place}"
            made = DROPOUTS[choice.name](self.script, choice.options, dims)
            if choice.build().layers == "last":
                last.append(_layer(f"dropout{self._count}{suffix}", made))
            else:
                # Where one of the last layer alone stands before this one, its turn is in the loop.
                every += [f"if number == {self._count}:\n    {line}" for line in last]
                last.clear()
                every.append(_layer(f"dropout{{number}}{suffix}", made))
        return every, last


def _layer(name: str, made: str) -> str:
    return f'layers[{"f" if "{" in name else ""}"{name}"] = {made}'


def _mlp(writer: _Writer, spec: Spec, data: Data) -> tuple[str, list[str], str]:
    features = math.prod(data.shape)
    options: Any = spec.model.architecture.options
    body = [_layer("flatten", "nn.Flatten()"), *writer.at_input(features, 0)]
    dense, inputs = _dense_layers(writer, list(widths(options.hidden)), str(features), start=1)
    return "the multilayer perceptron", [*body, *dense], inputs


def _dense_layers(writer: _Writer, units: list[int], features: str, *, start: int) -> tuple[list[str], str]:
    """Return the lines of dense hidden layers, and how the number of what they give is called."""
    if not units:
        return [], features
    writer.script.constants(HIDDEN=units)
    dropouts, last = writer.dropouts(0)
    bias = writer.bias(units, "units")
    loop = [
        _layer("dense{number}", f"dense(inputs, units, {writer.initialize}, draws{bias})"),
        *writer.norm_and_activation("units", 0),
        *dropouts,
        "inputs = units",
    ]
    head = f"for number, units in enumerate(HIDDEN, start={start}):"
    return [f"inputs = {features}", head, lines(loop, 1), *last], "inputs"


def _cnn(writer: _Writer, spec: Spec, data: Data) -> tuple[str, list[str], str]:
    options: Any = spec.model.architecture.options
    channels, height, width = data.shape
    body = [*writer.at_input(channels, 2), *_convolutions(writer, options, channels)]
    halvings = 0 if options.pool == "none" else len(options.widths)
    pixels = 1 if options.head == "average" else (height >> halvings) * (width >> halvings)
    if options.head == "average":
        body.append(_layer("global_pool", "nn.AdaptiveAvgPool2d(1)"))
    body.append(_layer("flatten", "nn.Flatten()"))
    features = "channels" if pixels == 1 else f"channels * {pixels}"
    start = len(options.widths) * options.convolutions + 1
    dense, inputs = _dense_layers(writer, list(options.dense), features, start=start)
    return "the convolutional network", [*body, *dense], inputs


def _convolutions(writer: _Writer, options: Any, channels: int) -> list[str]:
    """Return the lines of the blocks of convolutions."""
    writer.script.constants(WIDTHS=list(options.widths))
    # Where none has a bias, `convolution` gives none.
    bias = writer.bias(options.widths, "filters").replace(", bias=False", "")
    made = f"convolution(channels, filters, draws{bias})"
    dropouts, last = writer.dropouts(2)
    layer = [_layer("conv{number}", made), *writer.norm_and_activation("filters", 2)]
    after = [*dropouts, "channels = filters"]
    last = [] if options.dense else last
    kind = {"max": "MaxPool2d", "average": "AvgPool2d", "none": ""}[options.pool]
    if options.convolutions == 1:
        pool = _layer("pool{number}", f"nn.{kind}(2)") if kind else ""
        head = "for number, filters in enumerate(WIDTHS, start=1):"
        return [f"channels = {channels}", head, lines([*layer, pool, *after], 1), *last]
    pool = f"if number % {options.convolutions} == 0:\n    {_layer('pool{block}', f'nn.{kind}(2)')}" if kind else ""
    return [
        f"channels, number = {channels}, 0",
        "for block, filters in enumerate(WIDTHS, start=1):" if kind else "for filters in WIDTHS:",
        f"    for _ in range({options.convolutions}):",
        lines(["number += 1", *layer, pool, *after], 2),
        *last,
    ]


Architecture = Callable[[_Writer, Spec, Data], tuple[str, list[str], str]]

ARCHITECTURES: Final[dict[str, Architecture]] = {"mlp": _mlp, "cnn": _cnn}
"""From the experiment and its data to what the network is called, the lines that put its layers together up to the
output, and how the number of their features is called."""


def define_network(script: Script, spec: Spec, data: Data) -> None:
    """Define `make_network` and what it needs."""
    script.heading("The network")
    options: Any = spec.model.architecture.options
    convolutional = spec.model.architecture.name == "cnn"
    units = list(options.dense) if convolutional else list(widths(options.hidden))
    filters = list(options.widths) if convolutional else []
    count = spec.model.architecture.entry.traits["depth"](options)
    writer = _Writer(script, spec, count)
    writer.define_initializers()
    if filters:
        _define_convolution(script, writer, options)
    _define_dense(script, writer, units)
    about, body, inputs = ARCHITECTURES[spec.model.architecture.name](writer, spec, data)
    output = f"dense({inputs}, {build.outputs(spec, data)}, {writer.initialize_output}, draws)"
    script.define(fill(_NETWORK, about=about, body=lines([*body, _layer("output", output)], 1)))


def _define_dense(script: Script, writer: _Writer, units: list[int]) -> None:
    optional = bool(units and writer.bias(units, "units"))
    zeros = "nn.init.zeros_(layer.bias)"
    parameters = ("inputs: int", "units: int", "initialize: Initializer", "draws: Generator")
    script.define("Initializer = Callable[[Tensor, int, int, Generator], None]")
    script.define(
        fill(
            _DENSE,
            head=signature("dense", [*parameters, *(_BIAS if optional else ())], "nn.Linear"),
            given=", bias=bias" if optional else "",
            zeros="" if optional else " and a bias of zeros",
            biases=f"if bias:\n        {zeros}" if optional else zeros,
        )
    )


def _define_convolution(script: Script, writer: _Writer, options: Any) -> None:
    bias = writer.bias(options.widths, "filters")
    fixed = bias == ", bias=False"
    zeros = "nn.init.zeros_(layer.bias)"
    parameters = ("channels: int", "filters: int", "draws: Generator")
    made = fill(
        _CONVOLUTION,
        head=signature("convolution", [*parameters, *(_BIAS if bias and not fixed else ())], "nn.Conv2d"),
        kernel=options.kernel,
        padding=f", padding={options.kernel // 2}" if options.kernel > 1 else "",
        area=options.kernel**2,
        initialize=writer.initialize,
        given=", bias=False" if fixed else ", bias=bias" if bias else "",
        biases="" if fixed else f"if bias:\n        {zeros}" if bias else zeros,
    )
    script.define(made)
