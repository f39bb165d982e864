"""The stages of a training: which layers are frozen in each of them, and at what rates the others learn."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Final

import torch
from torch import nn
from torch.nn.modules.batchnorm import _NormBase

from dnntrain.errors import SpecError, UsageError
from dnntrain.parts.datasets.decoding import memory
from dnntrain.parts.layers import Layer, layers_of, pick
from dnntrain.registry import Choice
from dnntrain.spec import Spec
from dnntrain.spec.reusing import StageSpec
from dnntrain.training.batches import Examples
from dnntrain.training.features import Features, split
from dnntrain.units import volume

SHARE: Final = 0.25
"""How much of a device's memory the outputs of frozen layers may take."""

_SAMPLES: Final = 8


@dataclass(frozen=True)
class Stage:
    """A part of training.

    Attributes:
        number: from 1; 0 for a training that is not divided.
        epochs: how long it lasts.
        later_epochs: how long all stages after it last.
        frozen: names of the layers that stay as they are.
        optimizer: with the stage's learning rate.
        schedule: of the learning rate.
        layer_decay: the rate of each trained layer, as a multiple of that of the layer above it.
    """

    number: int
    epochs: int
    later_epochs: int
    frozen: frozenset[str]
    optimizer: Choice
    schedule: Choice
    layer_decay: float = 1.0


def stages_of(spec: Spec, model: nn.Module, reused: Collection[str]) -> list[Stage]:
    """Return the stages of an experiment; of one that is not divided, the whole training as one.

    Args:
        spec: a resolved experiment.
        model: its network.
        reused: names of the layers that come from elsewhere.

    Raises:
        SpecError: there are no such layers as the file names, or nothing is left to train.
    """
    layers = layers_of(model)
    frozen = _frozen_at_first(spec, layers, reused)
    if not spec.training.stages:
        _check_trained(spec, "model.reuse.freeze", layers, frozen)
        return [Stage(0, spec.training.epochs, 0, frozen, spec.optimizer, spec.schedule)]
    made, left = [], spec.training.epochs
    for i, stage in enumerate(spec.training.stages):
        path = f"training.stages.{i}"
        frozen = _frozen_then(spec, path, stage, layers, frozen, reused)
        _check_trained(spec, path, layers, frozen)
        epochs = min(stage.epochs, left)
        left -= epochs
        if epochs:
            optimizer, schedule = _at_rate(spec.optimizer, stage.lr), stage.schedule or spec.schedule
            made.append(Stage(i + 1, epochs, left, frozen, optimizer, schedule, stage.layer_decay))
    return made


def _frozen_at_first(spec: Spec, layers: Sequence[Layer], reused: Collection[str]) -> frozenset[str]:
    if spec.model.reuse is None:
        return frozenset()
    kept = [layer for layer in layers if layer.name in reused]
    try:
        return frozenset(layer.name for layer in pick(kept, spec.model.reuse.freeze, reused=reused))
    except UsageError as error:
        raise SpecError([spec.problem("model.reuse.freeze", str(error))]) from error


def _frozen_then(
    spec: Spec, path: str, stage: StageSpec, layers: Sequence[Layer], frozen: frozenset[str], reused: Collection[str]
) -> frozenset[str]:
    """Return what is frozen in a stage, given what was in the one before."""
    key = "freeze" if stage.freeze is not None else "unfreeze"
    try:
        if stage.freeze is not None:
            return frozen | {layer.name for layer in pick(layers, stage.freeze, reused=reused)}
        if stage.unfreeze is None:
            return frozen
        still = [layer for layer in layers if layer.name in frozen]
        if isinstance(stage.unfreeze, int):
            return frozenset(layer.name for layer in still[: max(0, len(still) - stage.unfreeze)])
        return frozen - {layer.name for layer in pick(layers, stage.unfreeze, reused=reused)}
    except UsageError as error:
        raise SpecError([spec.problem(f"{path}.{key}", str(error))]) from error


