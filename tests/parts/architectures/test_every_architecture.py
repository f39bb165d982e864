"""What holds for all architectures, whatever they are made of."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from tinynetworks import PICTURE, SMALL, network, small
from torch import Tensor, nn
from torch._subclasses import FakeTensorMode
from torch.nn import functional

from dnntrain import build, spec
from dnntrain.diagnostics.model_summary import summarize
from dnntrain.errors import DnntrainError, SpecError
from dnntrain.parts.activations import activations
from dnntrain.parts.architectures import architectures
from dnntrain.parts.dropouts import dropouts
from dnntrain.parts.normalizations import normalizations
from dnntrain.registry import plain
from dnntrain.training.parameters import FlatParameters
from dnntrain.yamltext import dump

NAMES = architectures.names()
# Those that are made of the parts that a file chooses.
MADE = [entry.name for entry in architectures if not entry.traits["own_parts"]]
RECURRENT = ("rnn", "lstm", "gru")
CONVOLUTIONAL = ("cnn", "resnet", "wide_resnet")


def batch(n: int = 6, *, seed: int = 0) -> tuple[Tensor, Tensor]:
    draws = torch.Generator().manual_seed(seed)
    return torch.randn(n, *PICTURE, generator=draws), torch.randint(3, (n,), generator=draws)


def step(model: nn.Module) -> None:
    x, y = batch()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    functional.cross_entropy(model(x), y).backward()
    optimizer.step()
    assert all(p.isfinite().all() for p in model.parameters())


def test_each_has_a_small_network_here() -> None:
    assert sorted(SMALL) == NAMES


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("outputs", [1, 4])
def test_pictures_become_logits(name: str, outputs: int) -> None:
    assert network(small(name), outputs=outputs)(batch()[0]).shape == (6, outputs)


@pytest.mark.parametrize("name", MADE)
def test_each_states_its_traits(name: str) -> None:
    choice = architectures.choose(small(name))
    traits = choice.entry.traits
    layers = traits["depth"](choice.options)
    assert type(layers) is int
    assert layers >= 2
    assert traits["standardize"] == ("channel" if name in (*CONVOLUTIONAL, "vit") else "feature")


@pytest.mark.parametrize("name", NAMES)
def test_gradients_reach_every_parameter(name: str) -> None:
    model = network(small(name), normalization=None if name == "vit" else "batch")
    x, y = batch(32)
    functional.cross_entropy(model(x), y).backward()
    assert [n for n, p in model.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0] == []


@pytest.mark.parametrize("name", NAMES)
def test_it_learns_32_samples_by_heart(name: str) -> None:
    x, y = batch(32)
    model = network(small(name), normalization="batch" if name in CONVOLUTIONAL else None)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
    for _ in range(120):
        optimizer.zero_grad()
        outputs = model(x)
        loss = functional.cross_entropy(outputs, y)
        if loss.item() < 0.1 and (outputs.argmax(dim=1) == y).all():
            break
        loss.backward()
        optimizer.step()
    else:
        pytest.fail(f"still at {loss.item():.3f}")


@pytest.mark.parametrize("name", NAMES)
def test_signals_are_of_sane_size_at_first(name: str) -> None:
    model = network(small(name), outputs=50, normalization="batch" if name in CONVOLUTIONAL else None)
    deviation = model(batch(64)[0]).std().item()
    assert 0.1 < deviation < 4


@pytest.mark.parametrize("name", NAMES)
def test_equal_seeds_give_equal_networks(name: str) -> None:
    def drawn(seed: int) -> list[Tensor]:
        torch.manual_seed(seed)
        return [p.detach() for p in network(small(name), seed=seed).parameters()]

    first, again, other = drawn(1), drawn(1), drawn(2)
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert not all(torch.equal(a, b) for a, b in zip(first, other, strict=True))


@pytest.mark.parametrize("name", MADE)
def test_the_initializer_of_the_file_draws_the_weights(name: str) -> None:
    model = network(
        small(name),
        initializer={"name": "constant", "value": 0.125},
        output_initializer={"name": "constant", "value": 0.25},
    )
    output = dict(model.named_parameters())["output.weight"]
    assert (output == 0.25).all()
    weights = {n: p for n, p in model.named_parameters() if p.ndim > 1 and p is not output}
    others = {n for n, p in weights.items() if not (p == 0.125).all()}
    assert {n.split(".")[-1].split("_l0")[0] for n in others} <= {"weight_hh", "weight"}
    assert others == {n for n in weights if "weight_hh" in n or n == "positions.weight"}


ACTIVATIONS = [entry.example for entry in activations] + [{"name": "prelu", "per_channel": True}]
NORMALIZATIONS: list[Any] = [
    {**({"name": entry.name} if isinstance(entry.example, str) else entry.example), **extra}
    for entry in normalizations
    for extra in ([{}] if entry.name == "none" else [{"position": "before"}, {"position": "after"}, {"input": True}])
]
DROPOUTS = [{**entry.example, "layers": layers} for entry in dropouts for layers in ("all", "hidden", "input", "last")]
# What cannot be, and what the message must name.
REFUSED = ("model.activation must be tanh", "normalization", "dropout spatial")
COMBINED = [
    {"activation": "swish", "normalization": {"name": "layer"}, "dropout": DROPOUTS[:1]},
    {"activation": "tanh", "normalization": {"name": "rms"}, "dropout": DROPOUTS[4:6]},
    {"activation": "gelu", "normalization": {"name": "batch"}, "dropout": DROPOUTS[2:3]},
]


def tried(name: str, **chosen: Any) -> bool:
    """Whether a network of these parts is built; if so, it trains, and if not, the message says what does not fit."""
    x, _ = batch()
    try:
        model = network(small(name), **chosen)
    except DnntrainError as error:
        assert error.exit_code == 2
        assert any(words in str(error) for words in REFUSED), str(error)
        return False
    step(model)
    model.eval()
    assert torch.equal(model(x), model(x)), "something is random in evaluation"
    return True


@pytest.mark.parametrize("name", MADE)
def test_every_activation_trains_or_is_refused(name: str) -> None:
    trained = [plain(activations.choose(a)) for a in ACTIVATIONS if tried(name, activation=a)]
    assert trained == ["tanh"] if name in ("lstm", "gru") else len(trained) == len(ACTIVATIONS)


@pytest.mark.parametrize("name", MADE)
def test_every_normalization_trains_or_is_refused(name: str) -> None:
    refused = {
        (n["name"], n.get("position"))
        for n in NORMALIZATIONS
        if not n.get("input") and not tried(name, normalization=n)
    }
    both = [(n, p) for n in ("instance", "batch") for p in ("before", "after")]
    expected = {
        # The average over the picture would be the same for all pictures.
        **dict.fromkeys(("resnet", "wide_resnet"), {("instance", "after")}),
        # Its dense layers have no positions to take statistics over.
        **dict.fromkeys(("mlp", "cnn", *RECURRENT), set(both[:2])),
        "vit": {*both, ("layer", "after"), ("rms", "after"), ("group", "after")},
    }
    assert refused == expected[name]


@pytest.mark.parametrize("name", MADE)
def test_an_input_normalization_trains(name: str) -> None:
    assert tried(name, normalization={"name": "layer", "input": True})


@pytest.mark.parametrize("name", MADE)
def test_every_dropout_trains_or_is_refused(name: str) -> None:
    refused = [d for d in DROPOUTS if not tried(name, dropout=(d,))]
    assert {d["name"] for d in refused} <= {"spatial"}
    if name in CONVOLUTIONAL or name in ("vit", *RECURRENT):
        assert "input" not in [d["layers"] for d in refused]
    if name in ("resnet", "wide_resnet", "vit"):
        assert [d["layers"] for d in refused] == ["last"]


@pytest.mark.parametrize("name", MADE)
@pytest.mark.parametrize("chosen", COMBINED, ids=str)
def test_parts_go_together(name: str, chosen: dict[str, Any]) -> None:
    assert tried(name, **chosen) or name in ("lstm", "gru", "vit")


@pytest.mark.parametrize("name", MADE)
@pytest.mark.parametrize("layers", ["hidden", "last", "input", "all"])
def test_dropout_makes_training_random_and_only_where_it_stands(name: str, layers: str) -> None:
    plainly = network(small(name))
    model = network(small(name), dropout=({"name": "dropout", "rate": 0.5, "layers": layers},))
    x, _ = batch()
    assert not torch.equal(model(x), model(x))
    places = [n for n, m in model.named_modules() if isinstance(m, nn.Dropout)]
    if layers == "last":
        after = list(model.state_dict())[-2]
        assert after == "output.weight"
        assert len(places) == 1
        assert list(dict(model.named_children()))[-2].startswith("dropout")
    if layers == "input":
        assert places == [n for n in places if n.startswith("input_dropout")]
    hidden = [n for n in places if not n.startswith("input_dropout")]
    assert bool(hidden) == (layers != "input")
    assert sum(p.numel() for p in plainly.parameters()) == sum(p.numel() for p in model.parameters())


def biased(model: nn.Module) -> dict[str, nn.Module]:
    return {n: m for n, m in model.named_modules() if isinstance(m, nn.Conv2d | nn.Linear)}


@pytest.mark.parametrize("position", ["before", "after"])
@pytest.mark.parametrize("norm", ["batch", "layer", "rms", "instance", "none"])
@pytest.mark.parametrize("name", ["mlp", *CONVOLUTIONAL])
def test_a_bias_is_left_out_exactly_where_it_would_have_no_effect(name: str, norm: str, position: str) -> None:
    if norm == "instance" and (name in ("mlp", "cnn") or position == "after"):
        pytest.skip("refused; see above")
    options = {} if norm == "none" else {"position": position}
    model = network(small(name), activation="tanh", normalization={"name": norm, **options}).double()
    x = batch(8)[0].double()
    before = model(x)

    def effect(layer: nn.Module) -> bool:
        size = layer.weight.shape[0]
        shift = torch.linspace(-1, 1, size, dtype=torch.float64)
        shaped = shift[:, None, None] if isinstance(layer, nn.Conv2d) else shift
        with layer.register_forward_hook(lambda module, inputs, output: output + shaped):
            # The last normalization of a wide_resnet may see a sum of two layers; eps leaves a trace.
            return (model(x) - before).abs().max().item() > 1e-6

    for path, layer in biased(model).items():
        if layer.bias is not None:
            assert effect(layer), f"the bias of {path} is redundant"
        elif not path.endswith(("projection", "shortcut.conv")):
            assert not effect(layer), f"{path} lacks a bias"
    dropped = [path for path, layer in biased(model).items() if layer.bias is None and "projection" not in path]
    assert bool(dropped) == (norm in ("batch", "instance") and position == "before")


@pytest.mark.parametrize("name", MADE)
def test_mixed_precision_changes_little(name: str) -> None:
    model = network(small(name), normalization="batch" if name in CONVOLUTIONAL else None)
    x, y = batch()
    exact = model(x)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        output = model(x)
        functional.cross_entropy(output, y).backward()
    assert output.dtype == torch.bfloat16
    assert (output - exact).abs().max() < 0.1 * exact.abs().max()


@pytest.mark.parametrize("name", NAMES)
def test_the_memory_format_does_not_matter(name: str) -> None:
    model = network(small(name)).double()
    x = batch()[0].double()
    expected = model(x)
    swapped = model.to(memory_format=torch.channels_last)
    torch.testing.assert_close(swapped(x.contiguous(memory_format=torch.channels_last)), expected)


@pytest.mark.parametrize("name", NAMES)
def test_it_runs_on_devices_that_hold_no_numbers(name: str) -> None:
    model = network(small(name), dropout=({"name": "dropout", "rate": 0.5, "layers": "all"},))
    held = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    # PyTorch cannot make believe that it has CUDA's kernels for recurrent layers.
    device = "cpu" if name in RECURRENT else "cuda"
    with FakeTensorMode():
        moved = {n: torch.empty(t.shape, dtype=t.dtype, device=device) for n, t in held.items()}
        outputs = torch.func.functional_call(model, moved, torch.empty(4, *PICTURE, device=device))
        assert (outputs.device.type, outputs.shape) == (device, (4, 3))
    assert model.to("meta")(torch.empty(4, *PICTURE, device="meta")).device.type == "meta"


@pytest.mark.parametrize("name", [name for name in NAMES if name not in RECURRENT])
def test_it_compiles_in_one_piece(name: str) -> None:
    torch.compiler.reset()
    model = network(small(name))
    x, _ = batch()
    compiled = torch.compile(model, backend="eager", fullgraph=True)
    torch.testing.assert_close(compiled(x), model(x))


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor:UserWarning")
@pytest.mark.parametrize("name", RECURRENT)
def test_recurrent_ones_compile_around_their_layers(name: str) -> None:
    torch.compiler.reset()
    model = network(small(name))
    x, _ = batch()
    torch.testing.assert_close(torch.compile(model, backend="eager")(x), model(x))


@pytest.mark.parametrize("name", NAMES)
def test_a_summary_accounts_for_every_parameter(name: str) -> None:
    model = network(small(name), normalization=None if name == "vit" else "batch")
    summary = summarize(model, PICTURE)
    assert sum(row.trainable for row in summary.layers) == summary.trainable
    assert summary.layers[-1].name == "output"


@pytest.mark.parametrize("name", NAMES)
def test_what_an_optimizer_does_in_a_buffer_of_its_own_reaches_the_network(name: str) -> None:
    model = network(small(name))
    parameters = FlatParameters([{"params": list(model.parameters())}])
    x, _ = batch()
    summarize(model, PICTURE)
    before = model(x).detach()
    with torch.no_grad():
        parameters.groups[0]["params"][0].mul_(1.5)
    assert not torch.allclose(model(x), before)


def resolved(architecture: Any, **model: Any) -> tuple[Any, Any]:
    tree = {"data": {"dataset": "digits"}, "model": {"architecture": architecture, **model}}
    read = spec.loads(dump(tree))
    data = build.open_data(read)
    return build.resolve(read, data), data


@pytest.mark.parametrize("name", MADE)
def test_auto_picks_what_suits_the_architecture(name: str) -> None:
    chosen, _ = resolved({**small(name), **({"layers": 9} if name in RECURRENT else {})})
    usual = {**dict.fromkeys(RECURRENT, ("tanh", "none")), "vit": ("gelu", "layer")}
    usual |= dict.fromkeys(("resnet", "wide_resnet", "cnn"), ("swish", "batch")) | {"mlp": ("relu", "none")}
    assert (chosen.model.activation.name, chosen.model.normalization.name) == usual[name]
    assert chosen.data.standardize == architectures[name].traits["standardize"]


def test_tokens_are_not_standardized() -> None:
    chosen, _ = resolved({"name": "lstm", "embedding": {"vocabulary": 17}})
    assert chosen.data.standardize == "none"


def test_tokens_beyond_the_vocabulary_are_refused() -> None:
    with pytest.raises(SpecError, match="tokens go from 0 to 16, but the embedding knows 0 to 8"):
        resolved({"name": "lstm", "embedding": {"vocabulary": 9}})


@pytest.mark.parametrize("name", [*CONVOLUTIONAL, "vit"])
@pytest.mark.parametrize("shape", [(64,), (10, 6)])
def test_what_is_no_picture_is_refused(name: str, shape: tuple[int, ...]) -> None:
    with pytest.raises(SpecError, match=f"model.architecture is {name}, which needs pictures") as caught:
        network(small(name), shape)
    assert str(shape) in str(caught.value)
