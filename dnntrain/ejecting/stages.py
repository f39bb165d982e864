"""Stages of a training, and layers that stay as they are: what of the network is trained when, and at what rates."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import torch
from torch import nn
from torch.nn.modules.batchnorm import _NormBase

from dnntrain import build
from dnntrain.build import Data
from dnntrain.build.staging import Stage
from dnntrain.ejecting.schedules import Rates, Span, define_schedule, rates_of
from dnntrain.ejecting.script import WIDTH, Code, Script, assignment, fill, lines, written
from dnntrain.parts.layers import layers_of
from dnntrain.placement import Placement
from dnntrain.spec import Spec
from dnntrain.training.built import EVALUATION_BATCH, Built


@dataclass(frozen=True)
class Part:
    """A stage as a script has it; of a training that is not divided, the whole of it.

    Attributes:
        stage: as dnntrain has it.
        frozen: names of the modules that stay as they are; one stands for all within it.
        fixed: how many modules, from the bottom, are computed once.
    """

    stage: Stage
    frozen: tuple[str, ...]
    fixed: int


@dataclass(frozen=True)
class Course:
    """What of a network is trained when.

    Attributes:
        parts: in their order, at least one.
        network: as dnntrain builds it, with the layers that it takes over.
        layers: names of the modules of each layer, from the bottom up.
    """

    parts: Sequence[Part]
    network: nn.Module
    layers: Sequence[tuple[str, ...]]

    @property
    def divided(self) -> bool:
        """Whether there are stages."""
        return self.parts[0].stage.number > 0

    @property
    def freezes(self) -> bool:
        """Whether layers stay as they are, ever."""
        return any(part.frozen for part in self.parts)

    @property
    def fixes(self) -> bool:
        """Whether outputs of frozen layers are computed once, ever."""
        return any(part.fixed for part in self.parts)

    @property
    def decays(self) -> bool:
        """Whether some layers learn at a lower rate than those above them."""
        return any(part.stage.layer_decay != 1.0 for part in self.parts)

    @property
    def held(self) -> list[str]:
        """The kinds of normalization whose statistics are held beside what is trained, as PyTorch calls them.

        What is computed once is out of reach of training.
        """
        norms = [norm for part in self.parts for norm in _held(self.network, part)]
        return sorted({f"nn.{type(norm).__name__}" for norm in norms})


def _held(network: nn.Module, part: Part) -> list[nn.Module]:
    passed = {module for child in list(network.children())[part.fixed :] for module in child.modules()}
    frozen = [module for name in part.frozen for module in network.get_submodule(name).modules()]
    return [each for each in frozen if isinstance(each, _NormBase) and each.track_running_stats and each in passed]


def course_of(spec: Spec, data: Data) -> Course:
    """Return what of the network of a resolved experiment is trained when.

    It is built as for a run, so that what is frozen, and what is computed once, is decided in one place.

    Raises:
        SpecError: what it reuses is not there any more, or does not fit.
    """
    placement = Placement(torch.device("cpu"), "fp32", compile=False)
    built = build.build(spec, data, placement)
    model, parts = built.model, []
    for stage in build.stages(spec, model):
        if stage.number > 1:
            built = build.at_stage(spec, placement, built, stage)
        parts.append(Part(stage, _covering(model, _modules(model, stage.frozen)), _fixed(built)))
    order = [name for name, _ in model.named_modules()]
    layers = [tuple(sorted(layer.modules, key=order.index)) for layer in layers_of(model)]
    return Course(parts, model, layers)


def _modules(model: nn.Module, layers: Collection[str]) -> set[str]:
    return {name for layer in layers_of(model) if layer.name in layers for name in layer.modules}


def _fixed(built: Built) -> int:
    children = list(built.model.children())
    return 0 if built.upper is None else len(children) - len(list(built.upper.children()))


def covering(model: nn.Module, layers: Collection[str]) -> tuple[str, ...]:
    """Return the modules that hold just the weights and statistics of some layers; one stands for all within it."""
    return _covering(model, _modules(model, layers))


def _covering(model: nn.Module, chosen: Collection[str], within: str = "") -> tuple[str, ...]:
    found: list[str] = []
    for name, child in model.named_children():
        path = f"{within}{name}"
        own = {
            f"{path}.{inner}".rstrip(".")
            for inner, module in child.named_modules()
            if [*module.parameters(recurse=False), *module.buffers(recurse=False)]
        }
        if own and own <= set(chosen):
            found.append(path)
        else:
            found += _covering(child, chosen, f"{path}.")
    return tuple(found)


_FREEZE: Final = '''
def freeze(network: nn.Module, names: list[str]) -> None:
    """Let training pass over some layers, and over no others."""
    network.requires_grad_(True)
    for name in names:
        network.get_submodule(name).requires_grad_(False)
'''

_FREEZE_NORMS: Final = '''
def freeze(network: nn.Module, names: list[str]) -> list[nn.Module]:
    """Let training pass over some layers, and over no others.

    Returns their batch normalizations: the statistics of these are frozen as well.
    """
    network.requires_grad_(True)
    layers = [network.get_submodule(name).requires_grad_(False) for name in names]
    modules = [module for layer in layers for module in layer.modules()]
    return [module for module in modules if isinstance(module, $kinds)]
'''

_OUTPUTS: Final = '''
@torch.no_grad()
def outputs_of(
    layers: nn.Module, standardize: Callable[[Tensor], Tensor], x: Tensor
) -> Tensor:
    """Return what frozen layers make of all samples: the same in every epoch."""
    layers.eval()
    return torch.cat([layers(standardize(some)) for some in x.split($size)]).contiguous()
'''

_LAYERED: Final = '''
def parameter_groups(network: nn.Module, stage: Stage) -> list[dict]:
    """Divide $what by layer: each has a lower rate than the one above it."""
    layers = [[] for _ in LAYER_MODULES]
$sorted
    groups = []
    for depth, layer in zip(reversed(range(len(layers))), layers, strict=True):
        rate = stage.lr * stage.layer_decay**depth
$grouped
    return $returned
'''

_SORTED: Final = """
for name, p in network.named_parameters():
    module = name.rpartition(".")[0]
    for layer, modules in zip(layers, LAYER_MODULES, strict=True):
        if $chosen:
            layer.append(p)
