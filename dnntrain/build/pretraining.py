"""Pretraining as something to be trained: tasks set for the network of an experiment, and the samples they are of."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, cast

import torch
from torch import Tensor, nn

from dnntrain.build.data import Data, unlabeled
from dnntrain.build.locating import located
from dnntrain.build.model import blocks_of, laid_out
from dnntrain.build.staging import Stage
from dnntrain.build.training import augment_of, parameters_of
from dnntrain.errors import UsageError
from dnntrain.parts.layers import layers_of, state_of
from dnntrain.parts.pretraining import Task
from dnntrain.parts.schedules import schedules
from dnntrain.placement import Placement
from dnntrain.registry import Choice
from dnntrain.spec import Spec
from dnntrain.spec.values import MonitorSpec
from dnntrain.training.batches import Augment, Batch, Batches, Change, Changed, Examples
from dnntrain.training.built import EVALUATION_BATCH, Built, Clip
from dnntrain.training.hooks import Monitor
from dnntrain.training.randomness import derive, forked, generator

_LOOKED_AT: Final = 4096
"""Samples that tell whether inputs lie between 0 and 1."""


@dataclass(frozen=True)
class Named:
    """A task of a pretraining.

    Attributes:
        name: its number, from 1 over all tasks of the experiment, and what it is.
        spec: the experiment as far as this task goes: its epochs and its monitor stand in place of training's.
        task: what is to be learned.
        batch_size: samples in a batch.
        optimizer: at the task's learning rate.
    """

    name: str
    spec: Spec
    task: Task
    batch_size: int
    optimizer: Choice


class Pretraining:
    """What the hidden layers of an experiment are to learn before its training begins.

    Args:
        spec: a resolved experiment with a pretraining.
        data: its data.
        placement: where it runs.
        built: what its training needs; its network and samples are looked at, and left as they are.

    Attributes:
        tasks: in their order; all share the layers of one network.
        data: the data.
        device: where the work is done.

    Raises:
        SpecError: the network or the samples do not fit.
    """

    def __init__(self, spec: Spec, data: Data, placement: Placement, built: Built) -> None:
        self._spec = spec
        self.data = data
        self.device = placement.device
        self._precision = placement.precision
        source = built.train.examples.source
        self._x = source.x
        self._samples = replace(
            source,
            # Not even by mistake shall a label be seen.
            y=torch.zeros(len(source.x), dtype=torch.int64, device=source.x.device),
            index=torch.from_numpy(unlabeled(spec, data).index).to(source.x.device),
        )
        # A copy, since what trains a network lays its weights out, freezes layers, and moves it for its own needs.
        self._network = copy.deepcopy(built.model).cpu()
        self.tasks = list(self._set())

    def _set(self) -> Iterator[Named]:
        number = 0
        for i, choice in enumerate(self._spec.pretraining):
            options: Any = choice.options
            key = f"pretraining.{i}"
            for task in self._tasks_of(choice, key):
                number += 1
                name = "-".join([str(number), choice.name, *([task.name] if task.name else [])])
                if task.from_zero_to_one:
                    with located(self._spec, key):
                        self._check_range(choice.name)
                if task.views > 1:
                    with located(self._spec, key):
                        self._check_views(choice.name)
                optimizer = self._spec.optimizer
                given = {"groups": ()} if options.lr is None else {"groups": (), "lr": options.lr}
                yield Named(
                    name,
                    self._as_run(options.epochs),
                    task,
                    options.batch_size or self._spec.data.batch_size,
                    Choice(optimizer.entry, optimizer.options.model_copy(update=given)),
                )

    def _tasks_of(self, choice: Choice, key: str) -> Sequence[Task]:
        blocks = blocks_of(self._spec, generator(self._spec.seed, f"{key} initialization"))
        with forked(torch.device("cpu")), located(self._spec, key):
            torch.manual_seed(derive(self._spec.seed, f"{key} layers"))
            return cast(Sequence[Task], choice.build(network=self._network, shape=self.data.shape, blocks=blocks))

    def _check_range(self, name: str) -> None:
        x, _ = self._samples.take(torch.arange(min(_LOOKED_AT, len(self._samples)), device=self._x.device))
        low, high = float(x.min()), float(x.max())
        if low < 0 or high > 1:
            raise UsageError(
                f"{name} takes inputs for probabilities, and these go from {low:.3g} to {high:.3g}: write "
                "data.standardize: unit, or an option of it that takes other inputs"
            )

    def _check_views(self, name: str) -> None:
        augment = augment_of(self._spec, self.data, "views")
        if augment is None or not augment.raw:
            raise UsageError(
                f"{name} compares two changes of each sample, and data.augment has none that leaves targets alone: "
                "write such as data.augment: [{name: random_crop, padding: 2}, random_erasing]"
            )

    def _as_run(self, epochs: int) -> Spec:
        """Return the experiment as what is recorded of a task: the same, but for how long and what is watched."""
        monitor = MonitorSpec(metric=self._monitor.metric, mode="min")
        update = {"epochs": epochs, "stages": (), "monitor": monitor}
        return self._spec.model_copy(update={"training": self._spec.training.model_copy(update=update)})

    @property
    def _monitor(self) -> Monitor:
        return Monitor("train/loss" if self.data.parts.valid is None else "valid/loss")

    def build(self, each: Named, /) -> Built:
        """Make what a trainer needs for one of the tasks; the ones before it must have been learned."""
        device, task, clip = self.device, each.task, self._spec.training.clip
        model = laid_out(task.model, device).to(device).train()
        model.requires_grad_(True)
        for frozen in task.frozen:
            frozen.requires_grad_(False)
        stage = Stage(0, each.spec.training.epochs, 0, frozenset(), each.optimizer, schedules.choose("constant"))
        parameters = parameters_of(stage, model)
        return Built(
            model=model,
            loss=task.loss,
            metrics=task.metrics,
            train=self._batches(each),
            valid=self._valid(each),
            parameters=parameters,
            optimizer=cast(torch.optim.Optimizer, each.optimizer.build(groups=parameters.groups)),
            schedule=lambda step: (1.0, None),
            epochs=stage.epochs,
            monitor=task.monitor or self._monitor,
            device=device,
            precision=self._precision,
            clip=Clip(clip.norm, clip.parameter_norm, clip.value) if clip else Clip(),
            # What compares samples with each other compares as many as in training.
            evaluation_batch=EVALUATION_BATCH if task.views == 1 else each.batch_size,
            held=task.frozen,
        )

    def _batches(self, each: Named) -> Batches:
        return Batches(
            self._samples,
            batch_size=each.batch_size,
            generator=generator(self._spec.seed, f"pretraining {each.name} order"),
            augment=self._changes(each.task, f"pretraining {each.name} samples", augmented=True),
        )

    def _valid(self, each: Named) -> Examples | None:
        """Return the validation part, asked the same of in each epoch; it is augmented where that is the question."""
        if self.data.parts.valid is None:
            return None
        stream = f"pretraining {each.name} validation"
        s = self._samples
        index = torch.from_numpy(self.data.parts.valid.index).to(s.x.device)
        augment = self._changes(each.task, stream, augmented=each.task.views > 1)
        seed = derive(self._spec.seed, stream)
        return Changed(s.x, s.y, index, s.prepare, s.device, s.resize, augment=augment, seed=seed)

    def _changes(self, task: Task, stream: str, *, augmented: bool) -> Augment:
        """Return what makes inputs and targets of samples; of augmentations, those that leave targets alone."""
        found = augment_of(self._spec, self.data, stream) if augmented else None
        raw: list[Change] = list(found.raw) if found else []
        if task.views > 1:
            raw = [_views(raw, task.views)]
        return Augment(
            raw=[*raw, *([task.raw] if task.raw else [])],
            prepared=[task.prepared] if task.prepared else [],
            generator=generator(self._spec.seed, stream),
        )

    @torch.no_grad()
    def hand_over(self, model: nn.Module) -> None:
        """Copy the hidden layers, as they are now, into another network of the same form."""
        theirs, ours = self._network.state_dict(), model.state_dict()
        for layer in layers_of(model):
            if not layer.is_output:
                for name in state_of(layer, model):
                    ours[name].copy_(theirs[name])


def _views(changes: Sequence[Change], count: int) -> Change:
    """Return what changes each sample several times over: (N, ...) to (N, count, ...)."""

    def change(x: Tensor, y: Tensor, draws: torch.Generator) -> Batch:
        made = []
        for _ in range(count):
            view = x
            for each in changes:
                view, _ = each(view, y, draws)
            made.append(view)
        return torch.stack(made, dim=1), y

    return change
