"""Ablation: each technique of an experiment taken away by itself, to see what it buys.

A technique is taken away by putting it back to what the field had before it, or to nothing; see `TECHNIQUES`. All else
stays as it is: what `auto` chose for the whole experiment is written out first, so that nothing changes unseen when a
part goes. What only makes sense together goes together, and is told: the initializer that suits the activation follows
the activation, and alpha dropout, which keeps the mean and variance that selu brings about, becomes plain dropout.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean
from typing import Any, Final

from dnntrain import build, yamltext
from dnntrain import spec as specs
from dnntrain.compare.statistics import Difference, Direction, compare_all
from dnntrain.errors import SpecError, UsageError, shorten, suggest
from dnntrain.parts.activations import activations
from dnntrain.registry import AUTO, plain
from dnntrain.spec import Spec
from dnntrain.spec.forms import flow
from dnntrain.sweep.measured import check_measured
from dnntrain.sweep.plan import Plan
from dnntrain.sweep.results import Result

AXIS: Final = "without"
NOTHING: Final = "nothing"
"""The variant that is the experiment as it is."""

Settings = dict[str, Any]


@dataclass(frozen=True)
class Technique:
    """Something that can be taken away.

    Attributes:
        name: as `--without` has it.
        taken_away: returns the settings that take it away from a resolved experiment; none where that is plain.
    """

    name: str
    taken_away: Callable[[Spec], Settings]


@dataclass(frozen=True)
class Change:
    """A key that is set when a technique is taken away, with its values before and after."""

    key: str
    old: Any
    new: Any


@dataclass(frozen=True)
class Refusal:
    """A technique that the experiment cannot be without, and why."""

    technique: str
    message: str


@dataclass(frozen=True)
class Ablation:
    """What is to be trained.

    Attributes:
        plan: of a sweep of one axis, `without`.
        plain: techniques that the experiment does without already.
        refused: techniques that it cannot be without.
    """

    plan: Plan
    plain: Sequence[str]
    refused: Sequence[Refusal]

    @property
    def changes(self) -> dict[str, list[Change]]:
        """What is set when each technique is taken away."""
        content = plain(self.plan.base)
        _, *variants = self.plan.space.axes[0].listed
        return {
            str(each.label): [Change(key, _at(content, key), new) for key, new in each.settings.items()]
            for each in variants
        }


@dataclass(frozen=True)
class Effect:
    """What taking a technique away came to.

    Attributes:
        technique: its name.
        changes: what was set for it.
        values: the metric by seed; None for a run that failed.
        mean: over the runs that did not fail.
        difference: to the experiment as it is, corrected for the number of techniques.
    """

    technique: str
    changes: Sequence[Change]
    values: Mapping[int, float | None]
    mean: float | None
    difference: Difference


@dataclass(frozen=True)
class Effects:
    """What all of it came to.

    Attributes:
        metric: by which it is judged.
        better: whether lower or higher figures of it are better.
        values: of the experiment as it is, by seed; None for a run that failed.
        mean: over the runs that did not fail.
        effects: the most harmful removal first.
    """

    metric: str
    better: Direction
    values: Mapping[int, float | None]
    mean: float | None
    effects: Sequence[Effect]


def plan_ablation(
    spec: Spec,
    *,
    seeds: int = 3,
    metric: str | None = None,
    only: Iterable[str] | None = None,
    runs: Path = Path("runs"),
) -> Ablation:
    """Plan the ablation of an experiment.

    Args:
        spec: the experiment; its own sweep is passed over.
        seeds: runs of each configuration.
        metric: such as `valid/accuracy`; what the experiment monitors unless given.
        only: take these techniques away; all that are there unless given.
        runs: the folder in which a run whose layers are reused is looked for by its name.

    Raises:
        UsageError: there is no such technique or metric, or nothing is left to take away.
        SpecError: the experiment does not fit its data.
        DataError: the data cannot be used.
    """
    wanted = _wanted(only)
    data = build.open_data(spec)
    resolved = build.resolve(specs.without_sweep(spec), data, runs=runs)
    if metric is not None:
        check_measured(resolved, metric)
    taken = {technique.name: technique.taken_away(resolved) for technique in wanted}
    text = specs.dump(resolved)
    refused = []
    for name, settings in taken.items():
        try:
            without = specs.loads(text, overrides=[f"{key}={flow(value)}" for key, value in settings.items()])
            build.resolve(without, data)
        except SpecError as error:
            refused.append(Refusal(name, "; ".join(problem.message for problem in error.problems)))
    beyond = {each.technique for each in refused}
    variants = {name: settings for name, settings in taken.items() if settings and name not in beyond}
    bare = [name for name, settings in taken.items() if not settings]
    if not variants:
        why = [f"already plain: {', '.join(bare)}"] if bare else []
        why += [f"{each.technique}: {each.message}" for each in refused]
        raise UsageError(f"there is nothing to take away from this experiment ({'; '.join(why)})")
    content = plain(resolved)
    content["name"] = f"{resolved.name[:90]}_ablation"
    content["sweep"] = {
        "space": {AXIS: {"variants": {NOTHING: {}, **variants}}},
        "seeds": seeds,
        **({} if metric is None else {"metric": metric}),
    }
    draft = specs.drafts(yamltext.dump(content), source="the ablation")
    return Ablation(Plan(draft), bare, refused)


def read_ablation(plan: Plan, *, source: str) -> Ablation:
    """Return an ablation that was begun.

    Args:
        plan: of its sweep.
        source: what messages call it.

    Raises:
        UsageError: the sweep is no ablation.
    """
    axes = plan.space.axes
    if [axis.name for axis in axes] != [AXIS] or not axes[0].listed or axes[0].listed[0].label != NOTHING:
        raise UsageError(f"{shorten(source)} is no ablation, but another sweep")
    bare = [technique.name for technique in TECHNIQUES if not technique.taken_away(plan.base)]
    return Ablation(plan, bare, ())


def effects(planned: Ablation, result: Result) -> Effects:
    """Judge what came out, each removal against the experiment as it is, paired by seed.

    Verdicts are corrected for the number of techniques by Holm's method; see `compare_all`.
    """
    plan, changes = planned.plan, planned.changes
    values: dict[str, dict[int, float | None]] = {}
    for run in result.runs:
        values.setdefault(str(run["labels"][AXIS]), {})[run["seed"]] = run["value"]
    base = values.pop(NOTHING)
    differences = compare_all(values, base, better=plan.better)
    made = [Effect(name, changes[name], values[name], _mean(values[name]), each) for name, each in differences.items()]
    made.sort(key=lambda each: -_harm(each))
    return Effects(plan.metric, plan.better, base, _mean(base), made)


def as_json(planned: Ablation, found: Effects | None = None, result: Result | None = None) -> dict[str, Any]:
    """Return an ablation as plain values.

    Args:
        planned: what is to be trained.
        found: what it came to; None before it was trained.
        result: of the sweep.
    """
    known = {} if found is None else {each.technique: each for each in found.effects}
    order = [*known] or [*planned.changes]
    return {
        "metric": planned.plan.metric,
        "better": planned.plan.better,
        "seeds": sorted({each.seed for each in planned.plan.stretches(0, 0)}),
        "runs": planned.plan.runs,
        "reused": 0 if result is None else result.reused,
        "failed": 0 if result is None else len(result.failed),
        "mean": found and found.mean,
        "values": {} if found is None else _by_seed(found.values),
        "without": [
            {
                "technique": name,
                "changes": [asdict(change) for change in planned.changes[name]],
                "mean": known[name].mean if name in known else None,
                "values": _by_seed(known[name].values) if name in known else {},
                "difference": asdict(known[name].difference) if name in known else None,
            }
            for name in order
        ],
        "plain": list(planned.plain),
        "refused": [asdict(each) for each in planned.refused],
    }


def _by_seed(values: Mapping[int, float | None]) -> dict[str, float | None]:
    return {str(seed): value for seed, value in values.items()}


def named(value: Any) -> str:
    """Write a value shortly: parts by their names."""
    if isinstance(value, Mapping) and "name" in value:
        return str(value["name"])
    if isinstance(value, list | tuple) and value:
        return ", ".join(map(named, value))
    return "none" if value is None or value in ([], ()) else flow(value)


def _wanted(only: Iterable[str] | None) -> list[Technique]:
    known = {technique.name: technique for technique in TECHNIQUES}
    names = list(known) if only is None else list(dict.fromkeys(only))
    for name in names:
        if name not in known:
            raise UsageError(f"there is no technique '{name}' to take away: {suggest(name, known)}")
    return [known[name] for name in names]


def _at(content: Any, key: str) -> Any:
    for piece in key.split("."):
        content = content.get(piece) if isinstance(content, Mapping) else None
    return content


def _mean(values: Mapping[int, float | None]) -> float | None:
    known = [value for value in values.values() if value is not None]
    return fmean(known) if known else None


def _harm(effect: Effect) -> float:
    """How much worse it is without; most of all where runs failed."""
    difference = effect.difference
    if difference.failed[0] > difference.failed[1]:
        return math.inf
    harm = difference.value or 0.0
    return harm if difference.better == "min" else -harm


# How each technique is taken away from a resolved experiment.


def _activation(spec: Spec) -> Settings:
    model: Any = spec.model
    usual = model.architecture.entry.traits["activation"] or "relu"
    if model.activation == AUTO or model.activation.name == usual:
        return {}
    settings: Settings = {"model.activation": usual}
    family, _, distribution = model.initializer.name.rpartition("_")
    suited, suits = (_family(activation) for activation in (model.activation.entry, activations[usual]))
    if family == suited != suits:
        settings["model.initializer"] = f"{suits}_{distribution}"
    if any(dropout.name == "alpha" for dropout in model.dropout):
        settings["model.dropout"] = [
            {**each, "name": "dropout"} if each["name"] == "alpha" else each for each in plain(model.dropout)
        ]
    return settings


def _family(activation: Any) -> str:
    """Return the family of the initializer that suits an activation: he for he_normal."""
    return str(activation.traits["initializer"]).rpartition("_")[0]


def _initializer(spec: Spec) -> Settings:
    initializer: Any = spec.model.initializer
    return (
        {} if initializer == AUTO or initializer.name.startswith("glorot_") else {"model.initializer": "glorot_uniform"}
    )


def _normalization(spec: Spec) -> Settings:
    normalization: Any = spec.model.normalization
    return {} if normalization == AUTO or normalization.name == "none" else {"model.normalization": "none"}


def _weight_decay(spec: Spec) -> Settings:
    return {"optimizer.weight_decay": 0.0} if getattr(spec.optimizer.options, "weight_decay", 0.0) else {}


def _pretraining(spec: Spec) -> Settings:
    # The statistics of standardizing stay those of the same samples.
    return {"pretraining": "none", "data.unlabeled": spec.data.unlabeled is not False} if spec.pretraining else {}


TECHNIQUES: Final = (
    Technique("activation", _activation),
    Technique("initializer", _initializer),
    Technique("normalization", _normalization),
    Technique("dropout", lambda spec: {"model.dropout": "none"} if spec.model.dropout else {}),
    Technique("regularizers", lambda spec: {"regularizers": "none"} if spec.regularizers else {}),
    Technique("weight_decay", _weight_decay),
    Technique("schedule", lambda spec: {} if spec.schedule.name == "constant" else {"schedule": "constant"}),
    Technique("clipping", lambda spec: {} if spec.training.clip is None else {"training.clip": None}),
    Technique("augmentation", lambda spec: {"data.augment": "none"} if spec.data.augment else {}),
    Technique("pretraining", _pretraining),
    Technique("averaging", lambda spec: {} if spec.training.average is None else {"training.average": None}),
)
"""The activation becomes relu, or what is usual in an architecture with a custom of its own (tanh in recurrent ones,
gelu in vit); the initializer glorot_uniform, glorot_normal being as plain; the schedule constant, at the optimizer's
own rate; the others nothing. The optimizer is no technique here: another one at the same rate would show what the rate
does."""
