"""The experiment file as types: what each section holds, with its defaults.

`auto` stands where a value follows from others, or from the data; `build.resolve` replaces it by what it chose.
"""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, PrivateAttr, model_validator
from pydantic_core import PydanticCustomError
from typing_extensions import override

from dnntrain.errors import Mark, Problem
from dnntrain.parts.activations import activations
from dnntrain.parts.architectures import architectures
from dnntrain.parts.callbacks import callbacks
from dnntrain.parts.datasets import datasets
from dnntrain.parts.dropouts import dropouts
from dnntrain.parts.initializers import initializers
from dnntrain.parts.losses import losses
from dnntrain.parts.metrics import metrics
from dnntrain.parts.normalizations import normalizations
from dnntrain.parts.optimizers import optimizers
from dnntrain.parts.schedules import schedules
from dnntrain.registry import (
    ByShape,
    Choice,
    NonNegativeInt,
    Options,
    Pick,
    Positive,
    PositiveInt,
    WordOr,
    plain,
)
from dnntrain.yamltext import KeyPath, Marks

Auto = Literal["auto"]

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


def seconds(duration: str) -> float:
    """Return the seconds in a duration such as `90s`, `30m`, `2h` or `1.5d`.

    Raises:
        PydanticCustomError: the text is not a duration.
    """
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([smhd])", duration)
    if match is None or float(match[1]) == 0:
        raise PydanticCustomError("duration", "expected a duration such as '90s', '30m', '2h' or '1d'")
    return float(match[1]) * _UNITS[match[2]]


def _duration(value: str) -> str:
    seconds(value)
    return value


def _name(value: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9_-]{1,100}", value):
        raise PydanticCustomError("run_name", "a name is made of letters, digits, '-' and '_', up to 100 of them")
    return value


def _device(value: str) -> str:
    if not re.fullmatch(r"auto|cpu|mps|cuda(:\d+)?", value):
        raise PydanticCustomError("device", "expected auto, cpu, cuda, cuda:N or mps")
    return value


def _listed(value: Any) -> Any:
    """Let a single part stand for a list of one, and `none` for none."""
    if value is None or value == "none":
        return ()
    return tuple(value) if isinstance(value, list | tuple) else (value,)


class Validation(Options):
    """How a part of the training data is set aside for validation: by size, by fraction, or as one of K folds."""

    size: PositiveInt | None = Field(None, description="samples set aside")
    fraction: Annotated[float, Field(gt=0, lt=1)] | None = Field(
        None, description="share set aside; 0.1 where nothing else is said"
    )
    folds: Annotated[int, Field(ge=2)] | None = Field(None, description="cut the data into so many parts")
    fold: NonNegativeInt | None = Field(None, description="which of the parts is set aside, from 0")
    from_: Literal["auto", "first", "last", "random", "stratified"] = Field(
        "auto",
        alias="from",
        description="which samples: auto is stratified for classes and random for numbers",
    )
    seed: NonNegativeInt = Field(0, description="what the split depends on; never on the experiment's seed")

    @model_validator(mode="after")
    def _one_of(self) -> Validation:
        given = [name for name in ("size", "fraction", "folds") if getattr(self, name) is not None]
        if len(given) > 1:
            raise PydanticCustomError(
                "exclusive", "{names} exclude each other: give one of them", {"names": " and ".join(given)}
            )
        if (self.folds is None) != (self.fold is None):
            raise PydanticCustomError("folds", "'folds' and 'fold' belong together: {folds: 5, fold: 0}")
        if self.folds is not None and self.fold is not None and self.fold >= self.folds:
            raise PydanticCustomError(
                "fold", "fold {fold} of {folds}: folds count from 0", {"fold": self.fold, "folds": self.folds}
            )
        if not given:
            # A frozen model is still ours to complete while it is being made.
            object.__setattr__(self, "fraction", 0.1)
        return self


