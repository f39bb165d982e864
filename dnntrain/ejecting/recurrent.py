"""Recurrent networks: layers that read a sequence step by step, and an output that judges by the last state."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from dnntrain.build import Data
from dnntrain.build.locating import chosen
from dnntrain.ejecting.layers import define_initializer
from dnntrain.ejecting.script import Script, call, fill, lines
from dnntrain.ejecting.writer import Writer, define_dense, layer
from dnntrain.parts.initializers import initializers
from dnntrain.spec import Spec

_ROWS: Final = '''
class Rows(nn.Module):
    """Reads pictures row by row: (N, C, H, W) to sequences (N, H, C W)."""

    def forward(self, x: Tensor) -> Tensor:
        return x.transpose(1, 2).flatten(2)
'''

_TOKENS: Final = '''
class Tokens(nn.Embedding):
    """Looks up the vectors of tokens: (N, T) to (N, T, $size)."""

    def __init__(self, draws: Generator) -> None:
        super().__init__($arguments)
        $initialize(self.weight, 1, $size, draws)
        $padding

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.long())
'''

_LAYER: Final = '''
class $name(nn.$base):
    """$title: (N, T, F) to (N, T, $width).

    $equation.
    Weights from step to step start as rotations, which keep the length of a state.
    """

    def __init__(self, features: int, draws: Generator) -> None:
        super().__init__(features, UNITS, $options)
        for name, parameter in self.named_parameters():
            if name.startswith("bias"):
                nn.init.zeros_(parameter)
            else:
                $choose
$draw
$forget

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x)[0]  # without the last states
'''

_ONE_MATRIX: Final = "$initialize(parameter, parameter.shape[1], UNITS, draws)"
_BY_GATE: Final = """
for matrix in parameter.detach().chunk($gates):  # one for each gate
    $initialize(matrix, matrix.shape[1], UNITS, draws)
"""
_FORGET: Final = "# The second of four gates forgets: it is open at first, so that memory lasts."

_RECURRENCE: Final = '''
class Recurrence(nn.Module):
    """h_t = activation(W x_t + b + U h_(t-1)): (N, T, F) to (N, T, UNITS).

    U starts as a rotation, which keeps the length of a state.
    """

    def __init__(self, features: int, draws: Generator) -> None:
        super().__init__()
        self.input = dense(features, UNITS, $initialize, draws)
        self.recurrent = dense(UNITS, UNITS, $rotate, draws, bias=False)
        self.activation = $activation

    def forward(self, x: Tensor) -> Tensor:
        inputs = self.input(x)
        state = self.activation(inputs[:, 0])
        states = [state]
        for step in inputs.unbind(1)[1:]:
            state = self.activation(step + self.recurrent(state))
            states.append(state)
        return torch.stack(states, dim=1)
'''

_BOTH_DIRECTIONS: Final = '''
class BothDirections(nn.Module):
    """Reads sequences from both ends: (N, T, F) to (N, T, 2 UNITS)."""

    def __init__(self, features: int, draws: Generator) -> None:
        super().__init__()
        self.onward = Recurrence(features, draws)
        self.backward = Recurrence(features, draws)

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat((self.onward(x), self.backward(x.flip(1)).flip(1)), dim=-1)
'''

_LAST: Final = '''
class LastState(nn.Module):
    """Keeps the last step: (N, T, UNITS) to (N, UNITS)."""

    def forward(self, x: Tensor) -> Tensor:
        return x[:, -1]
'''

_LAST_OF_BOTH: Final = '''
class LastState(nn.Module):
    """Keeps each direction's last step: (N, T, 2 UNITS) to (N, 2 UNITS)."""

    def forward(self, x: Tensor) -> Tensor:
        onward, backward = x.chunk(2, dim=-1)
        return torch.cat((onward[:, -1], backward[:, 0]), dim=-1)
