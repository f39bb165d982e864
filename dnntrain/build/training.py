"""Everything that a trainer needs, made of a resolved experiment and its data."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any, Final, cast

import torch
from torch import Tensor, nn

from dnntrain.build.data import Data, examples_of, labels, outputs, resizer, standardizer, tensors
from dnntrain.build.locating import choices, chosen, located, monitor_of
from dnntrain.build.model import build_model, laid_out
from dnntrain.build.reuse import open_source, reused_layers, take_over
from dnntrain.build.staging import Stage, cache, factors, freeze, stages_of
from dnntrain.parts.layers import kernels
from dnntrain.parts.metrics import metrics
from dnntrain.parts.optimizers.grouping import grouped
from dnntrain.parts.schedules import Horizon, plan
from dnntrain.placement import Placement
from dnntrain.spec import Spec, seconds
from dnntrain.training.batches import Augment, Batches, Examples, balanced
from dnntrain.training.built import EVALUATION_BATCH, Built, Clip, Loss, Metric, Schedule
from dnntrain.training.hooks import Hook, TimeLimit
from dnntrain.training.parameters import FlatParameters, Parameters, TensorParameters
from dnntrain.training.randomness import generator
from dnntrain.training.regularization import Constraint, GradientNoise, Penalty

_TIME_LIMIT: Final = "training.max_time"


def build(
    spec: Spec,
    data: Data,
    placement: Placement,
    *,
    restored: bool = False,
    scaling: Mapping[str, Tensor] | None = None,
) -> Built:
    """Make everything that a trainer needs; of a training in stages, for the first one.

    Args:
        spec: a resolved experiment.
        data: its data.
        placement: where it will run.
        restored: whether the weights will come from a checkpoint, so that layers to be reused need not be read.
        scaling: the state of what standardized the inputs when training was left, where that is known.

    Raises:
        SpecError: what is to be reused does not fit, or the file names layers that there are not.
    """
    device = placement.device
    network = build_model(spec, data.shape, outputs(spec, data), pretrained=not restored)
    source = open_source(spec) if spec.model.reuse is not None and not restored else None
    if source is not None:
        take_over(spec, network, source)
    model = laid_out(network, device).to(device)
    prepare, resize = standardizer(spec, data, saved=scaling, source=source).to(device), resizer(data.size)
    x, y = tensors(data.arrays.x_train, data.parts.train.y, device)
    batches = Batches(
        examples_of(x, y, data.parts.train, prepare, device, resize),
        batch_size=spec.data.batch_size,
        accumulate=spec.training.accumulate,
        generator=generator(spec.seed, "order"),
        order=balanced(labels(data.parts.train)) if spec.data.sampling == "balanced" else None,
        augment=augment_of(spec, data, "augmentation"),
    )
    return _of_stage(
        spec,
        placement,
        stages(spec, model)[0],
        model=model,
        loss=_loss(spec, data).to(device),
        metrics={name: metric for name, metric in _metrics(spec, data).items() if metrics[name].traits["scalar"]},
        train=batches,
        valid=examples_of(x, y, data.parts.valid, prepare, device, resize) if data.parts.valid else None,
    )


def stages(spec: Spec, model: nn.Module) -> list[Stage]:
    """Return the stages of an experiment, at least one.

    Raises:
        SpecError: the file names layers that there are not, or leaves nothing to train.
    """
    return stages_of(spec, model, reused_layers(spec, model))


def at_stage(spec: Spec, placement: Placement, built: Built, stage: Stage) -> Built:
    """Make what a trainer needs for another stage of a training.

    Args:
        spec: a resolved experiment.
        placement: where it runs.
        built: for any stage of it; its model, its data and what measures them are shared, so it is of no use any more.
        stage: the stage.
    """
    built.train.examples = built.train.examples.source
    made = _of_stage(
        spec,
        placement,
        stage,
        model=built.model,
        loss=built.loss,
        metrics=built.metrics,
        train=built.train,
        valid=None if built.valid is None else built.valid.source,
    )
    if _TIME_LIMIT in built.hooks:
        made.hooks = {**made.hooks, _TIME_LIMIT: built.hooks[_TIME_LIMIT]}
    return made


def _of_stage(
    spec: Spec,
    placement: Placement,
    stage: Stage,
    *,
    model: nn.Module,
    loss: Loss,
    metrics: Mapping[str, Metric],
    train: Batches,
    valid: Examples | None,
) -> Built:
    """Freeze what a stage freezes, and make what trains the rest of the network."""
    held = freeze(model, stage.frozen)
    with located(spec, "optimizer.groups"):
        parameters = parameters_of(stage, model)
    schedule, reaction = _schedule(stage, steps_per_epoch=len(train))
    regularizers = _regularizers(spec, model)
    clip = spec.training.clip
    numbers: dict[str, Any] = {"batch_size": EVALUATION_BATCH, "precision": placement.precision}
    cached = cache(spec, model, train.examples, valid, held=held, **numbers)
    if cached is not None:
        train.examples = cached.train
    passed = model if cached is None else cached.upper
    return Built(
        model=model,
        loss=loss,
        metrics=metrics,
        train=train,
        valid=valid if cached is None else cached.valid,
        parameters=parameters,
        optimizer=cast(torch.optim.Optimizer, stage.optimizer.build(groups=parameters.groups)),
        schedule=schedule,
        epochs=stage.epochs,
        monitor=monitor_of(spec),
        device=placement.device,
        precision=placement.precision,
        clip=Clip(clip.norm, clip.parameter_norm, clip.value) if clip else Clip(),
        penalties=[each for each in regularizers if isinstance(each, Penalty)],
        noise=[each for each in regularizers if isinstance(each, GradientNoise)],
        constraints=[each for each in regularizers if isinstance(each, Constraint)],
        hooks=_hooks(spec, reaction),
        compiled=cast(Callable[[Tensor], Tensor], torch.compile(passed)) if placement.compile else None,
        stage=stage.number,
        later_epochs=stage.later_epochs,
        held=held,
        upper=None if cached is None else cached.upper,
    )


def loss_and_metrics(spec: Spec, data: Data) -> tuple[nn.Module, dict[str, Any]]:
    """Return the loss of a resolved experiment, and its metrics by name."""
    return _loss(spec, data), _metrics(spec, data)


def _regularizers(spec: Spec, model: nn.Module) -> list[Any]:
    found, made = kernels(model), []
    for i, choice in enumerate(spec.regularizers):
        with located(spec, f"regularizers.{i}"):
            made.append(choice.build(kernels=found))
    # One whose layers are all frozen has nothing to do.
    return [each for each in made if each.weights]


def augment_of(spec: Spec, data: Data, stream: str) -> Augment | None:
    """Return the changes to training batches: those that mix samples come after standardizing.

    Args:
        spec: a resolved experiment.
        data: its data.
        stream: what random numbers they draw.
    """
    if not spec.data.augment:
        return None
    classes = len(data.parts.classes or ())
    made = [
        (each.entry.traits["mixes"], each.build(full_scale=data.arrays.full_scale, classes=classes))
        for each in spec.data.augment
    ]
    return Augment(
        raw=[change for mixes, change in made if not mixes],
        prepared=[change for mixes, change in made if mixes],
        generator=generator(spec.seed, stream),
    )


def _hooks(spec: Spec, reaction: Hook | None) -> dict[str, Hook]:
    """Return the work beside the loop, each under the key of the file that asks for it."""
    hooks: dict[str, Hook] = {}
    if spec.training.average is not None:
        hooks["training.average"] = spec.training.average.build()
    if reaction is not None:
        hooks["schedule"] = reaction
    if spec.training.max_time is not None:
        hooks[_TIME_LIMIT] = TimeLimit(seconds(spec.training.max_time), time.monotonic)
    for i, callback in enumerate(choices(spec.callbacks)):
        hooks[f"callbacks.{i}"] = callback.build()
    return hooks


def _schedule(stage: Stage, *, steps_per_epoch: int) -> tuple[Schedule, Hook | None]:
    """Return the schedule, and the hook of one that reacts to a metric."""
    lr = getattr(stage.optimizer.options, "lr")  # noqa: B009 - the options' type is made at run time
    return plan(stage.schedule, Horizon(stage.epochs * steps_per_epoch, steps_per_epoch, lr))


def parameters_of(stage: Stage, model: nn.Module) -> Parameters:
    """Group the trainable parameters by rates and decays, and lay them into one piece where the optimizer allows it."""
    options: Any = stage.optimizer.options
    groups = grouped(
        model,
        options.groups,
        decay=getattr(options, "weight_decay", None),
        lr=options.lr,
        factors=factors(model, stage) if stage.layer_decay != 1.0 else None,
    )
    return FlatParameters(groups) if stage.optimizer.entry.traits["elementwise"] else TensorParameters(groups)


def _loss(spec: Spec, data: Data) -> nn.Module:
    classes = data.parts.classes
    counts = torch.bincount(labels(data.parts.train), minlength=len(classes)) if classes else torch.zeros(0)
    return cast(nn.Module, chosen(spec.loss).build(class_counts=counts))


def _metrics(spec: Spec, data: Data) -> dict[str, Any]:
    classes = len(data.parts.classes or ())
    return {metric.name: metric.build(classes=classes) for metric in choices(spec.metrics)}