ClassName = Annotated[str | int, ByShape(scalar=str | NonNegativeInt)]
Classes = Annotated[
    tuple[str | int, ...] | dict[str, Any],
    ByShape(
        sequence=Annotated[tuple[ClassName, ...], Field(strict=False, min_length=1)],
        mapping=dict[
            str,
            Annotated[
                tuple[str | int, ...] | str,
                ByShape(sequence=Annotated[tuple[ClassName, ...], Field(strict=False)], scalar=Literal["rest"]),
            ],
        ],
    ),
]


class DataSpec(Options):
    """Which data, and how it is cut, standardized and fed."""

    dataset: Annotated[Choice, Pick(datasets)] = Field(description="where samples come from")
    classes: Classes | None = Field(
        None, description="keep these classes, or group them: {shoes: [5, 7, 9], other: rest}"
    )
    validation: Annotated[Validation | Literal["none"], WordOr(("none",), Validation)] = Field(
        default_factory=lambda: Validation(), description="what is set aside for validation; none for nothing"
    )
    limit: PositiveInt | None = Field(None, description="train on the first N samples of the training part only")
    standardize: Literal["auto", "none", "unit", "channel", "feature"] = Field(
        "auto", description="none, unit (x / full scale), or mean 0 and deviation 1 per channel or per feature"
    )
    sampling: Literal["shuffle", "balanced"] = Field(
        "shuffle", description="each sample once an epoch, or each class equally often, with replacement"
    )
    batch_size: PositiveInt = Field(32, description="samples in a batch")


class ModelSpec(Options):
    """The network: its architecture, and the parts that every architecture is made of."""

    architecture: Annotated[Choice, Pick(architectures)] = Field(description="the kind of network")
    activation: Annotated[Choice | Auto, Pick(activations, auto=True)] = Field(
        "auto", description="auto: relu up to 4 hidden layers, swish from 5 on"
    )
    initializer: Annotated[Choice | Auto, Pick(initializers, auto=True)] = Field(
        "auto", description="auto: what suits the activation"
    )
    output_initializer: Annotated[Choice | Auto, Pick(initializers, auto=True)] = Field(
        "auto", description="auto: glorot_uniform"
    )
    normalization: Annotated[Choice | Auto, Pick(normalizations, auto=True)] = Field(
        "auto", description="auto: none up to 4 hidden layers, batch from 5 on"
    )
    dropout: Annotated[tuple[Annotated[Choice, Pick(dropouts)], ...], BeforeValidator(_listed)] = Field(
        (), description="one, a list of them, or none"
    )


class ClipSpec(Options):
    """How gradients are clipped before each step: one of the three."""

    norm: Positive | None = Field(None, description="largest Euclidean norm of the gradient as a whole")
    value: Positive | None = Field(None, description="largest absolute value of a component")
    parameter_norm: Positive | None = Field(None, description="largest norm of each tensor's gradient")

    @model_validator(mode="after")
    def _exactly_one(self) -> ClipSpec:
        if sum(value is not None for value in (self.norm, self.value, self.parameter_norm)) != 1:
            raise PydanticCustomError("clip", "give exactly one of norm, value and parameter_norm: {norm: 1.0}")
        return self


class MonitorSpec(Options):
    """The metric that decides which epoch is best."""

    metric: Annotated[str, Field(pattern=r"^(train|valid)/[a-z0-9_]+$")] = Field(
        description="such as valid/loss or valid/accuracy"
    )
    mode: Literal["auto", "min", "max"] = Field("auto", description="auto: what is better for that metric")


def _monitor(value: Any) -> Any:
    return {"metric": value} if isinstance(value, str) else value


