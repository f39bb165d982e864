"""The experiment file as types: what each section holds, with its defaults.

`auto` stands where a value follows from others, or from the data; `build.resolve` replaces it by what it chose.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import (
    Field,
    GetCoreSchemaHandler,
    GetJsonSchemaHandler,
    PrivateAttr,
    model_validator,
)
from pydantic_core import CoreSchema, PydanticCustomError, core_schema
from typing_extensions import override

from dnntrain.errors import Mark, Problem
from dnntrain.parts.activations import activations
from dnntrain.parts.architectures import architectures
from dnntrain.parts.augmentations import augmentations
from dnntrain.parts.averages import averages
from dnntrain.parts.callbacks import callbacks
from dnntrain.parts.datasets import datasets
from dnntrain.parts.dropouts import dropouts
from dnntrain.parts.initializers import initializers
from dnntrain.parts.losses import losses
from dnntrain.parts.metrics import metrics
from dnntrain.parts.normalizations import normalizations
from dnntrain.parts.optimizers import optimizers
from dnntrain.parts.pretraining import pretrainings
from dnntrain.parts.regularizers import regularizers
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
from dnntrain.spec.reusing import ReuseSpec, StageSpec
from dnntrain.spec.sweeping import SweepSpec
from dnntrain.spec.values import (
    Cadence,
    ClassName,
    DeviceName,
    Duration,
    Monitor,
    MonitorSpec,
    RunName,
)
from dnntrain.yamltext import KeyPath, Marks

Auto = Literal["auto"]


def _listed(value: Any) -> Any:
    """Let a single part stand for a list of one, and `none` for none."""
    if value is None or value == "none":
        return ()
    return tuple(value) if isinstance(value, list | tuple) else (value,)


@dataclass(frozen=True)
class OneOrMore:
    """Marks a tuple of parts for which a file may also write a single part, or `none`."""

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_before_validator_function(_listed, handler(source))

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        parts = handler(schema)
        return {"anyOf": [{"enum": ["none", None]}, parts["items"], parts]}


class Validation(Options):
    """How a part of the training data is set aside for validation: by size, by fraction, or as one of K folds."""

    alternatives = (("size",), ("fraction",), ("folds", "fold"))

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
                "exclusive", "{names} exclude each other", {"names": " and ".join(given), "hint": "keep one of them"}
            )
        if (self.folds is None) != (self.fold is None):
            raise PydanticCustomError(
                "folds", "folds and fold belong together", {"hint": "such as {folds: 5, fold: 0}"}
            )
        if self.folds is not None and self.fold is not None and self.fold >= self.folds:
            raise PydanticCustomError(
                "fold",
                "there is no fold {fold} among {folds}",
                {"fold": self.fold, "folds": self.folds, "hint": f"folds count from 0 to {self.folds - 1}"},
            )
        if not given:
            # A frozen model is still ours to complete while it is being made.
            object.__setattr__(self, "fraction", 0.1)
        return self


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


Side = Annotated[int, Field(gt=0, le=4096)]
Size = Annotated[
    int | tuple[int, int],
    ByShape(scalar=Side, sequence=Annotated[tuple[Side, Side], Field(strict=False)]),
]


class DataSpec(Options):
    """Which data, and how it is cut, standardized and fed."""

    dataset: Annotated[Choice, Pick(datasets)] = Field(description="where samples come from", examples=["digits"])
    classes: Classes | None = Field(
        None,
        description="keep these classes, or group them: {shoes: [5, 7, 9], other: rest}",
        examples=[[3, 8], {"shoes": [5, 7, 9], "other": "rest"}],
    )
    validation: Annotated[Validation | Literal["none"], WordOr(("none",), Validation)] = Field(
        default_factory=lambda: Validation(),
        description="what is set aside for validation; none for nothing",
        examples=[{"fraction": 0.1}],
    )
    limit: PositiveInt | None = Field(None, description="train on the first N samples of the training part only")
    unlabeled: Annotated[bool | Auto, WordOr(("auto",), bool)] = Field(
        "auto",
        description="let pretraining, and the statistics of standardize, have what lies beyond limit too, without its "
        "labels; auto: where there is pretraining",
    )
    resize: Size | None = Field(
        None, description="bring pictures to this size, first of all: 224, or [height, width]", examples=[224]
    )
    standardize: Literal["auto", "none", "unit", "channel", "feature", "pretrained"] = Field(
        "auto",
        description="none, unit (x / full scale), mean 0 and deviation 1 per channel or per feature, or pretrained: as "
        "for the layers that were trained elsewhere",
    )
    sampling: Literal["shuffle", "balanced"] = Field(
        "shuffle", description="each sample once an epoch, or each class equally often, with replacement"
    )
    augment: Annotated[tuple[Annotated[Choice, Pick(augmentations)], ...], OneOrMore()] = Field(
        (), description="random changes to training batches: one, a list of them in order, or none"
    )
    batch_size: PositiveInt = Field(32, description="samples in a batch")


class ModelSpec(Options):
    """The network: its architecture, and the parts that every architecture is made of."""

    architecture: Annotated[Choice, Pick(architectures)] = Field(
        description="the kind of network", examples=[{"name": "mlp", "hidden": [300, 100]}]
    )
    activation: Annotated[Choice | Auto, Pick(activations, auto=True)] = Field(
        "auto",
        description="auto: relu up to 4 hidden layers, swish from 5 on; tanh in recurrent networks, gelu in vit",
    )
    initializer: Annotated[Choice | Auto, Pick(initializers, auto=True)] = Field(
        "auto", description="auto: what suits the activation"
    )
    output_initializer: Annotated[Choice | Auto, Pick(initializers, auto=True)] = Field(
        "auto", description="auto: glorot_uniform"
    )
    normalization: Annotated[Choice | Auto, Pick(normalizations, auto=True)] = Field(
        "auto",
        description="auto: none up to 4 hidden layers, batch from 5 on; none in recurrent networks, layer in vit",
    )
    dropout: Annotated[tuple[Annotated[Choice, Pick(dropouts)], ...], OneOrMore()] = Field(
        (), description="one, a list of them, or none"
    )
    reuse: ReuseSpec | None = Field(
        None, description="layers from another run or a file", examples=[{"from": "transfer_fashion_a"}]
    )


class ClipSpec(Options):
    """How gradients are clipped before each step: one of the three."""

    alternatives = (("norm",), ("value",), ("parameter_norm",))

    norm: Positive | None = Field(None, description="largest Euclidean norm of the gradient as a whole")
    value: Positive | None = Field(None, description="largest absolute value of a component")
    parameter_norm: Positive | None = Field(None, description="largest norm of each tensor's gradient")

    @model_validator(mode="after")
    def _exactly_one(self) -> ClipSpec:
        if sum(value is not None for value in (self.norm, self.value, self.parameter_norm)) != 1:
            raise PydanticCustomError(
                "clip", "clip needs exactly one of norm, value and parameter_norm", {"hint": "such as {norm: 1.0}"}
            )
        return self


class CheckpointSpec(Options):
    """How often the state of training is saved, so that it can go on from there."""

    every: Cadence = Field(
        "epoch", description="epoch, a number of optimizer steps, or a duration such as 10m", examples=["epoch", 500]
    )
    keep: NonNegativeInt = Field(
        0, description="how many of the latest are kept as step-*.pt, beside last.pt and the one before it"
    )


class RetrySpec(Options):
    """Going back to the last good checkpoint with a lower learning rate."""

    retry: PositiveInt = Field(1, description="how often at most")
    lr_factor: Annotated[float, Field(gt=0, lt=1)] = Field(
        0.3, description="what the learning rate is multiplied by each time"
    )


class TrainingSpec(Options):
    """The training loop."""

    epochs: PositiveInt = Field(
        20, description="passes over the training part; those of all stages where there are any"
    )
    stages: Annotated[tuple[StageSpec, ...], Field(strict=False)] = Field(
        (),
        description="parts of training, one after the other, with layers frozen and rates of their own",
        examples=[[{"epochs": 4, "freeze": "reused"}, {"epochs": 16, "unfreeze": "all", "lr": 1e-4}]],
    )
    cache_frozen: Annotated[bool | Auto, WordOr(("auto",), bool)] = Field(
        "auto",
        description="compute the outputs of the lower layers once where they are frozen and nothing below is random; "
        "auto: where they fit into memory",
    )
    monitor: Annotated[MonitorSpec | Auto, WordOr(("auto",), Monitor)] = Field(
        "auto",
        description="decides the best epoch; auto: valid/loss, or train/loss without validation",
        examples=["valid/loss"],
    )
    device: DeviceName = Field("auto", description="auto (CUDA where there is one), cpu, cuda, cuda:N or mps")
    precision: Literal["auto", "fp32", "tf32", "bf16", "fp16"] = Field(
        "auto", description="auto: bf16 on a GPU that has it, else fp32"
    )
    clip: ClipSpec | None = Field(None, description="gradient clipping", examples=[{"norm": 1.0}])
    accumulate: PositiveInt = Field(1, description="batches whose gradients make one optimizer step")
    average: Annotated[Choice, Pick(averages)] | None = Field(
        None, description="an average of the weights over training, evaluated in their place"
    )
    checkpoint: CheckpointSpec = Field(
        default_factory=lambda: CheckpointSpec(), description="how often the state of training is saved"
    )
    on_divergence: Annotated[RetrySpec | Literal["stop"], WordOr(("stop",), RetrySpec)] = Field(
        "stop",
        description="when a number is not finite: stop, or go back and retry with a lower rate",
        examples=[{"retry": 2, "lr_factor": 0.3}],
    )
    max_time: Duration | None = Field(None, description="stop after this long: 90s, 30m, 2h, 1d")
    threads: Annotated[int | Auto, WordOr(("auto",), PositiveInt)] = Field(
        "auto", description="CPU threads of one operation; auto: as many as PyTorch takes"
    )
    compile: Annotated[bool | Auto, WordOr(("auto",), bool)] = Field(
        "auto", description="compile the model with torch.compile; auto: no"
    )

    @model_validator(mode="after")
    def _of_all_stages(self) -> TrainingSpec:
        planned = sum(stage.epochs for stage in self.stages)
        if planned and "epochs" not in self.model_fields_set:
            object.__setattr__(self, "epochs", planned)
        elif planned and self.epochs > planned:
            raise PydanticCustomError(
                "stages",
                "there are {epochs} epochs, but the stages come to {planned}",
                {
                    "epochs": self.epochs,
                    "planned": planned,
                    "hint": "leave training.epochs out, or make a stage longer",
                },
            )
        return self


# The fields below have the names of their families, which they would hide in their own types.
Metrics = Annotated[tuple[Annotated[Choice, Pick(metrics)], ...], OneOrMore()]
Regularizers = Annotated[tuple[Annotated[Choice, Pick(regularizers)], ...], OneOrMore()]
Callbacks = Annotated[tuple[Annotated[Choice, Pick(callbacks)], ...], OneOrMore()]
Pretrainings = Annotated[tuple[Annotated[Choice, Pick(pretrainings)], ...], OneOrMore()]


class Spec(Options):
    """A whole experiment, as one file describes it."""

    left_out = ("sweep",)

    name: RunName = Field("run", description="names the run directory")
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
    regularizers: Regularizers = Field(
        (), description="penalties, constraints and noise on gradients; one, a list, or none"
    )
    loss: Annotated[Choice | Auto, Pick(losses, auto=True)] = Field(
        "auto", description="auto: cross_entropy for classes, mse for numbers"
    )
    metrics: Annotated[tuple[Choice, ...] | Auto, WordOr(("auto",), Metrics)] = Field(
        "auto", description="auto: accuracy for classes, mae and r2 for numbers"
    )
    pretraining: Pretrainings = Field(
        (),
        description="what the hidden layers learn from samples without labels before training; one, a list, or none",
        examples=["autoencoder"],
    )
    training: TrainingSpec = Field(default_factory=lambda: TrainingSpec())
    callbacks: Annotated[tuple[Choice, ...] | Auto, WordOr(("auto",), Callbacks)] = Field(
        "auto", description="auto: early stopping with patience 10 and the best weights, given validation"
    )
    sweep: SweepSpec | None = Field(None, description="what `dnntrain sweep` tries; `dnntrain run` passes it over")

    _marks: dict[KeyPath, Marks] = PrivateAttr(default_factory=dict)

    @override
    def __eq__(self, other: object) -> bool:
        """Whether both say the same; where they were written does not matter."""
        return isinstance(other, Spec) and plain(self) == plain(other)

    __hash__ = None  # type: ignore[assignment]

    def problem(self, path: str | KeyPath, message: str, hint: str = "") -> Problem:
        """Return a problem located at a path of the file, or at the nearest section that was written.

        Args:
            path: such as `training.monitor`, or its keys where they hold dots themselves.
            message: what is wrong.
            hint: how to mend it.
        """
        keys = path
        if isinstance(keys, str):
            keys = tuple(int(key) if key.isdecimal() else key for key in keys.split("."))
        return Problem(message, mark_at(self._marks, keys), hint)


def mark_at(marks: dict[KeyPath, Marks], path: KeyPath) -> Mark | None:
    """Return the mark of the value at a path, or of the nearest thing around it; None where nothing was written.

    An index into what was written as a single value is passed over: `dropout: {...}` is read as a list of one. What is
    absent from a mapping is marked at the mapping's key if that has lines of its own, else at what stands for it.
    """
    here: KeyPath = ()
    absent = False
    for key in path:
        if (*here, key) in marks:
            here = (*here, key)
        elif not isinstance(key, int):
            absent = True
            break
    found = marks.get(here)
    if found is None:
        return None
    return found.key if absent and found.key is not None and found.key.line != found.value.line else found.value
