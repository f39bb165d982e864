from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from tinynetworks import network
from torch import Tensor, nn

from dnntrain import build, spec
from dnntrain.errors import SpecError
from dnntrain.parts.architectures import architectures
from dnntrain.parts.architectures.recurrent import Recurrence, Rows

NAMES = ["rnn", "lstm", "gru"]
GATES = {"rnn": 1, "lstm": 4, "gru": 3}
TOKENS = {"vocabulary": 9, "size": 4}


def sigmoid(z: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-z))


def read(kind: str, x: np.ndarray, w: np.ndarray, u: np.ndarray, b: np.ndarray, c: np.ndarray) -> np.ndarray:
    """Read a sequence (N, T, F) step by step as the equations say; return all states (N, T, U)."""
    n, steps, _ = x.shape
    units = u.shape[1]
    h, memory, states = np.zeros((n, units)), np.zeros((n, units)), []
    for t in range(steps):
        seen, recalled = x[:, t] @ w.T + b, h @ u.T + c
        if kind == "rnn":
            h = np.tanh(seen + recalled)
        elif kind == "lstm":
            i, f, g, o = np.split(seen + recalled, 4, axis=1)
            memory = sigmoid(f) * memory + sigmoid(i) * np.tanh(g)
            h = sigmoid(o) * np.tanh(memory)
        else:
            (r, z, new), (ru, zu, nu) = np.split(seen, 3, axis=1), np.split(recalled, 3, axis=1)
            r, z = sigmoid(r + ru), sigmoid(z + zu)
            h = (1 - z) * np.tanh(new + r * nu) + z * h
        states.append(h)
    return np.stack(states, axis=1)


def numbered(model: nn.Module) -> dict[str, np.ndarray]:
    """Fill all biases with numbers; return the parameters."""
    draws = np.random.default_rng(0)
    weights = {name: p.detach().numpy() for name, p in model.named_parameters()}
    for name, value in weights.items():
        if "bias" in name:
            value[...] = draws.normal(size=value.shape)
    return weights


@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("name", NAMES)
def test_the_forward_pass_is_the_equation(name: str, bidirectional: bool) -> None:
    architecture = {"name": name, "units": 5, "layers": 2, "bidirectional": bidirectional}
    model = network(architecture, (6, 3), 4).double()
    weights = numbered(model)
    x = np.random.default_rng(1).normal(size=(2, 6, 3))

    def states(layer: int, x: np.ndarray, way: str = "") -> np.ndarray:
        kinds = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
        return read(name, x, *(weights[f"{name}{layer}.{kind}_l0{way}"] for kind in kinds))

    h = x
    for layer in (1, 2):
        onward = states(layer, h)
        last = onward[:, -1]
        if bidirectional:
            backward = states(layer, h[:, ::-1], "_reverse")
            onward = np.concatenate((onward, backward[:, ::-1]), axis=2)
            last = np.concatenate((last, backward[:, -1]), axis=1)
        h = onward
    expected = last @ weights["output.weight"].T + weights["output.bias"]

    np.testing.assert_allclose(model(torch.from_numpy(x)).detach().numpy(), expected, rtol=1e-10)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("shape", [(1, 5, 4), (3, 5, 4)])
def test_pictures_are_read_row_by_row_from_the_top(name: str, shape: tuple[int, ...]) -> None:
    channels, rows, columns = shape
    torch.manual_seed(1)
    pictures = network({"name": name, "units": 6}, shape)
    torch.manual_seed(1)
    sequences = network({"name": name, "units": 6}, (rows, channels * columns))
    x = torch.randn(2, *shape)
    by_rows = torch.stack([x[:, :, row].flatten(1) for row in range(rows)], dim=1)
    assert torch.equal(Rows()(x), by_rows)
    torch.testing.assert_close(pictures(x), sequences(by_rows))
    assert not torch.allclose(pictures(x), pictures(x.flip(2)))


@pytest.mark.parametrize("name", NAMES)
def test_a_bidirectional_network_sees_a_reversed_sequence_in_its_other_half(name: str) -> None:
    model = network({"name": name, "units": 4, "bidirectional": True}, (6, 3))
    layer, x = getattr(model, f"{name}1"), torch.randn(2, 6, 3)
    states = nn.Sequential(layer, model.last)
    with torch.no_grad():
        for parameter, other in zip(layer.parameters(), list(layer.parameters())[4:], strict=False):
            other.copy_(parameter)
    torch.testing.assert_close(states(x.flip(1)), states(x).roll(4, dims=1))


