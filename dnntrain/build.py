"""From a `Spec` to a `Built`: the data is opened, `auto` is replaced by what it chooses, and all parts are made."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from dnntrain.errors import DataError, Problem, SpecError, UsageError
from dnntrain.parts.activations import activations, learn_channels
from dnntrain.parts.architectures import Blocks
from dnntrain.parts.callbacks import callbacks
from dnntrain.parts.datasets import Arrays, Holdout, Parts, Split, open_dataset, partition
from dnntrain.parts.initializers import Fans, initializers, orthogonal
from dnntrain.parts.layers import kernels
from dnntrain.parts.losses import losses
from dnntrain.parts.metrics import metrics
from dnntrain.parts.normalizations import InstanceNorm, normalizations
from dnntrain.parts.optimizers.grouping import grouped
from dnntrain.parts.schedules import Horizon, plan
from dnntrain.parts.transforms import Standardize, fit_standardize
from dnntrain.placement import Placement
from dnntrain.registry import AUTO, Choice
from dnntrain.spec import Spec, seconds
from dnntrain.spec.fit import misfits, vocabulary
from dnntrain.spec.schema import Validation
from dnntrain.spec.values import MonitorSpec
from dnntrain.training.batches import Augment, Batches, Examples, balanced
from dnntrain.training.built import Built, Clip, Schedule
from dnntrain.training.hooks import Hook, Monitor, TimeLimit
from dnntrain.training.parameters import FlatParameters, Parameters, TensorParameters
from dnntrain.training.randomness import derive, forked, generator
from dnntrain.training.regularization import Constraint, GradientNoise, Penalty

DEEP = 5
"""From so many hidden layers on, the defaults are swish and batch normalization."""


# PyTorch has no exception of its own for a tensor that the CPU cannot hold, or whose size is no 64-bit number.
_TOO_LARGE = re.compile("allocate memory|calculation overflowed|Overflow when unpacking|out of memory")


@dataclass(frozen=True)
class Data:
    """An opened data set, divided as the experiment says.

    Attributes:
        arrays: the whole of it.
        parts: its training, validation and test parts.
    """

    arrays: Arrays
    parts: Parts

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one input sample."""
        return tuple(self.arrays.x_train.shape[1:])


def open_data(spec: Spec) -> Data:
    """Open and divide the data of an experiment.

    Raises:
        DataError: it is missing or damaged.
        SpecError: it cannot be divided as the experiment says.
    """
    arrays = open_dataset(spec.data.dataset)
    validation = spec.data.validation
    holdout = None
    if isinstance(validation, Validation):
        holdout = Holdout(
            size=validation.size,
            fraction=validation.fraction,
            folds=validation.folds,
            fold=validation.fold,
            origin=validation.from_,
            seed=validation.seed,
        )
    try:
        parts = partition(arrays, classes=spec.data.classes, validation=holdout, limit=spec.data.limit)
    except DataError as error:
        # What cannot be divided so is a mistake of the file, in the key that the message begins with.
        key, _, message = str(error).partition(": ")
        raise SpecError([spec.problem(f"data.{key}", f"'{key}': {message}")]) from error
    return Data(arrays, parts)


def resolve(spec: Spec, data: Data) -> Spec:
    """Replace every `auto` that bears on the numbers by what it chooses, so that the file says it all.

    Raises:
        SpecError: the experiment does not fit the data, or monitors a metric that is not measured.
    """
    regression = data.parts.classes is None
    resolved = spec.model_copy(
        update={
            "data": _resolve_data(spec, regression=regression),
            "model": _resolve_model(spec),
            "loss": losses.choose("mse" if regression else "cross_entropy") if spec.loss == AUTO else spec.loss,
            "metrics": tuple(metrics.choose(m) for m in (("mae", "r2") if regression else ("accuracy",)))
            if spec.metrics == AUTO
            else spec.metrics,
            "callbacks": _default_callbacks(spec) if spec.callbacks == AUTO else spec.callbacks,
        }
    )
    training = spec.training.model_copy(update={"monitor": _resolve_monitor(resolved)})
    resolved = resolved.model_copy(update={"training": training})
    problems = [*misfits(resolved, data.arrays, data.parts), *_monitor_problems(resolved)]
    if problems:
        raise SpecError(problems)
    return resolved