def _check_trained(spec: Spec, path: str, layers: Sequence[Layer], frozen: Collection[str]) -> None:
    if layers and all(layer.name in frozen for layer in layers):
        raise SpecError(
            [spec.problem(path, "all layers are frozen, so there is nothing to train", "leave the output layer out")]
        )


def _at_rate(optimizer: Choice, lr: float | None) -> Choice:
    return optimizer if lr is None else Choice(optimizer.entry, optimizer.options.model_copy(update={"lr": lr}))


def freeze(model: nn.Module, frozen: Collection[str]) -> list[nn.Module]:
    """Let training pass over some layers of a network, and over no others.

    Args:
        model: the network; changed in place.
        frozen: names of the layers.

    Returns:
        their normalizations with running statistics, which have to be held as they are.
    """
    modules = dict(model.named_modules())
    model.requires_grad_(True)
    held: list[nn.Module] = []
    for layer in layers_of(model):
        if layer.name in frozen:
            own = [modules[name] for name in layer.modules]
            for module in own:
                for p in module.parameters(recurse=False):
                    p.requires_grad_(False)
            held += [module for module in own if isinstance(module, _NormBase) and module.track_running_stats]
    return held


def factors(model: nn.Module, stage: Stage) -> dict[str, float]:
    """Return what the learning rate of each parameter is multiplied by, by its name.

    The uppermost trained layer has 1, the one below it d, the next d^2 (discriminative fine-tuning, arXiv:1801.06146,
    which proposes d = 1 / 2.6).
    """
    trained = [layer for layer in layers_of(model) if layer.name not in stage.frozen]
    return {
        f"{name}.{key}" if name else key: stage.layer_decay**depth
        for depth, layer in enumerate(reversed(trained))
        for name in layer.modules
        for key, _ in model.get_submodule(name).named_parameters(recurse=False)
    }


@dataclass(frozen=True)
class Cache:
    """The lower part of a network as something that is computed once.

    Attributes:
        upper: what is left of the network.
        train: the training part behind the lower layers.
        valid: the validation part behind them, or None.
    """

    upper: nn.Module
    train: Examples
    valid: Examples | None


def cache(
    spec: Spec,
    model: nn.Module,
    train: Examples,
    valid: Examples | None,
    *,
    held: Collection[nn.Module],
    batch_size: int,
    precision: str,
) -> Cache | None:
    """Put what the frozen lower layers give in the place of what they take; None where that is impossible.

    Args:
        spec: the experiment.
        model: its network, with the layers of the present stage frozen.
        train: the training part.
        valid: the validation part, or None.
        held: normalizations that keep their statistics.
        batch_size: samples that pass the lower layers at a time.
        precision: number format of the pass.

    Raises:
        SpecError: it is impossible, and the file asks for it.
    """

    def impossible(why: str) -> Cache | None:
        if spec.training.cache_frozen is True:
            message = f"the outputs of frozen layers cannot be kept: {why}"
            raise SpecError([spec.problem("training.cache_frozen", message, "write auto")])
        return None

    if spec.training.cache_frozen is False or all(p.requires_grad for p in model.parameters()):
        return None
    if spec.data.augment:
        return impossible("augmentation changes the samples in every epoch")
    if len(train) < 2:
        return impossible("there is a single sample")
    sample, _ = train.take(torch.arange(min(_SAMPLES, len(train)), device=train.index.device))
    parts = split(model, sample, held=held, precision=precision)
    if parts is None:
        return impossible("the lowest layer is trained, draws at random or changes")
    lower, upper = parts
    features = Features.of(train, lower, batch_size=batch_size, precision=precision)
    size = features.size_of(sample) * (len(train) + (0 if valid is None else len(valid)))
    if size > SHARE * _memory(train.device):
        return impossible(f"they would take {volume(size)}, more than a quarter of the memory")
    behind = None if valid is None else Features.of(valid, lower, batch_size=batch_size, precision=precision)
    return Cache(upper, features, behind)


def _memory(device: torch.device) -> int:
    """Return the memory of a device, in bytes."""
    return int(torch.cuda.get_device_properties(device).total_memory) if device.type == "cuda" else memory()