@pytest.mark.parametrize("name", NAMES)
def test_recurrent_weights_are_orthogonal_and_the_others_drawn_gate_by_gate(name: str) -> None:
    model = network({"name": name, "units": 60}, (5, 200), initializer="glorot_normal")
    layer = getattr(model, f"{name}1")
    for gate in layer.weight_hh_l0.chunk(GATES[name]):
        torch.testing.assert_close(gate @ gate.T, torch.eye(60), atol=1e-5, rtol=0)
    for gate in layer.weight_ih_l0.chunk(GATES[name]):
        assert gate.var().item() == pytest.approx(2 / 260, rel=0.06)


@pytest.mark.parametrize("activation", ["tanh", "selu"])
@pytest.mark.parametrize("name", NAMES)
def test_all_weights_come_from_the_stream_of_initialization(name: str, activation: str) -> None:
    if name != "rnn" and activation != "tanh":
        pytest.skip("gates are built of tanh")
    models = []
    for noise, seed in ((1, 0), (2, 0), (1, 1)):
        torch.manual_seed(noise)
        models.append(network({"name": name, "units": 6}, (5, 4), activation=activation, seed=seed))
    one, other, third = (dict(model.named_parameters()) for model in models)
    for key, p in one.items():
        assert torch.equal(p, other[key]), key
        assert torch.equal(p, third[key]) == (p.ndim == 1), key


@pytest.mark.parametrize("name", NAMES)
def test_an_experiment_draws_orthogonal_recurrent_weights_of_its_seed(name: str) -> None:
    def recurrent(noise: int, seed: int) -> Tensor:
        experiment = spec.loads(
            f"{{seed: {seed}, data: {{dataset: digits}}, model: {{architecture: {{name: {name}, units: 6}}, "
            "activation: tanh, initializer: zeros, output_initializer: zeros, normalization: none}}"
        )
        torch.manual_seed(noise)
        weight: Tensor = getattr(build.build_model(experiment, (5, 4), 3), f"{name}1").weight_hh_l0
        return weight

    weight = recurrent(1, 0)
    for gate in weight.chunk(GATES[name]):
        torch.testing.assert_close(gate @ gate.T, torch.eye(6), atol=1e-5, rtol=0)
    assert torch.equal(weight, recurrent(2, 0))
    assert not torch.equal(weight, recurrent(1, 1))


def test_an_lstm_remembers_at_first() -> None:
    layer = network({"name": "lstm", "units": 3}, (5, 2)).lstm1
    assert layer.bias_ih_l0.tolist() == [0.0] * 3 + [1.0] * 3 + [0.0] * 6
    assert not layer.bias_hh_l0.any()


@pytest.mark.parametrize("name", ["rnn", "gru"])
def test_other_biases_start_at_zero(name: str) -> None:
    layer = getattr(network({"name": name, "units": 3}, (5, 2)), f"{name}1")
    assert not torch.cat((layer.bias_ih_l0, layer.bias_hh_l0)).any()


@pytest.mark.parametrize(("activation", "own"), [("tanh", nn.RNN), ("relu", nn.RNN), ("selu", Recurrence)])
def test_an_rnn_takes_any_activation(activation: str, own: type) -> None:
    assert isinstance(network({"name": "rnn", "units": 4}, (5, 3), activation=activation).rnn1, own)


@pytest.mark.parametrize("activation", [nn.Tanh(), nn.ReLU()])
def test_step_by_step_is_the_same_as_in_one_go(activation: nn.Module) -> None:
    nonlinearity = "tanh" if isinstance(activation, nn.Tanh) else "relu"
    theirs = nn.RNN(3, 5, nonlinearity=nonlinearity, batch_first=True, bias=False).double()
    drawn, orthogonal = lambda w, fans: nn.init.normal_(w), lambda w, fans: nn.init.orthogonal_(w)
    ours = Recurrence(3, 5, activation, drawn, orthogonal).double()
    with torch.no_grad():
        theirs.weight_ih_l0.copy_(ours.input.weight)
        theirs.weight_hh_l0.copy_(ours.recurrent.weight)
    x = torch.randn(2, 7, 3, dtype=torch.float64)
    torch.testing.assert_close(ours(x), theirs(x)[0])
    recurrent = ours.recurrent.weight
    torch.testing.assert_close(recurrent @ recurrent.T, torch.eye(5, dtype=torch.float64), atol=1e-5, rtol=0)


@pytest.mark.parametrize("bidirectional", [False, True])
def test_any_activation_reads_both_ways(bidirectional: bool) -> None:
    architecture = {"name": "rnn", "units": 4, "bidirectional": bidirectional}
    model = network(architecture, (5, 3), activation="swish")
    x = torch.randn(2, 5, 3)
    states = model.rnn1(x)
    assert states.shape == (2, 5, 8 if bidirectional else 4)
    if bidirectional:
        torch.testing.assert_close(states[..., 4:], model.rnn1.backward(x.flip(1)).flip(1))