def build(spec: Spec, data: Data, placement: Placement) -> Built:
    """Make everything that a trainer needs.

    Args:
        spec: a resolved experiment.
        data: its data.
        placement: where it will run.
    """
    device = placement.device
    model = laid_out(build_model(spec, data.shape, outputs(spec, data)), device).to(device)
    prepare = standardizer(spec, data).to(device)
    x, y = _tensors(data.arrays.x_train, data.parts.train.y, device)
    train = _examples(x, y, data.parts.train, prepare, device)
    batches = Batches(
        train,
        batch_size=spec.data.batch_size,
        accumulate=spec.training.accumulate,
        generator=generator(spec.seed, "order"),
        order=balanced(_labels(data.parts.train)) if spec.data.sampling == "balanced" else None,
        augment=_augment(spec, data),
    )
    with _located(spec, "optimizer.groups"):
        parameters = _parameters(spec, model)
    optimizer = cast(torch.optim.Optimizer, spec.optimizer.build(groups=parameters.groups))
    schedule, reaction = _schedule(spec, steps_per_epoch=len(batches))
    regularizers = _regularizers(spec, model)
    clip = spec.training.clip
    return Built(
        model=model,
        loss=_loss(spec, data).to(device),
        metrics={name: metric for name, metric in _metrics(spec, data).items() if metrics[name].traits["scalar"]},
        train=batches,
        valid=_examples(x, y, data.parts.valid, prepare, device) if data.parts.valid else None,
        parameters=parameters,
        optimizer=optimizer,
        schedule=schedule,
        epochs=spec.training.epochs,
        monitor=_monitor(spec),
        device=device,
        precision=placement.precision,
        clip=Clip(clip.norm, clip.parameter_norm, clip.value) if clip else Clip(),
        penalties=[each for each in regularizers if isinstance(each, Penalty)],
        noise=[each for each in regularizers if isinstance(each, GradientNoise)],
        constraints=[each for each in regularizers if isinstance(each, Constraint)],
        hooks=_hooks(spec, reaction),
        compiled=cast(Callable[[Tensor], Tensor], torch.compile(model)) if placement.compile else None,
    )


def build_model(spec: Spec, shape: tuple[int, ...], outputs: int) -> nn.Module:
    """Make the network of a resolved experiment on the CPU, its weights drawn from the seed.

    Args:
        spec: a resolved experiment.
        shape: of one input sample.
        outputs: number of logits.
    """
    draws = generator(spec.seed, "initialization")
    model = spec.model

    def initialize(key: str) -> Callable[[Tensor, Fans], None]:
        choice = _chosen(getattr(model, key))
        make = _locating(spec, f"model.{key}", choice.build)
        return lambda weight, fans: make(weight=weight, fans=fans, generator=draws)

    norm = _chosen(model.normalization).build()
    drops = [dropout.build() for dropout in model.dropout]
    blocks = Blocks(
        activation=_locating(spec, "model.activation", _chosen(model.activation).build),
        normalization=replace(norm, make=norm.make and _locating(spec, "model.normalization", norm.make)),
        dropouts=[replace(d, make=_locating(spec, f"model.dropout.{i}", d.make)) for i, d in enumerate(drops)],
        initialize=initialize("initializer"),
        initialize_output=initialize("output_initializer"),
        initialize_recurrent=lambda weight, fans: orthogonal(weight, fans, draws),
    )
    # PyTorch's layers draw weights of their own as they are made, from the global generator; what a part draws beyond
    # our initializers must depend on the seed as well.
    with forked(torch.device("cpu")):
        torch.manual_seed(derive(spec.seed, "layers"))
        try:
            network: nn.Module = model.architecture.build(shape=shape, outputs=outputs, blocks=blocks)
        except SpecError as error:
            problems = [
                each if each.mark else spec.problem("model.architecture", each.message, each.hint)
                for each in error.problems
            ]
            raise SpecError(problems) from error
        except (RuntimeError, TypeError) as error:
            if not _TOO_LARGE.search(str(error)):
                raise
            message = "this network is too large for the memory of this machine"
            raise SpecError([spec.problem("model.architecture", message, "use fewer layers or units")]) from error
    with _located(spec, "model.normalization"):
        learn_channels(network, torch.zeros(1, *shape))
        _check_positions(network, torch.zeros(1, *shape))
    return network


def _check_positions(network: nn.Module, sample: Tensor) -> None:
    """Let instance normalization see how many positions are left of a sample, before a training starts.

    Raises:
        UsageError: a single one.
    """
    if any(isinstance(module, InstanceNorm) for module in network.modules()):
        with torch.no_grad():
            network.eval()(sample)
        network.train()