'''


@dataclass(frozen=True)
class _Kind:
    """One of PyTorch's recurrent layers.

    Attributes:
        name: of the class in the script.
        base: of the class in PyTorch.
        title: what the layer is.
        equation: what it does.
        gates: how many matrices lie on top of each other in a weight.
    """

    name: str
    base: str
    title: str
    equation: str
    gates: int


_KINDS: Final = {
    "rnn": _Kind("RnnLayer", "RNN", "A recurrent layer", "h_t = {activation}(W x_t + b + U h_(t-1) + c)", gates=1),
    "lstm": _Kind(
        "LstmLayer",
        "LSTM",
        "A layer of long short-term memory",
        "c_t = f c_(t-1) + i g and h_t = o tanh(c_t), with the gates i, f and o",
        gates=4,
    ),
    "gru": _Kind(
        "GruLayer",
        "GRU",
        "A layer of gated recurrent units",
        "h_t = (1 - z) n + z h_(t-1), n = tanh(W x_t + b + r (U h_(t-1) + c))",
        gates=3,
    ),
}


def recurrent(writer: Writer, spec: Spec, data: Data) -> tuple[list[str], str]:
    """Define the layers of a recurrent network, and return the lines of a network of them."""
    script, name = writer.script, spec.model.architecture.name
    options: Any = spec.model.architecture.options
    script.constants(UNITS=options.units)
    width = "2 * UNITS" if options.bidirectional else "UNITS"
    rotate = _define_rotation(writer, spec)
    reader, features = _define_reader(writer, options, data)
    if name == "rnn" and chosen(spec.model.activation).name not in ("tanh", "relu"):
        kind = _define_recurrence(script, writer, rotate, bidirectional=options.bidirectional)
    else:
        define_dense(script, optional=False)
        kind = _define_layer(script, writer, spec, rotate)
    script.define(_LAST_OF_BOTH if options.bidirectional else _LAST)
    body = [
        *reader,
        *writer.input_norm(features, 0, within="PerStep"),
        *writer.input_dropouts(1, within="FeaturesFirst"),
    ]
    inputs = str(features)
    if options.layers > 1:
        body += _all_but_last(writer, options.layers, name, kind, inputs, width)
        inputs = width
    number = "{LAYERS}" if options.layers > 2 else str(options.layers)
    body += [
        layer(f"{name}{number}", f"{kind}({inputs}, draws)"),
        layer("last", "LastState()"),
        *writer.norm(f"norm{number}", width, 0),
        *writer.last_dropouts(f"dropout{number}"),
    ]
    return body, width


def _all_but_last(writer: Writer, layers: int, name: str, kind: str, inputs: str, width: str) -> list[str]:
    """Return the lines of the layers below the last one: in a loop where there are several.

    Args:
        writer: of the network.
        layers: how many there are with the last one.
        name: what they are called, without their number.
        kind: the class of each.
        inputs: how the number of features of a step is called.
        width: how the number of what a layer gives is called.
    """
    number = "1" if layers == 2 else "{number}"
    between = [
        *writer.norm(f"norm{number}", width, 0, within="PerStep"),
        *writer.hidden_dropouts(f"dropout{number}", 1, within="FeaturesFirst"),
    ]
    if layers == 2:
        return [layer(f"{name}1", f"{kind}({inputs}, draws)"), *between]
    writer.script.constants(LAYERS=layers)
    return [
        f"features = {inputs}",
        "for number in range(1, LAYERS):",
        lines([layer(f"{name}{number}", f"{kind}(features, draws)"), *between, f"features = {width}"], 1),
    ]


def _define_rotation(writer: Writer, spec: Spec) -> str:
    """Define what draws the weights from step to step, and return its name."""
    rotation = chosen(initializers.choose("orthogonal"))
    others = (chosen(spec.model.initializer), chosen(spec.model.output_initializer))
    taken = any(each.name == rotation.name and each != rotation for each in others)
    return define_initializer(writer.script, rotation, "rotation" if taken else rotation.name)


def _define_reader(writer: Writer, options: Any, data: Data) -> tuple[list[str], int]:
    """Define what turns samples into sequences; return the line that makes it and the features of a step."""
    if options.embedding is not None:
        embedding = options.embedding
        padding = {} if embedding.padding is None else {"padding_idx": embedding.padding}
        writer.script.define(
            fill(
                _TOKENS,
                size=embedding.size,
                arguments=call("", embedding.vocabulary, embedding.size, **padding)[1:-1],
                initialize=writer.initialize,
                padding=f"nn.init.zeros_(self.weight[{embedding.padding}])" if padding else "",
            )
        )
        return [layer("tokens", "Tokens(draws)")], embedding.size
    if len(data.shape) == 2:
        return [], data.shape[1]
    writer.script.define(_ROWS)
    return [layer("rows", "Rows()")], data.shape[0] * data.shape[2]


def _define_layer(script: Script, writer: Writer, spec: Spec, rotate: str) -> str:
    """Define one of PyTorch's own recurrent layers with drawn weights, and return its name."""
    options: Any = spec.model.architecture.options
    kind = _KINDS[spec.model.architecture.name]
    activation = chosen(spec.model.activation).name
    given = ['nonlinearity="relu"'] if activation == "relu" else []
    given += ["batch_first=True", *(["bidirectional=True"] if options.bidirectional else [])]
    biases = ["bias_ih_l0", *(["bias_ih_l0_reverse"] if options.bidirectional else [])]
    forget = [_FORGET, *(f"nn.init.ones_(self.{bias}[UNITS : 2 * UNITS])" for bias in biases)]
    both = writer.initialize == rotate
    draw = _ONE_MATRIX if kind.gates == 1 else _BY_GATE
    script.define(
        fill(
            _LAYER,
            name=kind.name,
            base=kind.base,
            title=kind.title,
            equation=kind.equation.format(activation=activation),
            width="2 UNITS" if options.bidirectional else "UNITS",
            options=", ".join(given),
            choose="" if both else f'initialize = {writer.initialize} if "_ih_" in name else {rotate}',
            draw=lines([fill(draw, gates=kind.gates, initialize=rotate if both else "initialize")], 4),
            forget=lines(forget if kind.base == "LSTM" else [], 2),
        )
    )
    return kind.name


def _define_recurrence(script: Script, writer: Writer, rotate: str, *, bidirectional: bool) -> str:
    """Define a recurrent layer of an activation that PyTorch's own do not have, and return its name."""
    define_dense(script, optional=True)
    activation = writer.activation("UNITS")
    script.define(fill(_RECURRENCE, initialize=writer.initialize, rotate=rotate, activation=activation))
    if not bidirectional:
        return "Recurrence"
    script.define(_BOTH_DIRECTIONS)
    return "BothDirections"
