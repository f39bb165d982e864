"""What `auto` chooses, once the data is known."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

from dnntrain.build.data import Data
from dnntrain.build.locating import choices, chosen, monitor_of
from dnntrain.build.reuse import knows_scaling, locate
from dnntrain.errors import Problem, SpecError
from dnntrain.parts.activations import activations
from dnntrain.parts.callbacks import callbacks
from dnntrain.parts.initializers import initializers
from dnntrain.parts.losses import losses
from dnntrain.parts.metrics import metrics
from dnntrain.parts.normalizations import normalizations
from dnntrain.registry import AUTO, Choice
from dnntrain.spec import Spec
from dnntrain.spec.fit import misfits, moments, vocabulary
from dnntrain.spec.schema import Validation
from dnntrain.spec.values import MonitorSpec

DEEP: Final = 5
"""From so many hidden layers on, the defaults are swish and batch normalization."""


def resolve(spec: Spec, data: Data, *, runs: str | Path = "runs") -> Spec:
    """Replace every `auto` that bears on the numbers by what it chooses, so that the file says it all.

    Args:
        spec: an experiment.
        data: its data.
        runs: the folder in which a run whose layers are reused is looked for by its name.

    Raises:
        SpecError: the experiment does not fit the data, or monitors a metric that is not measured.
    """
    spec = locate(spec, Path(runs))
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


def _resolve_data(spec: Spec, *, regression: bool) -> Any:
    validation = spec.data.validation
    if isinstance(validation, Validation) and validation.from_ == AUTO:
        validation = validation.model_copy(update={"from_": "random" if regression else "stratified"})
    standardize: str = spec.data.standardize
    known = moments(spec) is not None or (spec.model.reuse is not None and knows_scaling(spec))
    if standardize == AUTO and known:
        standardize = "pretrained"
    elif standardize == AUTO:
        standardize = "none" if vocabulary(spec) else spec.model.architecture.entry.traits["standardize"]
    return spec.data.model_copy(update={"validation": validation, "standardize": standardize})


def _resolve_model(spec: Spec) -> Any:
    model = spec.model
    traits = model.architecture.entry.traits
    output = initializers.choose("glorot_uniform") if model.output_initializer == AUTO else model.output_initializer
    if traits["own_parts"]:
        return model.model_copy(update={"output_initializer": output})
    deep = traits["depth"](model.architecture.options) >= DEEP
    usual = traits["activation"] or ("swish" if deep else "relu")
    activation = activations.choose(usual) if model.activation == AUTO else model.activation
    default = chosen(activation).entry.traits["initializer"]
    return model.model_copy(
        update={
            "activation": activation,
            "initializer": initializers.choose(default) if model.initializer == AUTO else model.initializer,
            "output_initializer": output,
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
    monitor = monitor_of(spec)
    scalars = [metric.name for metric in choices(spec.metrics) if metric.entry.traits["scalar"]]
    measured = ["loss", *scalars]
    part, name = monitor.metric.split("/")
    if name in measured:
        return []
    known = ", ".join(f"{part}/{each}" for each in measured)
    return [spec.problem("training.monitor", f"{monitor.metric} is monitored but not measured", f"measured: {known}")]