def laid_out(model: nn.Module, device: torch.device) -> nn.Module:
    """Put the kernels of convolutions into the order that tensor cores read: channels last, on CUDA."""
    return model.to(memory_format=torch.channels_last) if device.type == "cuda" else model


def outputs(spec: Spec, data: Data) -> int:
    """Return the number of logits that the loss asks for."""
    if targets(spec) == "binary":
        return 1
    if data.parts.classes is not None:
        return len(data.parts.classes)
    y = data.arrays.y_train
    return 1 if y.ndim == 1 else int(y.shape[1])


def targets(spec: Spec) -> str:
    """Return what the outputs of a resolved experiment are for: `classes`, `binary` or `values`."""
    return str(_chosen(spec.loss).entry.traits["targets"])


def standardizer(spec: Spec, data: Data) -> Standardize:
    """Measure the training part and return what standardizes inputs."""
    train = data.parts.train
    return fit_standardize(
        cast(Any, spec.data.standardize),
        train.x,
        train.index,
        full_scale=data.arrays.full_scale,
        layout=data.arrays.layout,
    )


def part_of(spec: Spec, data: Data, name: str, prepare: nn.Module, device: torch.device) -> Examples:
    """Return one part of the data, ready to be evaluated.

    Args:
        spec: a resolved experiment.
        data: its data.
        name: train, valid or test.
        prepare: what standardizes inputs.
        device: where batches are wanted.

    Raises:
        UsageError: the experiment has no such part.
    """
    split: Split | None = getattr(data.parts, name)
    if split is None:
        missing = {
            "valid": "data.validation is none",
            "test": f"dataset '{spec.data.dataset.name}' has no test samples",
        }
        raise UsageError(f"there is no {name} part: {missing[name]}")
    x, y = _tensors(split.x, split.y, device)
    return _examples(x, y, split, prepare, device)


def loss_and_metrics(spec: Spec, data: Data) -> tuple[nn.Module, dict[str, Any]]:
    """Return the loss of a resolved experiment, and its metrics by name."""
    return _loss(spec, data), _metrics(spec, data)


@contextmanager
def _located(spec: Spec, path: str) -> Iterator[None]:
    """Show where the file asks for what a part finds impossible once it knows the network."""
    try:
        yield
    except UsageError as error:
        raise SpecError([spec.problem(path, str(error))]) from error


def _locating(spec: Spec, path: str, make: Callable[..., Any]) -> Callable[..., Any]:
    def located(*args: Any, **kwargs: Any) -> Any:
        with _located(spec, path):
            return make(*args, **kwargs)

    return located


def _regularizers(spec: Spec, model: nn.Module) -> list[Any]:
    found, made = kernels(model), []
    for i, choice in enumerate(spec.regularizers):
        with _located(spec, f"regularizers.{i}"):
            made.append(choice.build(kernels=found))
    return made


def _resolve_data(spec: Spec, *, regression: bool) -> Any:
    validation = spec.data.validation
    if isinstance(validation, Validation) and validation.from_ == AUTO:
        validation = validation.model_copy(update={"from_": "random" if regression else "stratified"})
    standardize = spec.data.standardize
    if standardize == AUTO:
        standardize = "none" if vocabulary(spec) else spec.model.architecture.entry.traits["standardize"]
    return spec.data.model_copy(update={"validation": validation, "standardize": standardize})


def _resolve_model(spec: Spec) -> Any:
    model = spec.model
    traits = model.architecture.entry.traits
    deep = traits["depth"](model.architecture.options) >= DEEP
    usual = traits["activation"] or ("swish" if deep else "relu")
    activation = activations.choose(usual) if model.activation == AUTO else model.activation
    default = _chosen(activation).entry.traits["initializer"]
    return model.model_copy(
        update={
            "activation": activation,
            "initializer": initializers.choose(default) if model.initializer == AUTO else model.initializer,
            "output_initializer": initializers.choose("glorot_uniform")
            if model.output_initializer == AUTO
            else model.output_initializer,
            "normalization": normalizations.choose(traits["normalization"] or ("batch" if deep else "none"))
            if model.normalization == AUTO
            else model.normalization,
        }
    )


def _default_callbacks(spec: Spec) -> tuple[Choice, ...]:
    """Return early stopping, unless nothing is validated or an average begins late in the planned epochs."""
    late = spec.training.average is not None and getattr(spec.training.average.options, "start", 0.0) > 0
    return () if late or spec.data.validation == "none" else (callbacks.choose("early_stopping"),)


