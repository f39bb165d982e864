"""A small experiment put together by hand: no file, no registry of data sets, no disk."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from tinyparts import make_mlp
from torch import Tensor, nn

from dnntrain.parts.losses import losses
from dnntrain.parts.metrics import metrics as known_metrics
from dnntrain.parts.optimizers import optimizers
from dnntrain.training.batches import Batches, Examples
from dnntrain.training.built import Built, Clip
from dnntrain.training.hooks import Hook, Monitor, Row, RunView
from dnntrain.training.parameters import FlatParameters, TensorParameters
from dnntrain.training.randomness import generator
from dnntrain.training.trainer import Fit, Trainer

CLASSES = 3
TIMES = ("seconds", "samples_per_second")
SGD = {"name": "sgd", "lr": 0.1}


def samples(n: int = 40, features: int = 6, *, kind: str = "classes", seed: int = 0) -> tuple[Tensor, Tensor]:
    """Make inputs, and targets that can be learned from them."""
    draws = torch.Generator().manual_seed(seed)
    x = torch.randn(n, features, generator=draws)
    scores = x @ torch.randn(features, CLASSES, generator=torch.Generator().manual_seed(99))
    if kind == "values":
        return x, scores[:, :1]
    return x, (scores[:, 0] > 0).long() if kind == "binary" else scores.argmax(dim=1)


def examples(n: int = 40, *, kind: str = "classes", device: str = "cpu", prepare: nn.Module | None = None) -> Examples:
    """Make a part of the data: every row of `samples`."""
    x, y = samples(n, kind=kind)
    where = torch.device(device)
    return Examples(x.to(where), y.to(where), torch.arange(n).to(where), prepare or nn.Identity(), where)


def assemble(
    *,
    model: nn.Module | None = None,
    optimizer: Any = SGD,
    loss: Any = "cross_entropy",
    metrics: Mapping[str, Any] | None = None,
    n: int = 40,
    valid: int | None = 20,
    batch_size: int = 8,
    accumulate: int = 1,
    epochs: int = 2,
    schedule: Any = lambda step: (1.0, None),
    monitor: Monitor | None = None,
    precision: Any = "fp32",
    clip: Clip | None = None,
    hooks: Sequence[Hook] = (),
    flat: bool = True,
    device: str = "cpu",
    seed: int = 0,
) -> Built:
    """Put together everything that a trainer needs."""
    chosen = losses.choose(loss)
    kind = {"classes": "classes", "binary": "binary", "values": "values"}[chosen.entry.traits["targets"]]
    outputs = CLASSES if kind == "classes" else 1
    network = (make_mlp((6,), outputs) if model is None else model).to(device)
    groups = [{"params": list(network.parameters())}]
    parameters = FlatParameters(groups) if flat else TensorParameters(groups)
    train = examples(n, kind=kind, device=device)
    default = "mae" if kind == "values" else "accuracy"
    return Built(
        model=network,
        loss=chosen.build(class_counts=torch.ones(CLASSES, dtype=torch.int64)).to(device),
        metrics={default: known_metrics.choose(default).build()} if metrics is None else metrics,
        train=Batches(train, batch_size=batch_size, accumulate=accumulate, generator=generator(seed, "order")),
        valid=None if valid is None else examples(valid, kind=kind, device=device),
        parameters=parameters,
        optimizer=optimizers.choose(optimizer).build(groups=parameters.groups),
        schedule=schedule,
        epochs=epochs,
        monitor=monitor or Monitor("train/loss" if valid is None else "valid/loss"),
        device=torch.device(device),
        precision=precision,
        clip=clip or Clip(),
        evaluation_batch=7,
        hooks={str(i): hook for i, hook in enumerate(hooks)},
    )


def through_a_file(state: Any) -> Any:
    """Save and load, as a checkpoint would; only tensors and plain values come through."""
    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    return torch.load(file, weights_only=True)


class Ends(Hook):
    """Keeps the rows of finished epochs, and nothing of single steps."""

    def __init__(self) -> None:
        self.rows: list[Row] = []

    def on_epoch_end(self, run: RunView, /) -> None:
        self.rows.append({key: value for key, value in run.row.items() if key not in TIMES})


class At(Hook):
    """Does something at the end of one step or epoch."""

    def __init__(self, action: Any, *, step: int | None = None, epoch: int | None = None) -> None:
        self.action, self.step, self.epoch = action, step, epoch

    def on_step_end(self, run: RunView, /) -> None:
        if run.step == self.step:
            self.action(run)

    def on_epoch_end(self, run: RunView, /) -> None:
        if run.epoch == self.epoch:
            self.action(run)


def fitted(built: Built, *observers: Hook, noise: int = 3) -> tuple[Trainer, Fit]:
    torch.manual_seed(noise)
    trainer = Trainer(built, *observers)
    return trainer, trainer.fit()
