"""The whole script of an experiment, and what of an experiment no script is written for."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from string import Template
from typing import Any, Final

from dnntrain import build
from dnntrain.build import Data
from dnntrain.build.locating import choices, chosen
from dnntrain.ejecting.augmentations import AUGMENTATIONS, define_augmentation
from dnntrain.ejecting.averages import AVERAGES
from dnntrain.ejecting.data import DATASETS, define_data
from dnntrain.ejecting.groups import has_rates
from dnntrain.ejecting.layers import ACTIVATIONS, DROPOUTS, INITIALIZERS, NORMALIZATIONS
from dnntrain.ejecting.loop import Running, define_main
from dnntrain.ejecting.muon import MUON
from dnntrain.ejecting.network import ARCHITECTURES, define_network, title_of
from dnntrain.ejecting.objective import LOSSES, METRICS, define_evaluation, define_objective
from dnntrain.ejecting.optimizers import OPTIMIZERS, define_optimizer
from dnntrain.ejecting.regularizers import REGULARIZERS
from dnntrain.ejecting.reuse import define_reuse, is_safetensors, unreadable
from dnntrain.ejecting.schedules import SCHEDULES, Rates, Span, define_schedule
from dnntrain.ejecting.script import Script, listed, wrapped
from dnntrain.ejecting.stages import Course, course_of, define_freezing, define_layered, define_stages, spans_of
from dnntrain.ejecting.training import Setting, define_training
from dnntrain.errors import ExportError
from dnntrain.registry import Choice
from dnntrain.spec import Spec
from dnntrain.spec.fit import vocabulary
from dnntrain.training.batches import steps_in

PARTS: Final[dict[str, frozenset[str]]] = {
    "architecture": frozenset(ARCHITECTURES),
    "activation": frozenset(ACTIVATIONS),
    "initializer": frozenset(INITIALIZERS),
    "normalization": frozenset(NORMALIZATIONS),
    "dropout": frozenset(DROPOUTS),
    "dataset": frozenset(DATASETS),
    "augmentation": frozenset(AUGMENTATIONS),
    "pretraining": frozenset(),
    "loss": frozenset(LOSSES),
    "metric": frozenset(METRICS) | {"confusion"},
    "optimizer": frozenset(OPTIMIZERS) | {MUON},
    "schedule": frozenset(SCHEDULES),
    "regularizer": frozenset(REGULARIZERS),
    "average": frozenset(AVERAGES),
    "callback": frozenset({"early_stopping", "terminate_on_nan"}),
}
"""The parts of each family that can be ejected; `confusion` is not measured over epochs: nothing is written for it."""


def objections(spec: Spec) -> list[str]:
    """Return what keeps a resolved experiment from being ejected, each with its key in the file."""
    found = [f"{key}: {part.name}" for key, family, part in parts_of(spec) if part.name not in PARTS[family]]
    options: Any = spec.optimizer.options
    muon = spec.optimizer.name == MUON
    # Vectors that are looked up or added have two dimensions, and are yet no kernels.
    tables = spec.model.architecture.name == "vit" or vocabulary(spec) is not None
    reuse = spec.model.reuse
    lacking = {
        "data.unlabeled": spec.data.unlabeled is True,
        "data.standardize: pretrained": spec.data.standardize == "pretrained" and reuse is None,
        "optimizer: muon in a network with vectors of positions or tokens": muon and tables,
        "optimizer.groups in a network with vectors of positions or tokens": bool(options.groups) and tables,
        "optimizer.groups of muon": bool(options.groups) and muon,
    }
    found += [key for key, there in lacking.items() if there]
    if reuse is not None and (kind := unreadable(reuse)):
        found.append(f"model.reuse.from: {kind}")
    freezes = reuse is not None and reuse.freeze not in ("none", 0)
    if spec.training.stages or freezes:
        where = "training.stages" if spec.training.stages else "model.reuse.freeze"
        found += [f"{where} with {each}" for each in _beside_freezing(spec, tables=tables)]
    return found


def _beside_freezing(spec: Spec, *, tables: bool) -> Iterator[str]:
    """Say what no script is written for where layers are frozen or training has stages."""
    options: Any = spec.optimizer.options
    lacking = {
        "vectors of positions or tokens": tables,
        "optimizer: muon": spec.optimizer.name == MUON,
        "optimizer.groups": bool(options.groups),
        "training.average": spec.training.average is not None,
        "callbacks: terminate_on_nan": any(each.name == "terminate_on_nan" for each in choices(spec.callbacks)),
        "regularizers of some layers": any(vars(each.options)["layers"] != "*" for each in choices(spec.regularizers)),
        "data.resize, unless training.cache_frozen is false": spec.data.resize is not None
        and spec.training.cache_frozen is not False
        and not spec.data.augment,
        "schedules of several kinds": not _alike(spec),
    }
    return (key for key, there in lacking.items() if there)


def _alike(spec: Spec) -> bool:
    """Whether the schedules of all stages move the momentum or none does, and one that reacts is the only one."""
    schedules = [stage.schedule or chosen(spec.schedule) for stage in spec.training.stages] or [chosen(spec.schedule)]
    cycling = {each.name == "one_cycle" and vars(each.options)["cycle_momentum"] for each in schedules}
    reacting = any(each.name == "performance" for each in schedules)
    return len(cycling) == 1 and not (reacting and any(each != schedules[0] for each in schedules))


def parts_of(spec: Spec) -> Iterator[tuple[str, str, Choice]]:
    """Walk through the parts of an experiment: where each stands, its family, and itself."""
    yield "data.dataset", "dataset", spec.data.dataset
    yield "model.architecture", "architecture", spec.model.architecture
    own = spec.model.architecture.entry.traits["own_parts"]
    for key in ("output_initializer",) if own else ("activation", "initializer", "output_initializer", "normalization"):
        yield f"model.{key}", key.removeprefix("output_"), chosen(getattr(spec.model, key))
    yield "optimizer", "optimizer", spec.optimizer
    yield "schedule", "schedule", spec.schedule
    for i, stage in enumerate(spec.training.stages):
        if stage.schedule is not None:
            yield f"training.stages.{i}.schedule", "schedule", stage.schedule
    yield "loss", "loss", chosen(spec.loss)
    if spec.training.average is not None:
        yield "training.average", "average", spec.training.average
    for key, family, several in (
        ("data.augment", "augmentation", spec.data.augment),
        ("model.dropout", "dropout", spec.model.dropout),
        ("regularizers", "regularizer", spec.regularizers),
        ("metrics", "metric", choices(spec.metrics)),
        ("callbacks", "callback", choices(spec.callbacks)),
        ("pretraining", "pretraining", spec.pretraining),
    ):
        for part in several:
            yield key, family, part


@dataclass(frozen=True)
class Facts:
    """What a script has to know beside the experiment.

    Attributes:
        run: how the run is called.
        script: how the script is called.
        threads: that one operation had.
        test: whether the test part was measured.
        cached: whether outputs of frozen layers were kept from the first step on.
        versions: of what the run was trained with: `dnntrain`, `python`, `torch` and `numpy`.
    """

    run: str
    script: str
    threads: int
    test: bool
    cached: bool
    versions: Mapping[str, str]


_ABOUT: Final = (
    "$title, in plain PyTorch: what dnntrain $dnntrain did in the run $run.",
    "    python $script [FOLDER]",
    "writes metrics.jsonl, a line an epoch, and best.pt, the weights of the best epoch, into FOLDER, or $folder. "
    "It needs $needs.",
    "With the versions of the run (Python $python, PyTorch $torch, NumPy $numpy), on the same kind of CPU, the figures "
    "are those of the run to the last bit.",
)

_STREAMS: Final = '''
def derive(stream: str) -> int:
    """Return the seed of a stream of random numbers; each purpose has its own."""
    digest = hashlib.blake2b(f"{SEED}:{stream}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1


def generator(stream: str) -> Generator:
    """Return what draws the random numbers of a stream."""
    return Generator().manual_seed(derive(stream))
'''


def script_of(spec: Spec, data: Data, facts: Facts) -> str:
    """Return the script of a resolved experiment that there are no objections to.

    Raises:
        ExportError: what is computed once is not what was in the run.
    """
    reuse, course = spec.model.reuse, None
    if reuse is not None or spec.training.stages:
        course = course_of(spec, data)
        if bool(course.parts[0].fixed) != facts.cached:
            raise ExportError(
                f"training.cache_frozen: {spec.training.cache_frozen} was decided otherwise in {facts.run}, on a "
                "machine with other memory; train with training.cache_frozen: false to eject the run anywhere"
            )
    network = course.network if course else build.build_model(spec, data.shape, build.outputs(spec, data))
    staged = course if course and (course.divided or course.freezes) else None
    script = Script(_about(spec, facts))
    _define_constants(script, spec, staged)
    script.heading("Random numbers")
    script.define(_STREAMS)
    define_data(script, spec, data, test=facts.test)
    define_network(script, spec, data)
    if reuse is not None and course is not None:
        define_reuse(script, spec, reuse, course)
    waiting = define_objective(script, spec, data)
    if data.parts.valid is not None or facts.test:
        define_evaluation(script, data, waiting=waiting)
    rates = _define_rates(script, spec, data, staged)
    layered = staged is not None and staged.decays
    define_optimizer(script, spec, network, rates, staged=bool(spec.training.stages), layered=layered)
    taking = define_augmentation(script, spec, data)
    define_training(script, Setting(spec, data, network, rates, waiting=waiting, taking=taking, course=staged))
    define_main(script, Running(spec, data, network, rates, staged, threads=facts.threads, test=facts.test))
    return script.text()


def _define_constants(script: Script, spec: Spec, staged: Course | None) -> None:
    divided = staged is not None and staged.divided
    script.constants(SEED=spec.seed, **({} if divided else {"EPOCHS": spec.training.epochs}))
    script.constants(BATCH_SIZE=spec.data.batch_size)
    accumulate = spec.training.accumulate
    script.constants(**({} if divided else {"LR": vars(spec.optimizer.options)["lr"]}))
    script.constants(**({"ACCUMULATE": accumulate} if accumulate > 1 else {}))
    if staged is not None and not divided:
        script.constants(FROZEN=list(staged.parts[0].frozen))


def _define_rates(script: Script, spec: Spec, data: Data, staged: Course | None) -> Rates:
    """Define what is frozen when, and what the learning rate is."""
    count = len(data.parts.train)
    steps = len(steps_in(count, batch_size=spec.data.batch_size, accumulate=spec.training.accumulate))
    if staged is not None:
        define_freezing(script, staged)
        if staged.divided:
            rates = define_stages(script, staged, spans_of(staged, steps))
            if staged.decays:
                define_layered(script, staged, getattr(spec.optimizer.options, "weight_decay", 0.0))
            return rates
    options: Any = spec.optimizer.options
    span = Span(spec.training.epochs, steps, options.lr, chosen(spec.schedule))
    return define_schedule(script, span, own=has_rates(options))


def _about(spec: Spec, facts: Facts) -> str:
    dataset = spec.data.dataset.name
    needs = ["torch", "numpy"]
    needs += ["scikit-learn"] if dataset in ("digits", "diabetes") else []
    needs += ["torchvision"] if dataset in ("cifar10", "cifar100") else []
    needs += ["safetensors"] if is_safetensors(spec) else []
    if dataset == "npz":
        dataset = _word(vars(spec.data.dataset.options)["path"].name)
    values = {
        "title": f"A {title_of(spec)} on {dataset}",
        "run": _word(facts.run),
        "script": _word(facts.script),
        "folder": f"{spec.name}_ejected",
        "needs": listed(needs),
        **{name: _word(version) for name, version in facts.versions.items()},
    }
    filled = [Template(each).substitute(values) for each in _ABOUT]
    if spec.model.reuse is not None:
        filled.insert(1, "It begins with layers that were trained elsewhere: transfer learning.")
    # The quotes before the first line are as much a part of its width.
    quotes = '"' * 3
    filled[0] = quotes + filled[0]
    return "\n\n".join(each if each.startswith(" ") else wrapped(each) for each in filled).removeprefix(quotes) + "\n"


def _word(name: str) -> str:
    """Return a name for a docstring, which nothing in it may end."""
    return re.sub(r"[^\w.+-]", "_", name)