def _resolve_monitor(spec: Spec) -> MonitorSpec:
    monitor = spec.training.monitor
    if not isinstance(monitor, MonitorSpec):
        monitor = MonitorSpec(metric="train/loss" if spec.data.validation == "none" else "valid/loss")
    if monitor.mode != AUTO:
        return monitor
    name = monitor.metric.split("/")[1]
    mode = metrics[name].traits["mode"] if name in metrics else "min"
    return monitor.model_copy(update={"mode": mode})


def _monitor_problems(spec: Spec) -> list[Problem]:
    monitor = _monitor(spec)
    scalars = [metric.name for metric in _choices(spec.metrics) if metric.entry.traits["scalar"]]
    measured = ["loss", *scalars]
    part, name = monitor.metric.split("/")
    if name in measured:
        return []
    known = ", ".join(f"{part}/{each}" for each in measured)
    return [spec.problem("training.monitor", f"{monitor.metric} is monitored but not measured", f"measured: {known}")]


def _augment(spec: Spec, data: Data) -> Augment | None:
    """Return the changes to training batches: those that mix samples come after standardizing."""
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
        generator=generator(spec.seed, "augmentation"),
    )


def _monitor(spec: Spec) -> Monitor:
    monitor = cast(MonitorSpec, spec.training.monitor)
    return Monitor(monitor.metric, "max" if monitor.mode == "max" else "min")


def _hooks(spec: Spec, reaction: Hook | None) -> dict[str, Hook]:
    """Return the work beside the loop, each under the key of the file that asks for it."""
    hooks: dict[str, Hook] = {}
    if spec.training.average is not None:
        hooks["training.average"] = spec.training.average.build()
    if reaction is not None:
        hooks["schedule"] = reaction
    if spec.training.max_time is not None:
        hooks["training.max_time"] = TimeLimit(seconds(spec.training.max_time), time.monotonic)
    for i, callback in enumerate(_choices(spec.callbacks)):
        hooks[f"callbacks.{i}"] = callback.build()
    return hooks


def _schedule(spec: Spec, *, steps_per_epoch: int) -> tuple[Schedule, Hook | None]:
    """Return the schedule, and the hook of one that reacts to a metric."""
    lr = getattr(spec.optimizer.options, "lr")  # noqa: B009 - the options' type is made at run time
    return plan(spec.schedule, Horizon(spec.training.epochs * steps_per_epoch, steps_per_epoch, lr))


def _parameters(spec: Spec, model: nn.Module) -> Parameters:
    """Group the parameters by their rates and decays, and lay them into one piece where the optimizer allows it."""
    options: Any = spec.optimizer.options
    groups = grouped(model, options.groups, decay=getattr(options, "weight_decay", None))
    return FlatParameters(groups) if spec.optimizer.entry.traits["elementwise"] else TensorParameters(groups)


def _loss(spec: Spec, data: Data) -> nn.Module:
    classes = data.parts.classes
    counts = torch.bincount(_labels(data.parts.train), minlength=len(classes)) if classes else torch.zeros(0)
    return cast(nn.Module, _chosen(spec.loss).build(class_counts=counts))


def _metrics(spec: Spec, data: Data) -> dict[str, Any]:
    classes = len(data.parts.classes or ())
    return {metric.name: metric.build(classes=classes) for metric in _choices(spec.metrics)}


def _labels(split: Split) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(split.y[split.index]))


def _tensors(x: np.ndarray, y: np.ndarray, device: torch.device) -> tuple[Tensor, Tensor]:
    """Return arrays as tensors, on the device where they fit into half of its free memory, else on the CPU."""
    inputs, targets = torch.from_numpy(x), torch.from_numpy(y)
    if targets.is_floating_point() and targets.ndim == 1:
        targets = targets.unsqueeze(1)
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        if x.nbytes > free // 2:
            return inputs, targets
        return inputs.pin_memory().to(device, non_blocking=True), targets.to(device)
    return inputs.to(device), targets.to(device)


def _examples(x: Tensor, y: Tensor, split: Split, prepare: nn.Module, device: torch.device) -> Examples:
    return Examples(x, y, torch.from_numpy(split.index).to(x.device), prepare, device)


def _chosen(value: Any) -> Choice:
    """Narrow a field that may be `auto` to the part that `resolve` has put there."""
    if not isinstance(value, Choice):
        raise TypeError("the experiment is not resolved: call build.resolve first")
    return value


def _choices(value: Any) -> tuple[Choice, ...]:
    return tuple(_chosen(item) for item in value)
