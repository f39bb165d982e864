"""Nothing stays behind on the CPU: whole training steps on devices that hold no numbers."""

from __future__ import annotations

import math
from collections import OrderedDict
from dataclasses import replace
from typing import Any

import pytest
import torch
from tinynetworks import PICTURE, network, small
from tinytraining import assemble, examples
from torch import Tensor, nn
from torch._subclasses import FakeTensorMode

from dnntrain.parts.activations import activations
from dnntrain.parts.architectures import architectures
from dnntrain.parts.losses import losses
from dnntrain.parts.optimizers import optimizers
from dnntrain.training.built import Clip
from dnntrain.training.features import Features
from dnntrain.training.stepper import Stepper
from dnntrain.training.trainer import Trainer

LOSSES: list[Any] = [*losses.names(), {"name": "cross_entropy", "class_weights": "balanced"}]
# What an optimizer or a loss does with its tensors does not depend on the network, so each is tried on one.
COMBINATIONS = [
    *(("mlp", optimizer, loss) for optimizer in optimizers.names() for loss in LOSSES),
    *((architecture, "adamw", "cross_entropy") for architecture in architectures.names() if architecture != "mlp"),
]
DROPOUTS = ({"name": "dropout", "rate": 0.1, "layers": "all"}, {"name": "alpha", "rate": 0.1})


def model_of(outputs: int = 3, activation: Any = None, architecture: str = "mlp") -> nn.Module:
    """Build a network with a part of every family in it; other architectures than the mlp see a picture."""
    if architecture == "mlp":
        mlp = {"name": "mlp", "hidden": [5, 4]}
        norm = {"name": "batch", "input": True}
        return network(mlp, (6,), outputs, activation=activation, normalization=norm, dropout=DROPOUTS)
    norm = {"name": "layer", "input": True}
    pictures = network(small(architecture), PICTURE, outputs, normalization=norm, dropout=DROPOUTS)
    return nn.Sequential(nn.Linear(6, math.prod(PICTURE)), nn.Unflatten(1, PICTURE), pictures)


def tensors_of(stepper: Stepper) -> dict[str, Tensor]:
    """Every tensor that a step works on."""
    model, optimizer = stepper._model, stepper._optimizer
    assert isinstance(model, nn.Module)
    found = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    found |= {f"{name}.grad": p.grad for name, p in model.named_parameters() if p.grad is not None}
    for state in optimizer.state.values():
        # torch counts steps on the CPU on purpose.
        found |= {key: value for key, value in state.items() if isinstance(value, Tensor) and key != "step"}
    found |= {f"gradient {i}": g for i, g in enumerate(stepper._parameters.gradients)}
    return found


@pytest.mark.parametrize(("architecture", "optimizer", "loss"), COMBINATIONS, ids=str)
def test_a_whole_step_runs_where_there_are_no_numbers(architecture: str, optimizer: str, loss: Any) -> None:
    targets = losses.choose(loss).entry.traits["targets"]
    built = assemble(
        model=model_of(3 if targets == "classes" else 1, architecture=architecture),
        optimizer=optimizers[optimizer].example,
        loss=loss,
        device="meta",
        valid=None,
        accumulate=2,
        clip=Clip(norm=1.0),
        flat=optimizers[optimizer].traits["elementwise"],
    )
    stepper = Stepper(built)
    for number, batches in enumerate(built.train.epoch()):
        stepper.set_rates(number, 1.0)
        values, outputs, norm, *_ = stepper.step(batches, 0)
        assert {t.device.type for t in (*values, *outputs, norm)} == {"meta"}
    assert {name: t.device.type for name, t in tensors_of(stepper).items() if t.device.type != "meta"} == {}


@pytest.mark.parametrize("entry", list(activations), ids=lambda entry: entry.name)
@pytest.mark.parametrize("clip", [Clip(value=1.0), Clip(parameter_norm=1.0)], ids=str)
def test_activations_and_clippings_move_too(entry: Any, clip: Clip) -> None:
    built = assemble(model=model_of(activation=entry.example), device="meta", clip=clip, valid=None)
    stepper = Stepper(built)
    stepper.step(next(built.train.epoch()), 0)
    assert {t.device.type for t in tensors_of(stepper).values()} == {"meta"}


def test_a_tensor_left_behind_is_noticed() -> None:
    class Forgetful(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.dense, self.shift = nn.Linear(6, 3), torch.zeros(3)

        def forward(self, x: Tensor) -> Tensor:
            outputs: Tensor = self.dense(x) + self.shift
            return outputs

    built = assemble(model=Forgetful(), device="meta", valid=None)
    with pytest.raises(RuntimeError, match="device"):
        Stepper(built).step(next(built.train.epoch()), 0)


def test_a_step_above_frozen_layers_runs_where_there_are_no_numbers() -> None:
    built = assemble(model=network({"name": "mlp", "hidden": [5, 4]}, (6,), 3), device="meta")
    layers = list(built.model.named_children())
    cut = [name for name, _ in layers].index("dense2")
    lower, upper = nn.Sequential(OrderedDict(layers[:cut])), nn.Sequential(OrderedDict(layers[cut:]))
    lower.requires_grad_(False)
    built.train.examples = Features.of(built.train.examples, lower, batch_size=16, precision="fp32")
    stepper = Stepper(replace(built, upper=upper))
    batches = next(built.train.epoch())
    done = stepper.step(batches, 0)
    kept = built.train.examples.outputs
    assert kept.shape == (40, 5)
    for tensor in (kept, *done.outputs, *done.losses, *(x for x, _ in batches), *(p for p in upper.parameters())):
        assert tensor.device.type == "meta"


@pytest.mark.parametrize("entry", list(activations), ids=lambda entry: entry.name)
def test_a_forward_pass_runs_on_a_make_believe_gpu(entry: Any) -> None:
    model = model_of(activation=entry.example)
    held = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    with FakeTensorMode():
        moved = {name: torch.empty(t.shape, dtype=t.dtype, device="cuda") for name, t in held.items()}
        outputs = torch.func.functional_call(model, moved, torch.empty(4, 6, device="cuda"))
        assert (outputs.device.type, outputs.shape, outputs.dtype) == ("cuda", (4, 3), torch.float32)


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize(("architecture", "optimizer", "loss"), COMBINATIONS, ids=str)
@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_a_gpu_trains_every_combination(architecture: str, optimizer: str, loss: Any, precision: str) -> None:
    targets = losses.choose(loss).entry.traits["targets"]
    built = assemble(
        model=model_of(3 if targets == "classes" else 1, architecture=architecture),
        optimizer=optimizers[optimizer].example,
        loss=loss,
        device="cuda",
        precision=precision,
        clip=Clip(norm=1.0),
    )
    fit = Trainer(built).fit()
    assert fit.last_row["valid/loss"] is not None


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_data_kept_on_the_cpu_is_fed_to_the_gpu() -> None:
    built = assemble(device="cuda")
    kept = examples(40)
    part = type(kept)(kept.x, kept.y, kept.index, kept.prepare, torch.device("cuda"))
    x, y = part.take(torch.arange(5))
    assert (x.device.type, y.device.type) == ("cuda", "cuda")
    built.train.examples = part
    Trainer(built).fit()