class TrainingSpec(Options):
    """The training loop."""

    epochs: PositiveInt = Field(20, description="passes over the training part")
    monitor: Annotated[MonitorSpec | Auto, WordOr(("auto",), Annotated[MonitorSpec, BeforeValidator(_monitor)])] = (
        Field("auto", description="decides the best epoch; auto: valid/loss, or train/loss without validation")
    )
    device: Annotated[str, AfterValidator(_device)] = Field(
        "auto", description="auto (CUDA where there is one), cpu, cuda, cuda:N or mps"
    )
    precision: Literal["auto", "fp32", "tf32", "bf16", "fp16"] = Field(
        "auto", description="auto: bf16 on a GPU that has it, else fp32"
    )
    clip: ClipSpec | None = Field(None, description="gradient clipping")
    accumulate: PositiveInt = Field(1, description="batches whose gradients make one optimizer step")
    max_time: Annotated[str, AfterValidator(_duration)] | None = Field(
        None, description="stop after this long: 90s, 30m, 2h, 1d"
    )
    threads: Annotated[int | Auto, WordOr(("auto",), PositiveInt)] = Field(
        "auto", description="CPU threads of one operation; auto: as many as PyTorch takes"
    )
    compile: Annotated[bool | Auto, WordOr(("auto",), bool)] = Field(
        "auto", description="compile the model with torch.compile; auto: no"
    )


# The fields below have the names of their families, which they would hide in their own types.
Metrics = Annotated[tuple[Annotated[Choice, Pick(metrics)], ...], BeforeValidator(_listed)]
Callbacks = Annotated[tuple[Annotated[Choice, Pick(callbacks)], ...], BeforeValidator(_listed)]


class Spec(Options):
    """A whole experiment, as one file describes it."""

    name: Annotated[str, AfterValidator(_name)] = Field("run", description="names the run directory")
    seed: Annotated[int, Field(ge=0, lt=2**63)] = Field(
        0, description="decides initialization, order, augmentation and noise"
    )
    data: DataSpec
    model: ModelSpec
    optimizer: Annotated[Choice, Pick(optimizers, default="adamw")] = Field(
        default_factory=lambda: optimizers.choose("adamw"), description="how gradients change the weights"
    )
    schedule: Annotated[Choice, Pick(schedules, default="performance")] = Field(
        default_factory=lambda: schedules.choose("performance"),
        description="how the learning rate changes over training",
    )
    loss: Annotated[Choice | Auto, Pick(losses, auto=True)] = Field(
        "auto", description="auto: cross_entropy for classes, mse for numbers"
    )
    metrics: Annotated[tuple[Choice, ...] | Auto, WordOr(("auto",), Metrics)] = Field(
        "auto", description="auto: accuracy for classes, mae and r2 for numbers"
    )
    training: TrainingSpec = Field(default_factory=lambda: TrainingSpec())
    callbacks: Annotated[tuple[Choice, ...] | Auto, WordOr(("auto",), Callbacks)] = Field(
        "auto", description="auto: early stopping with patience 10 and the best weights, given validation"
    )

    _marks: dict[KeyPath, Marks] = PrivateAttr(default_factory=dict)

    @override
    def __eq__(self, other: object) -> bool:
        """Whether both say the same; where they were written does not matter."""
        return isinstance(other, Spec) and plain(self) == plain(other)

    __hash__ = None  # type: ignore[assignment]

    def problem(self, path: str, message: str, hint: str = "") -> Problem:
        """Return a problem located at a dotted path of the file, or at the nearest section that was written.

        Args:
            path: such as `training.monitor`.
            message: what is wrong.
            hint: how to mend it.
        """
        return Problem(message, mark_at(self._marks, tuple(path.split("."))), hint)


def mark_at(marks: dict[KeyPath, Marks], path: tuple[str | int, ...]) -> Mark | None:
    """Return the mark of the value at a path, or of the nearest thing around it; None where nothing was written.

    An index into what was written as a single value is passed over: `dropout: {...}` is read as a list of one.
    """
    here: KeyPath = ()
    for key in path:
        if (*here, key) in marks:
            here = (*here, key)
        elif not isinstance(key, int):
            break
    found = marks.get(here)
    if found is None:
        return None
    return found.value if here == path or found.key is None else found.key