@pytest.mark.parametrize("name", ["lstm", "gru"])
def test_gates_take_no_other_activation(name: str) -> None:
    with pytest.raises(SpecError, match=f"model.activation must be tanh for {name}"):
        network({"name": name}, activation="relu")


def test_layers_are_named_and_ordered_as_they_are_applied() -> None:
    drop = {"name": "dropout", "rate": 0.1, "layers": "all"}
    model = network({"name": "gru", "layers": 2}, normalization={"name": "layer", "input": True}, dropout=(drop,))
    assert list(dict(model.named_children())) == [
        *("rows", "input_norm", "input_dropout", "gru1", "norm1", "dropout1"),
        *("gru2", "last", "norm2", "dropout2", "output"),
    ]


def test_normalization_looks_at_each_step_by_itself() -> None:
    model = network({"name": "rnn", "units": 6, "layers": 2}, (5, 3), normalization={"name": "layer"})
    normed = nn.Sequential(model.rnn1, model.norm1)(torch.randn(2, 5, 3))
    torch.testing.assert_close(normed.mean(dim=-1), torch.zeros(2, 5), atol=1e-5, rtol=0)
    torch.testing.assert_close(normed.var(dim=-1, correction=0), torch.ones(2, 5), atol=1e-3, rtol=0)


@pytest.mark.parametrize("dtype", [torch.int64, torch.uint8, torch.float32])
def test_tokens_of_any_type_are_looked_up(dtype: torch.dtype) -> None:
    model = network({"name": "lstm", "embedding": TOKENS}, (6,))
    tokens = torch.randint(9, (2, 6))
    vectors = model.tokens(tokens.to(dtype))
    torch.testing.assert_close(vectors, model.tokens.weight[tokens])
    assert model(tokens.to(dtype)).shape == (2, 3)


def test_an_embedding_has_one_input_a_unit() -> None:
    embedding = {"vocabulary": 500, "size": 40}
    model = network({"name": "rnn", "embedding": embedding}, (6,), initializer="lecun_normal")
    assert model.tokens.weight.var().item() == pytest.approx(1.0, rel=0.05)


def test_padding_stays_silent() -> None:
    model = network({"name": "gru", "embedding": {**TOKENS, "padding": 2}}, (6,))
    tokens = torch.tensor([[2, 2, 5, 1, 3, 2]])
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    model(tokens).square().sum().backward()
    optimizer.step()
    assert not model.tokens.weight[2].any()
    assert all(model.tokens.weight[token].any() for token in (5, 1, 3))
    # Without biases that have moved, what stands in front of a sequence changes nothing.
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "bias" in name:
                parameter.zero_()
    torch.testing.assert_close(model(torch.tensor([[5, 1]])), model(torch.tensor([[2, 2, 2, 5, 1]])))


@pytest.mark.parametrize("name", NAMES)
def test_long_sequences_neither_blow_up_nor_fade_at_first(name: str) -> None:
    model = network({"name": name, "units": 32}, (100, 8))
    layer: Any = getattr(model, f"{name}1")
    states: Tensor = layer(torch.randn(16, 100, 8))
    assert 0.1 < states[:, -1].std().item() < 1.0


def test_depth_and_vocabulary_follow_the_options() -> None:
    traits = architectures["lstm"].traits
    plain = architectures.choose({"name": "lstm", "layers": 3}).options
    tokens = architectures.choose({"name": "lstm", "embedding": TOKENS}).options
    assert (traits["depth"](plain), traits["vocabulary"](plain), traits["vocabulary"](tokens)) == (3, None, 9)


@pytest.mark.parametrize(
    ("shape", "options", "words"),
    [
        ((64,), {}, r"needs sequences .* shape \(64,\)"),
        ((2, 3, 4, 5), {}, "needs sequences"),
        ((3, 8, 8), {"embedding": TOKENS}, r"model.architecture.embedding needs .* \(3, 8, 8\)"),
        ((5, 4), {"embedding": TOKENS}, "model.architecture.embedding"),
    ],
)
@pytest.mark.parametrize("name", NAMES)
def test_what_cannot_be_read_is_refused(name: str, shape: tuple[int, ...], options: Any, words: str) -> None:
    with pytest.raises(SpecError, match=words):
        network({"name": name, **options}, shape)


def test_padding_must_be_a_token() -> None:
    with pytest.raises(ValidationError, match="padding must be one of the 9 tokens"):
        architectures.choose({"name": "rnn", "embedding": {**TOKENS, "padding": 9}})


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("name", NAMES)
def test_cuda_leaves_parameters_where_they_are(name: str) -> None:
    model = network({"name": name, "layers": 2}).cuda()
    before = [p.data_ptr() for p in model.parameters()]
    model(torch.randn(2, 3, 8, 8, device="cuda")).sum().backward()
    assert [p.data_ptr() for p in model.parameters()] == before
