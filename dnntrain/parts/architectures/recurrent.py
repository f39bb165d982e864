"""Recurrent networks: rnn, lstm and gru read a sequence step by step and judge by their last state."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import partial
from typing import Annotated, Any

import torch
from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError
from torch import Tensor, nn
from typing_extensions import override

from dnntrain.parts.architectures.base import (
    Blocks,
    FeaturesFirst,
    Initialize,
    PerStep,
    Stack,
    architectures,
    dense,
    draw_stacked,
    misfit,
    over_sequences,
)
from dnntrain.parts.initializers import fans_of
from dnntrain.registry import NonNegativeInt, Options, PositiveInt

ORTHOGONAL = "arXiv:1312.6120 for the orthogonal recurrent weights"


class TokenEmbedding(Options):
    """Turns tokens into vectors."""

    vocabulary: Annotated[PositiveInt, Field(description="how many tokens there are; they are 0 to vocabulary - 1")]
    size: Annotated[PositiveInt, Field(description="numbers in the vector of a token")] = 64
    padding: Annotated[
        NonNegativeInt | None, Field(description="the token that fills up short sequences; its vector stays zero")
    ] = None

    @model_validator(mode="after")
    def _padding_is_a_token(self) -> TokenEmbedding:
        if self.padding is not None and self.padding >= self.vocabulary:
            raise PydanticCustomError(
                "padding",
                "padding must be one of the {vocabulary} tokens",
                {"vocabulary": self.vocabulary, "hint": f"tokens count from 0 to {self.vocabulary - 1}"},
            )
        return self


class Rows(nn.Module):
    """Read a picture row by row: (N, C, H, W) to a sequence (N, H, C W), whose step t is row t of every channel."""

    @override
    def forward(self, x: Tensor) -> Tensor:
        return x.transpose(1, 2).flatten(2)


class Tokens(nn.Embedding):
    """Look up the vectors of tokens: (N, T), whole numbers of any type, to (N, T, size)."""

    @override
    def forward(self, input: Tensor) -> Tensor:
        # Samples arrive as float32, which holds whole numbers up to 2^24 exactly.
        return super().forward(input.long())


class LastState(nn.Module):
    """Keep what each direction has said once it has read everything: (N, T, D units) to (N, D units).

    That is the last step of the forward direction, and the first one of the backward direction.
    """

    def __init__(self, *, bidirectional: bool) -> None:
        super().__init__()
        self._bidirectional = bidirectional

    @override
    def forward(self, x: Tensor) -> Tensor:
        if not self._bidirectional:
            return x[:, -1]
        forward, backward = x.chunk(2, dim=-1)
        return torch.cat((forward[:, -1], backward[:, 0]), dim=-1)


class SequenceLayer(nn.RNNBase):
    """Makes one of PyTorch's recurrent layers a link in a chain: (N, T, F) to (N, T, D units), and no more.

    PyTorch's return their last states beside the sequence, and on CUDA they move their parameters into one piece of
    memory whenever they find them changed. An optimizer may hold the parameters in a buffer of its own, and would then
    go on updating what no layer reads any more, so they stay where they are; cuDNN copies them together at each call.
    """

    @override
    def flatten_parameters(self) -> None:
        pass

    @override
    def forward(self, x: Tensor) -> Tensor:
        if not x.is_cuda:
            sequence: Tensor = super().forward(x)[0]
            return sequence
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="RNN module weights are not part of single contiguous chunk")
            sequence = super().forward(x)[0]
            return sequence


class RnnLayer(SequenceLayer, nn.RNN):  # type: ignore[misc]
    """A simple recurrent layer, with tanh or relu."""


class LstmLayer(SequenceLayer, nn.LSTM):  # type: ignore[misc]
    """A layer of long short-term memory."""


class GruLayer(SequenceLayer, nn.GRU):  # type: ignore[misc]
    """A layer of gated recurrent units."""


class Recurrence(nn.Module):
    """A simple recurrent layer with any activation: h_t = activation(W x_t + b + U h_{t-1}), h_0 = 0.

    (N, T, F) to (N, T, units). W x_t is computed for all steps at once; the rest goes step by step, in Python, so it is
    slower than PyTorch's own tanh and relu.
    """

    def __init__(
        self,
        features: int,
        units: int,
        activation: nn.Module,
        initialize: Initialize,
        initialize_recurrent: Initialize,
    ) -> None:
        super().__init__()
        self.input = dense(features, units, initialize)
        self.recurrent = dense(units, units, initialize_recurrent, bias=False)
        self.activation = activation

    @override
    def forward(self, x: Tensor) -> Tensor:
        inputs: Tensor = self.input(x)
        state: Tensor = self.activation(inputs[:, 0])
        states = [state]
        for step in inputs.unbind(1)[1:]:
            state = self.activation(step + self.recurrent(state))
            states.append(state)
        return torch.stack(states, dim=1)


class BothDirections(nn.Module):
    """Read a sequence from both ends: (N, T, F) to (N, T, 2 units), step t of both beside each other."""

    def __init__(self, onward: Recurrence, backward: Recurrence) -> None:
        super().__init__()
        self.onward, self.backward = onward, backward

    @override
    def forward(self, x: Tensor) -> Tensor:
        return torch.cat((self.onward(x), self.backward(x.flip(1)).flip(1)), dim=-1)


def depth(options: Any) -> int:
    """Return the number of hidden layers of a recurrent network with these options."""
    return int(options.layers)


def vocabulary(options: Any) -> int | None:
    """Return how many tokens the inputs may name, or None where they are numbers."""
    return None if options.embedding is None else int(options.embedding.vocabulary)


TRAITS: dict[str, Any] = {
    "depth": depth,
    "standardize": "feature",
    "activation": "tanh",
    "normalization": "none",
    "vocabulary": vocabulary,
}


@architectures.register(
    "rnn",
    equation="h_t = activation(W x_t + U h_{t-1} + b), logits = V h_T + c",
    cite=f"Elman 1990, Finding structure in time; {ORTHOGONAL}",
    example={"name": "rnn", "units": 64},
    **TRAITS,
)
def rnn(
    shape: tuple[int, ...],
    outputs: int,
    blocks: Blocks,
    /,
    *,
    units: PositiveInt = 64,
    layers: PositiveInt = 1,
    bidirectional: bool = False,
    embedding: TokenEmbedding | None = None,
) -> nn.Sequential:
    """Simple recurrent layers: sequences to logits (N, outputs).

    Takes sequences (N, T, F); pictures (N, C, H, W), read row by row as T = H steps of F = C W numbers; and, through an
    embedding, tokens (N, T). The last state of the last layer makes the logits.

    W is drawn by `initializer`. U is orthogonal whatever `initializer` says, drawn from the same stream of random
    numbers: it is applied once a step, and any other matrix of that size stretches some states and shrinks others,
    again and again; an orthogonal one keeps their length at first. b is 0. PyTorch's layer has two biases where one
    would do. `activation: auto` is tanh here. tanh and relu run in PyTorch's own code; any other activation works too,
    step by step and slower.

    Normalization stands after each layer's activation, at each step (for the last layer: at the last step), wherever
    `position` puts it, and `auto` is none; dropout follows it, and never touches the path from step to step.

    Args:
        shape: of one input sample: (T, F), (C, H, W), or (T,) for tokens.
        outputs: number of logits.
        blocks: the parts that each layer is made of.
        units: size of the state of each layer, and direction.
        layers: recurrent layers on top of each other.
        bidirectional: read from the end as well, in each layer, with units of its own.
        embedding: for tokens, such as {vocabulary: 10000, size: 64}; with `padding: 0`, token 0 stands for nothing.
            Pad in front: the last step is the one that counts.

    Raises:
        SpecError: samples are neither sequences nor pictures, or are not tokens where an embedding is given.
    """
    kind = type(blocks.activation())
    if kind in (nn.Tanh, nn.ReLU):
        make = partial(RnnLayer, nonlinearity="tanh" if kind is nn.Tanh else "relu")
        layer: Callable[..., nn.Module] = partial(_fused, make, 1, blocks)
    else:
        layer = partial(_looped, blocks)
    return _network("rnn", layer, shape, outputs, blocks, units, layers, bidirectional, embedding)


@architectures.register(
    "lstm",
    equation="c_t = f c_{t-1} + i tanh(W_c x_t + U_c h_{t-1} + b_c), h_t = o tanh(c_t), f = sigmoid(W_f x_t ...)",
    cite=f"Hochreiter and Schmidhuber 1997, Long short-term memory; {ORTHOGONAL}",
    example={"name": "lstm", "units": 64},
    **TRAITS,
)
def lstm(
    shape: tuple[int, ...],
    outputs: int,
    blocks: Blocks,
    /,
    *,
    units: PositiveInt = 64,
    layers: PositiveInt = 1,
    bidirectional: bool = False,
    embedding: TokenEmbedding | None = None,
) -> nn.Sequential:
    """Layers of long short-term memory: sequences to logits (N, outputs).

    What is read, and where normalization and dropout stand, is as for `rnn`. The gates i, f and o are sigmoids and the
    rest is tanh, so `activation` must be tanh (`auto` is). The weights of each gate are drawn by themselves, with
    fan_out = units (Keras draws those of all gates as one matrix, with 4 units outputs); its recurrent weights are
    orthogonal. The forget gate's bias starts at 1, so that memory lasts at first; Keras does the same, PyTorch does
    not. There are two biases, of which the second one starts at 0; Keras has one.

    Args:
        shape: of one input sample: (T, F), (C, H, W), or (T,) for tokens.
        outputs: number of logits.
        blocks: the parts that each layer is made of.
        units: size of the state of each layer, and direction.
        layers: recurrent layers on top of each other.
        bidirectional: read from the end as well, in each layer, with units of its own.
        embedding: for tokens, such as {vocabulary: 10000, size: 64}; with `padding: 0`, token 0 stands for nothing.
            Pad in front: the last step is the one that counts.

    Raises:
        SpecError: the activation is not tanh, samples are neither sequences nor pictures, or are not tokens where an
            embedding is given.
    """
    _require_tanh("lstm", blocks)
    layer = partial(_fused, LstmLayer, 4, blocks)
    return _network("lstm", layer, shape, outputs, blocks, units, layers, bidirectional, embedding)


@architectures.register(
    "gru",
    equation="h_t = (1 - z) n + z h_{t-1}, n = tanh(W_n x_t + b_n + r (U_n h_{t-1} + c_n)), r and z = sigmoid(...)",
    cite=f"arXiv:1406.1078; {ORTHOGONAL}",
    example={"name": "gru", "units": 64},
    **TRAITS,
)
def gru(
    shape: tuple[int, ...],
    outputs: int,
    blocks: Blocks,
    /,
    *,
    units: PositiveInt = 64,
    layers: PositiveInt = 1,
    bidirectional: bool = False,
    embedding: TokenEmbedding | None = None,
) -> nn.Sequential:
    """Layers of gated recurrent units: sequences to logits (N, outputs).

    What is read, and where normalization and dropout stand, is as for `rnn`; `activation` must be tanh (`auto` is), and
    weights are drawn as for `lstm`, with all biases 0. The reset gate r acts on U_n h + c_n, after the product, as in
    PyTorch, cuDNN and Keras (`reset_after`); in the paper it acts on h, before it.

    Args:
        shape: of one input sample: (T, F), (C, H, W), or (T,) for tokens.
        outputs: number of logits.
        blocks: the parts that each layer is made of.
        units: size of the state of each layer, and direction.
        layers: recurrent layers on top of each other.
        bidirectional: read from the end as well, in each layer, with units of its own.
        embedding: for tokens, such as {vocabulary: 10000, size: 64}; with `padding: 0`, token 0 stands for nothing.
            Pad in front: the last step is the one that counts.

    Raises:
        SpecError: the activation is not tanh, samples are neither sequences nor pictures, or are not tokens where an
            embedding is given.
    """
    _require_tanh("gru", blocks)
    layer = partial(_fused, GruLayer, 3, blocks)
    return _network("gru", layer, shape, outputs, blocks, units, layers, bidirectional, embedding)


def _network(
    name: str,
    layer: Callable[..., nn.Module],
    shape: tuple[int, ...],
    outputs: int,
    blocks: Blocks,
    units: int,
    layers: int,
    bidirectional: bool,
    embedding: TokenEmbedding | None,
) -> nn.Sequential:
    """Put recurrent layers between what turns a sample into a sequence and the output."""
    reader, features = _reader(name, shape, embedding, blocks.initialize)
    network = Stack(blocks, hidden=layers)
    network.add(reader)
    network.add(over_sequences(PerStep, blocks.input_norm(features, 0)))
    network.add(over_sequences(FeaturesFirst, blocks.input_dropouts(1)))
    for number in range(1, layers + 1):
        network.add({f"{name}{number}": layer(features, units, bidirectional=bidirectional)})
        features = 2 * units if bidirectional else units
        norm = blocks.norm(f"norm{number}", features, 0)
        if number == layers:
            network.add({"last": LastState(bidirectional=bidirectional), **norm})
            network.add(blocks.hidden_dropouts(f"dropout{number}", 0, number, layers))
        else:
            network.add(over_sequences(PerStep, norm))
            dropouts = blocks.hidden_dropouts(f"dropout{number}", 1, number, layers)
            network.add(over_sequences(FeaturesFirst, dropouts))
    network.add({"output": dense(features, outputs, blocks.initialize_output)})
    return network.sequential()


def _reader(
    name: str, shape: tuple[int, ...], embedding: TokenEmbedding | None, initialize: Initialize
) -> tuple[dict[str, nn.Module], int]:
    """Return what turns a sample into a sequence, and how many features its steps have."""
    if embedding is not None:
        if len(shape) != 1:
            raise misfit(
                f"model.architecture.embedding needs sequences of tokens, but a sample of this data has the shape "
                f"{shape}, not (steps,)",
                "leave embedding out for pictures and for sequences of numbers",
            )
        return {"tokens": _tokens(embedding, initialize)}, embedding.size
    if len(shape) == 2:
        return {}, shape[1]
    if len(shape) == 3:
        return {"rows": Rows()}, shape[0] * shape[2]
    raise misfit(
        f"model.architecture is {name}, which needs sequences (steps, features) or pictures (channels, height, width), "
        f"but a sample of this data has the shape {shape}",
        "if these are tokens, say so with embedding: {vocabulary: N}; else use an mlp",
    )


def _tokens(embedding: TokenEmbedding, initialize: Initialize) -> Tokens:
    tokens = Tokens(embedding.vocabulary, embedding.size, padding_idx=embedding.padding)
    initialize(tokens.weight, fans_of(tokens.weight.shape, "embedding"))
    if embedding.padding is not None:
        with torch.no_grad():
            tokens.weight[embedding.padding] = 0
    return tokens


def _fused(
    make: Callable[..., nn.RNNBase], gates: int, blocks: Blocks, features: int, units: int, *, bidirectional: bool
) -> nn.Module:
    """Return one of PyTorch's own recurrent layers with its weights drawn gate by gate."""
    layer = make(features, units, batch_first=True, bidirectional=bidirectional)
    with torch.no_grad():
        for name, parameter in layer.named_parameters():
            if name.startswith("weight_ih"):
                draw_stacked(parameter, gates, blocks.initialize)
            elif name.startswith("weight_hh"):
                draw_stacked(parameter, gates, blocks.initialize_recurrent)
            else:
                parameter.zero_()
                if isinstance(layer, nn.LSTM) and name.startswith("bias_ih"):
                    parameter[units : 2 * units] = 1.0  # the forget gate: PyTorch's order is i, f, g, o
    return layer


def _looped(blocks: Blocks, features: int, units: int, *, bidirectional: bool) -> nn.Module:
    def one_way() -> Recurrence:
        return Recurrence(features, units, blocks.activation(), blocks.initialize, blocks.initialize_recurrent)

    return BothDirections(one_way(), one_way()) if bidirectional else one_way()


def _require_tanh(name: str, blocks: Blocks) -> None:
    if not isinstance(blocks.activation(), nn.Tanh):
        raise misfit(
            f"model.activation must be tanh for {name}, whose gates are built of sigmoid and tanh",
            "write activation: tanh, or auto; rnn takes any activation",
        )
