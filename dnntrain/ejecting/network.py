"""The network of an experiment as a function that puts PyTorch's layers together."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Final

from dnntrain import build
from dnntrain.build import Data
from dnntrain.ejecting.recurrent import recurrent
from dnntrain.ejecting.residual import resnet, wide_resnet
from dnntrain.ejecting.script import Script, fill, lines
from dnntrain.ejecting.transformer import vit
from dnntrain.ejecting.writer import Writer, called, define_convolution, define_dense, layer
from dnntrain.parts.architectures.mlp import widths
from dnntrain.spec import Spec

_NETWORK: Final = '''
def make_network() -> nn.Sequential:
    """Return the $about, with its first weights."""
    draws = generator("initialization")
    layers = OrderedDict()
$body
    return nn.Sequential(layers)
'''


def _mlp(writer: Writer, spec: Spec, data: Data) -> tuple[list[str], str]:
    features = math.prod(data.shape)
    options: Any = spec.model.architecture.options
    units = list(widths(options.hidden))
    define_dense(writer.script, optional=bool(units and writer.bias(units, "units")))
    body = [layer("flatten", "nn.Flatten()"), *writer.input_norm(features, 0), *writer.input_dropouts(0)]
    dense, inputs = _dense_layers(writer, units, str(features), start=1)
    return [*body, *dense], inputs


def _dense_layers(writer: Writer, units: list[int], features: str, *, start: int) -> tuple[list[str], str]:
    """Return the lines of dense hidden layers, and how the number of what they give is called."""
    if not units:
        return [], features
    writer.script.constants(HIDDEN=units)
    dropouts, last = writer.dropouts(0)
    bias = writer.bias(units, "units")
    loop = [
        layer("dense{number}", f"dense(inputs, units, {writer.initialize}, draws{bias})"),
        *writer.norm_and_activation("{number}", "units", 0),
        *dropouts,
        "inputs = units",
    ]
    head = f"for number, units in enumerate(HIDDEN, start={start}):"
    return [f"inputs = {features}", head, lines(loop, 1), *last], "inputs"


def _cnn(writer: Writer, spec: Spec, data: Data) -> tuple[list[str], str]:
    options: Any = spec.model.architecture.options
    units = list(options.dense)
    define_convolution(writer, options.widths, options.kernel)
    define_dense(writer.script, optional=bool(units and writer.bias(units, "units")))
    channels, height, width = data.shape
    body = [*writer.input_norm(channels, 2), *writer.input_dropouts(2), *_convolutions(writer, options, channels)]
    halvings = 0 if options.pool == "none" else len(options.widths)
    pixels = 1 if options.head == "average" else (height >> halvings) * (width >> halvings)
    if options.head == "average":
        body.append(layer("global_pool", "nn.AdaptiveAvgPool2d(1)"))
    body.append(layer("flatten", "nn.Flatten()"))
    features = "channels" if pixels == 1 else f"channels * {pixels}"
    start = len(options.widths) * options.convolutions + 1
    dense, inputs = _dense_layers(writer, units, features, start=start)
    return [*body, *dense], inputs


def _convolutions(writer: Writer, options: Any, channels: int) -> list[str]:
    """Return the lines of the blocks of convolutions."""
    writer.script.constants(WIDTHS=list(options.widths))
    made = f"convolution(channels, filters, draws{called(writer.bias(options.widths, 'filters'))})"
    dropouts, last = writer.dropouts(2)
    conv = [layer("conv{number}", made), *writer.norm_and_activation("{number}", "filters", 2)]
    after = [*dropouts, "channels = filters"]
    last = [] if options.dense else last
    kind = {"max": "MaxPool2d", "average": "AvgPool2d", "none": ""}[options.pool]
    if options.convolutions == 1:
        pool = layer("pool{number}", f"nn.{kind}(2)") if kind else ""
        head = "for number, filters in enumerate(WIDTHS, start=1):"
        return [f"channels = {channels}", head, lines([*conv, pool, *after], 1), *last]
    pool = f"if number % {options.convolutions} == 0:\n    {layer('pool{block}', f'nn.{kind}(2)')}" if kind else ""
    return [
        f"channels, number = {channels}, 0",
        "for block, filters in enumerate(WIDTHS, start=1):" if kind else "for filters in WIDTHS:",
        f"    for _ in range({options.convolutions}):",
        lines(["number += 1", *conv, pool, *after], 2),
        *last,
    ]


Architecture = Callable[[Writer, Spec, Data], tuple[list[str], str]]

ARCHITECTURES: Final[dict[str, tuple[str, Architecture]]] = {
    "mlp": ("multilayer perceptron", _mlp),
    "cnn": ("convolutional network", _cnn),
    "resnet": ("residual network", resnet),
    "wide_resnet": ("wide residual network", wide_resnet),
    "vit": ("vision transformer", vit),
    "rnn": ("recurrent network", recurrent),
    "lstm": ("recurrent network of LSTM layers", recurrent),
    "gru": ("recurrent network of GRU layers", recurrent),
}
"""What each architecture is called, and a function from the experiment and its data to the lines that put its layers
together up to the output, and how the number of their features is called. It defines what these lines need."""


def title_of(spec: Spec) -> str:
    """Return what the network of an experiment is called."""
    return ARCHITECTURES[spec.model.architecture.name][0]


def define_network(script: Script, spec: Spec, data: Data) -> None:
    """Define `make_network` and what it needs."""
    script.heading("The network")
    writer = Writer(script, spec)
    writer.define_initializers()
    about, write = ARCHITECTURES[spec.model.architecture.name]
    body, inputs = write(writer, spec, data)
    output = f"dense({inputs}, {build.outputs(spec, data)}, {writer.initialize_output}, draws)"
    script.define(fill(_NETWORK, about=about, body=lines([*body, layer("output", output)], 1)))