$left
"""

_MERGED: Final = """
if groups and groups[-1]["lr"] == rate:
    groups[-1]["params"] += layer
else:
    groups.append({"params": layer, "lr": rate})
"""

_DIVIDED: Final = '''
def divided(groups: list[dict]) -> list[dict]:
    """Divide groups further: kernels, which decay, stand before all others."""
    made = []
    for decay, decays in (($decay, True), (0.0, False)):
        for group in groups:
            chosen = [p for p in group["params"] if (p.ndim > 1) == decays]
            if chosen:
                made.append({**group, "params": chosen, "weight_decay": decay})
    return made
'''

_STAGE: Final = '''
class Stage(NamedTuple):
    """A part of training, with an optimizer of its own.

    Attributes:
$about
    """

$fields
'''

_FIELDS: Final = {
    "epochs": ("int", "how long it lasts."),
    "frozen": ("list[str]", "layers that stay as they are."),
    "fixed": ("int", "how many modules, from the bottom, are computed once."),
    "lr": ("float", "the learning rate of its optimizer."),
    "layer_decay": ("float", "the rate of each layer, as a share of that above it."),
    "learning_rate": ("Callable[[int], float]", "the rate of each of its steps."),
    "momentum": ("Callable[[int], float]", "the momentum of each of its steps."),
}


def spans_of(course: Course, steps_per_epoch: int) -> list[Span]:
    """Return the stages of a training as schedules see them."""
    return [
        Span(stage.epochs, steps_per_epoch, vars(stage.optimizer.options)["lr"], stage.schedule)
        for stage in (part.stage for part in course.parts)
    ]


def define_freezing(script: Script, course: Course) -> None:
    """Define what freezes layers, and what computes their outputs, where there is something of the kind."""
    if course.freezes:
        script.heading("Frozen layers")
        script.define(fill(_FREEZE_NORMS, kinds=" | ".join(course.held)) if course.held else _FREEZE)
    if course.fixes:
        script.define(fill(_OUTPUTS, size=EVALUATION_BATCH))


def define_stages(script: Script, course: Course, spans: Sequence[Span]) -> Rates:
    """Define the rates of all stages, `Stage` and `STAGES`; return what is known of the rates."""
    found = [rates_of(span) for span in spans]
    changes = any(rates.changes for rates in found)
    if changes:
        for number, span in enumerate(spans, start=1):
            script.constants(**{f"LR_{number}": span.lr})
            define_schedule(script, span, own=course.decays, suffix=f"_{number}", constant=True)
    stages = []
    for number, (part, span) in enumerate(zip(course.parts, spans, strict=True), start=1):
        values = {
            "epochs": span.epochs,
            "frozen": list(part.frozen),
            "fixed": part.fixed,
            "lr": Code(f"LR_{number}") if changes else span.lr,
            "layer_decay": part.stage.layer_decay,
            "learning_rate": Code(f"learning_rate_{number}"),
            "momentum": Code(f"momentum_{number}"),
        }
        stages.append(values)
    wanted = {
        "frozen": course.freezes,
        "fixed": course.fixes,
        "layer_decay": course.decays,
        "learning_rate": changes,
        "momentum": found[0].momentum,
    }
    names = [name for name in _FIELDS if wanted.get(name, True)]
    script.heading("The stages")
    about = lines([f"{name}: {_FIELDS[name][1]}" for name in names], 2)
    fields = lines([f"{name}: {_FIELDS[name][0]}" for name in names], 1)
    if course.decays:  # each layer has a rate that it starts from
        fields = fields.replace("learning_rate: Callable[[int]", "learning_rate: Callable[[int, float]")
    script.define(fill(_STAGE, about=about, fields=fields))
    script.define(lines(["STAGES = [", *(lines([_written(each, names)], 1) for each in stages), "]"]))
    return replace(found[0], changes=changes)


def _written(stage: Mapping[str, Any], names: Sequence[str]) -> str:
    """Return a stage on one line or, where that is too long, on several."""
    items = [f"{name}={written(stage[name])}" for name in names]
    line = f"Stage({', '.join(items)}),"
    if len(line) + 4 <= WIDTH:
        return line
    made = [assignment(name, stage[name], depth=2, equals="=") for name in names]
    return lines(["Stage(", *(lines([f"{each},"], 1) for each in made), "),"])


def define_layered(script: Script, course: Course, decay: float) -> None:
    """Define `parameter_groups` of layers that have a lower rate than those above them."""
    script.constants(LAYER_MODULES=[list(layer) for layer in course.layers])
    merged = any(part.stage.layer_decay == 1.0 for part in course.parts)
    if decay:
        script.define(fill(_DIVIDED, decay=repr(decay)))
    grouped = _MERGED.strip() if merged else 'groups.append({"params": layer, "lr": rate})'
    chosen, left = "module in modules", ""
    if course.freezes:
        chosen, left = f"{chosen} and p.requires_grad", "layers = [layer for layer in layers if layer]"
    pieces = {
        "what": "what is trained" if course.freezes else "the weights",
        "sorted": lines([fill(_SORTED, chosen=chosen, left=left)], 1),
        "grouped": lines(grouped.splitlines(), 2),
        "returned": "divided(groups)" if decay else "groups",
    }
    script.define(fill(_LAYERED, **pieces))
