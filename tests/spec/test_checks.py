from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from tinyspecs import DATA, MINIMAL, MODEL, marked, messages, only, read, told

from dnntrain import yamltext
from dnntrain.errors import Problem
from dnntrain.parts.optimizers import optimizers
from dnntrain.spec import Spec, checks
from dnntrain.spec.forms import follow
from dnntrain.spec.remainder import remainder

NONE = f"{DATA}  validation: none\n{MODEL}"
BATCH_OF_ONE = f"{DATA}  batch_size: 1\n{MODEL}  normalization: batch\n"
SWA = MINIMAL + "training: {epochs: 20, average: swa}\n"
NESTEROV = MINIMAL + "optimizer: {name: sgd, nesterov: true}\n"

IMPOSSIBLE = [
    (NONE + "training: {monitor: valid/loss}", "valid/loss is monitored, but data.validation is none", "valid/loss"),
    (
        NONE + "training: {monitor: {metric: valid/accuracy}}",
        "valid/accuracy is monitored, but data.validation is none",
        "{metric: valid/accuracy}",
    ),
    (
        NONE + "callbacks: early_stopping",
        "restore_best needs validation, but data.validation is none",
        "early_stopping",
    ),
    (
        NONE + "callbacks: [{name: early_stopping, restore_best: false}, early_stopping]",
        "restore_best needs validation, but data.validation is none",
        "early_stopping",
    ),
    (BATCH_OF_ONE, "batch normalization takes statistics over a batch, so one sample is not enough", "1"),
    (MINIMAL + "loss: mse\nmetrics: [mae, accuracy]", "metric 'accuracy' does not fit loss 'mse'", "accuracy"),
    (MINIMAL + "loss: cross_entropy\nmetrics: r2", "metric 'r2' does not fit loss 'cross_entropy'", "r2"),
    (
        f"{DATA}{MODEL}  reuse: {{from: a, freeze: all}}\npretraining: autoencoder",
        "these layers are to stay as they are, and pretraining changes all hidden layers",
        "all",
    ),
    (NESTEROV, "nesterov needs momentum and no dampening", "true"),
    (
        SWA + "callbacks: [terminate_on_nan, {name: early_stopping, patience: 14}]",
        "early_stopping may end training with epoch 15, but training.average begins after epoch 15",
        "{name: early_stopping, patience: 14}",
    ),
    (
        MINIMAL + "training: {average: swa}\ncallbacks: early_stopping",
        "early_stopping may end training with epoch 11, but training.average begins after epoch 15",
        "early_stopping",
    ),
]

POSSIBLE = [
    f"{DATA}{MODEL}  reuse: {{from: a}}\npretraining: autoencoder",
    NONE,
    NONE + "training: {monitor: train/loss}",
    NONE + "callbacks: {name: early_stopping, restore_best: false}",
    NONE + "callbacks: none",
    f"{DATA}  batch_size: 1\n{MODEL}  normalization: none\n",
    f"{DATA}  batch_size: 2\n{MODEL}  normalization: batch\n",
    MINIMAL + "loss: binary_cross_entropy\nmetrics: accuracy",
    MINIMAL + "loss: mse\nmetrics: [mae, r2]",
    MINIMAL + "optimizer: {name: sgd, nesterov: true, momentum: 0.9}",
    MINIMAL + "schedule: one_cycle\noptimizer: sgd",
    SWA,
    SWA + "callbacks: {name: early_stopping, patience: 15}",
    SWA + "callbacks: {name: early_stopping, patience: 1, warmup: 15}",
    MINIMAL + "training: {average: {name: swa, start: 0.0}}\ncallbacks: {name: early_stopping, patience: 1}",
    MINIMAL + "training: {average: ema}\ncallbacks: {name: early_stopping, patience: 1}",
]


@pytest.mark.parametrize(("text", "message", "under"), IMPOSSIBLE)
def test_an_impossible_combination(text: str, message: str, under: str) -> None:
    problem = only(text)
    assert (problem.message, marked(problem)) == (message, under)
    assert problem.hint


@pytest.mark.parametrize("text", POSSIBLE)
def test_a_possible_combination(text: str) -> None:
    read(text)


def test_nesterov_with_dampening_is_mended_otherwise() -> None:
    text = MINIMAL + "optimizer: {name: sgd, nesterov: true, momentum: 0.9, dampening: 0.1}"
    assert only(text).hint == "leave dampening out"
    assert only(NESTEROV).hint == "set momentum: 0.9 beside it"


def test_a_schedule_cannot_cycle_a_momentum_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(optimizers, "_entries", dict(optimizers._entries))

    def still(*, lr: float = 0.1) -> None:
        """Have no momentum."""

    optimizers.register("still", equation="x", cite="none")(still)
    text = MINIMAL + "optimizer: still\nschedule: "
    problem = only(text + "one_cycle")
    assert problem.message == "one_cycle cycles the momentum, but optimizer 'still' has none"
    assert marked(problem) == "one_cycle"
    read(text + "{name: one_cycle, cycle_momentum: false}")


def test_all_combinations_are_told_at_once() -> None:
    text = """
        data: {dataset: digits, validation: none, batch_size: 1}
        model: {architecture: {name: mlp, hidden: [3]}, normalization: batch}
        optimizer: {name: sgd, nesterov: true}
        loss: mse
        metrics: [accuracy]
        training: {monitor: valid/loss}
        callbacks: [early_stopping]
        """
    assert [problem.mark.line for problem in told(text) if problem.mark] == [2, 4, 6, 7, 8]


@pytest.mark.parametrize(("text", "message", "under"), IMPOSSIBLE)
def test_a_combination_is_told_beside_other_mistakes(text: str, message: str, under: str) -> None:
    assert message in messages(told(text + "\nseed: -1\nsede: 3\nname: a b\n"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (NONE.replace("none", "nome") + "training: {monitor: valid/loss}", "'validation' must be"),
        (NONE + "training: {monitor: {metric: valid/loss, mode: 3}}", "'mode' must be"),
        (NONE + "callbacks: [{name: early_stopping, restore_best: yes}]", "'restore_best' must be"),
        (BATCH_OF_ONE.replace("normalization: batch", "normalization: bach"), "unknown normalization 'bach'"),
        (BATCH_OF_ONE.replace("normalization: batch", "normalization: {name: batch, esp: 1}"), "unknown key 'esp'"),
        (BATCH_OF_ONE.replace("batch_size: 1", "batch_size: -1"), "'batch_size' must be"),
        (MINIMAL + "loss: mze\nmetrics: accuracy", "unknown loss 'mze'"),
        (NESTEROV.replace("true", "true, momentum: '0.9'"), "'momentum' must be"),
        (NESTEROV.replace("true", "true, momentun: 0.9"), "unknown key 'momentun'"),
    ],
)
def test_nothing_is_concluded_from_what_is_wrong_itself(text: str, message: str) -> None:
    assert only(text).message.startswith(message)


def test_what_is_known_to_be_wrong_is_not_looked_at() -> None:
    value = yamltext.read(NONE + "training: {monitor: valid/loss}", source="", folder=Path()).value
    found = remainder(value, [])
    assert len(checks.check(found)) == 1
    assert len(checks.check(found, [("data", "limit"), ("training", "epochs")])) == 1
    for wrong in (("data", "validation"), ("training", "monitor", "mode"), ("data",)):
        assert checks.check(found, [wrong]) == []


def test_the_remainder_holds_what_is_sound() -> None:
    value = yamltext.read(
        MINIMAL + "seed: x\ntraining: {epochs: 3, device: gpu, clip: {norm: x}}", source="", folder=Path()
    )
    wrong = [("seed",), ("training", "device"), ("training", "clip", "norm"), ("model", "architecture")]
    found = remainder(value.value, wrong)
    assert (found.training.epochs, found.training.device, found.training.clip, found.seed) == (3, "auto", None, 0)
    assert found.data.dataset.name == "digits"
    assert not hasattr(found.model, "architecture")
    assert remainder({"data": [1], "model": None}, [("data",), ("model",)]).data.validation != "none"


def test_missing_sections_keep_nothing_else_from_being_checked() -> None:
    assert messages(told("optimizer: {name: sgd, nesterov: true}")) == [
        "missing required key 'data.dataset'",
        "missing required key 'model.architecture'",
        "nesterov needs momentum and no dampening",
    ]
    assert len(told("data: [1]\nmodel: 3\nloss: mse\nmetrics: [accuracy]\ntraining: {monitor: valid/loss}")) == 3


SECTIONS = {("data",), ("model",), ("training",), ("sweep",)}
SWEEPS = [
    MINIMAL + "sweep: {space: {optimizer.lr: {log: [0.1, 1]}}}",
    MINIMAL + "sweep: {space: {optimizer.lr: {log: [0.1, 1]}}, search: grid, trials: 3}",
    MINIMAL + "sweep: {space: {optimizer.lr: [0.1, 1]}, folds: 3, exclude: [{optimizer.lr: 2}]}",
]


class Recorder:
    """Stands for a value and notes which of its attributes are read."""

    def __init__(self, value: object, path: tuple[str, ...], read: set[tuple[str, ...]]) -> None:
        self.__dict__.update(_value=value, _path=path, _read=read)

    def __getattr__(self, name: str) -> object:
        value = getattr(self._value, name)
        if name not in getattr(type(self._value), "model_fields", {}):
            return value
        path = (*self._path, name)
        self._read.add(path)
        return Recorder(value, path, self._read) if path in SECTIONS and value is not None else value


@pytest.mark.parametrize("check", checks.CHECKS, ids=lambda check: check.find.__name__)
def test_a_check_reads_what_it_says_and_nothing_else(check: checks.Check) -> None:
    texts = [text for text, _, _ in IMPOSSIBLE] + POSSIBLE + SWEEPS
    looked: set[tuple[str, ...]] = set()
    for text in texts:
        value = Spec.model_construct(**spec_fields(text))
        list(check.find(Recorder(value, (), looked)))  # type: ignore[arg-type]
    assert {".".join(path) for path in looked - SECTIONS} == set(check.reads)


def spec_fields(text: str) -> dict[str, object]:
    """Return the fields of a file, whether or not they go together."""
    return dict(remainder(yamltext.read(text, source="", folder=Path()).value, []))


def test_a_check_is_left_out_where_anything_it_reads_is_wrong() -> None:
    called = []

    def find(spec: Spec) -> Iterator[Problem]:
        called.append(spec)
        yield Problem("found")

    each = checks.Check(("data.validation", "loss"), find)
    assert each.concerns(("data",))
    assert each.concerns(("data", "validation", "from"))
    assert each.concerns(("loss",))
    assert each.concerns(())
    assert not each.concerns(("data", "limit"))
    assert not each.concerns(("losses",))
    for reads in (path for check in checks.CHECKS for path in check.reads):
        place = follow(tuple(reads.split(".")), {})
        assert place.info is not None, f"there is no {reads}"
