from __future__ import annotations

import pytest
from pydantic import ValidationError
from pydantic_core import PydanticCustomError
from tinyspecs import DATA, MINIMAL, MODEL, marked, read

from dnntrain.errors import Mark
from dnntrain.registry import plain
from dnntrain.spec import Spec, seconds
from dnntrain.spec.schema import ClipSpec, Validation, mark_at
from dnntrain.spec.values import MonitorSpec
from dnntrain.yamltext import Marks


@pytest.mark.parametrize(
    ("duration", "expected"), [("90s", 90), ("30m", 1800), ("2h", 7200), ("1.5d", 129600), ("0.5s", 0.5)]
)
def test_seconds(duration: str, expected: float) -> None:
    assert seconds(duration) == expected


@pytest.mark.parametrize(
    "wrong", ["", "10", "10 m", "1h30m", "-1s", "0s", "0.0h", "٣s", "1e3s", "9" * 400 + "s", "1.s"]
)
def test_what_is_no_duration(wrong: str) -> None:
    with pytest.raises(PydanticCustomError, match="must be a duration"):
        seconds(wrong)


def test_only_data_and_architecture_are_required() -> None:
    found = plain(read(MINIMAL))
    defaults = {
        "name": "run",
        "seed": 0,
        "loss": "auto",
        "metrics": "auto",
        "callbacks": "auto",
    }
    assert {key: found[key] for key in defaults} == defaults
    assert found["optimizer"].items() >= {"name": "adamw", "lr": 0.001, "betas": [0.9, 0.999], "eps": 1e-08}.items()
    assert found["schedule"].items() >= {"name": "performance", "factor": 0.5, "patience": 5}.items()
    assert found["data"]["validation"] == {"fraction": 0.1, "from": "auto", "seed": 0}
    assert (found["data"]["batch_size"], found["data"]["limit"], found["data"]["standardize"]) == (32, None, "auto")
    assert {key: found["model"][key] for key in ("activation", "initializer", "normalization", "dropout")} == {
        "activation": "auto",
        "initializer": "auto",
        "normalization": "auto",
        "dropout": [],
    }
    training = {"epochs": 20, "monitor": "auto", "device": "auto", "precision": "auto", "clip": None, "accumulate": 1}
    assert {key: found["training"][key] for key in training} == training


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("none", "none"),
        ("{}", {"fraction": 0.1, "from": "auto", "seed": 0}),
        ("{size: 100, from: first}", {"size": 100, "from": "first", "seed": 0}),
        ("{fraction: 0.25, seed: 7}", {"fraction": 0.25, "from": "auto", "seed": 7}),
        ("{folds: 5, fold: 0}", {"folds": 5, "fold": 0, "from": "auto", "seed": 0}),
        ("{folds: 5, fold: 4}", {"folds": 5, "fold": 4, "from": "auto", "seed": 0}),
    ],
)
def test_validation(written: str, expected: object) -> None:
    assert plain(read(f"{DATA}  validation: {written}\n{MODEL}").data.validation) == expected


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("[3, 8]", [3, 8]),
        ("[cat, 3]", ["cat", 3]),
        ("{shoes: [5, 7], other: rest}", {"shoes": [5, 7], "other": "rest"}),
        ("null", None),
    ],
)
def test_classes(written: str, expected: object) -> None:
    assert plain(read(f"{DATA}  classes: {written}\n{MODEL}").data.classes) == expected


@pytest.mark.parametrize(
    ("written", "names"),
    [
        ("none", []),
        ("null", []),
        ("[]", []),
        ("{name: alpha, rate: 0.1}", ["alpha"]),
        ("[{name: alpha, rate: 0.1}, {name: dropout, rate: 0.2}]", ["alpha", "dropout"]),
    ],
)
def test_one_part_or_several(written: str, names: list[str]) -> None:
    assert [each.name for each in read(f"{MINIMAL}  dropout: {written}\n").model.dropout] == names


def test_what_may_be_said_in_short() -> None:
    long = read(
        MINIMAL
        + "  normalization: {name: none}\noptimizer: {name: adamw, lr: 0.1}\nmetrics: [{name: accuracy}]\n"
        + "training: {monitor: {metric: valid/accuracy}}\ncallbacks: [{name: early_stopping}]\n"
    )
    short = read(
        MINIMAL
        + "  normalization: null\noptimizer: {lr: 0.1}\nmetrics: accuracy\n"
        + "training: {monitor: valid/accuracy}\ncallbacks: early_stopping\n"
    )
    assert short == long


@pytest.mark.parametrize("device", ["auto", "cpu", "cuda", "cuda:0", "cuda:12", "mps"])
def test_devices(device: str) -> None:
    assert read(MINIMAL + f"training: {{device: {device}}}").training.device == device


@pytest.mark.parametrize("device", ["cuda:", "cuda:x", "cuda:1234", "CPU", "cpu:0", ""])
def test_what_is_no_device(device: str) -> None:
    with pytest.raises(ValidationError, match="must be auto, cpu"):
        Spec.model_validate({**plain(read(MINIMAL)), "training": {"device": device}})


def test_sections_guard_their_own_in_python_too() -> None:
    for make in (
        lambda: Validation(size=1, fraction=0.1),
        lambda: Validation(folds=5),
        lambda: Validation(folds=5, fold=5),
        lambda: ClipSpec(),
        lambda: ClipSpec(norm=1.0, value=1.0),
        lambda: MonitorSpec(metric="loss"),
        lambda: MonitorSpec(metric="valid/loss\n"),
    ):
        with pytest.raises(ValidationError):
            make()


def test_specs_are_equal_when_they_say_the_same_wherever_they_stand() -> None:
    one, other = read(MINIMAL), read("\n\n" + MODEL + DATA)
    assert one == other
    assert one != read(MINIMAL + "seed: 1")
    assert one != "a text"
    with pytest.raises(TypeError):
        hash(one)


LOCATED = """
data:
  dataset: digits
model:
  architecture: {name: mlp, hidden: [3]}
  normalization: batch
  dropout: {name: alpha, rate: 0.5}
metrics: accuracy
callbacks:
  - early_stopping
  - {name: early_stopping, patience: 3}
training:
  epochs: 5
"""


@pytest.mark.parametrize(
    ("path", "line", "under"),
    [
        ("data.dataset", 3, "digits"),
        ("data", 3, "d"),
        ("data.limit", 2, "data"),
        ("model.normalization", 6, "batch"),
        ("model.normalization.eps", 6, "batch"),
        ("model.dropout", 7, "{name: alpha, rate: 0.5}"),
        ("model.dropout.0", 7, "{name: alpha, rate: 0.5}"),
        ("model.dropout.0.rate", 7, "0.5"),
        ("model.dropout.0.layers", 7, "{name: alpha, rate: 0.5}"),
        ("metrics.0", 8, "accuracy"),
        ("callbacks.0", 10, "early_stopping"),
        ("callbacks.1.patience", 11, "3"),
        ("training.monitor", 12, "training"),
        ("schedule", 2, "d"),
    ],
)
def test_a_problem_is_located_at_its_value_or_at_the_nearest_thing_written(path: str, line: int, under: str) -> None:
    problem = read(LOCATED).problem(path, "wrong", "mend it")
    assert problem.mark is not None
    assert (problem.message, problem.hint) == ("wrong", "mend it")
    assert (problem.mark.line, marked(problem)) == (line, under)


def test_marks_survive_a_copy_and_are_absent_in_a_spec_made_in_python() -> None:
    spec = read(MINIMAL)
    copy = spec.model_copy(update={"seed": 3})
    assert copy.problem("data.dataset", "x").mark == spec.problem("data.dataset", "x").mark
    made = Spec.model_validate(plain(spec))
    assert made.problem("data.dataset", "x").mark is None


def test_what_is_absent_is_marked_at_the_key_of_a_block_and_at_a_value_on_one_line() -> None:
    key, block, flow = Mark("f", 1, 1, 4, "data:"), Mark("f", 2, 3, 1, "  a: 1"), Mark("f", 1, 7, 6, "data: {a: 1}")
    assert mark_at({(): Marks(key, None), ("data",): Marks(block, key)}, ("data", "b")) == key
    assert mark_at({(): Marks(key, None), ("data",): Marks(flow, key)}, ("data", "b")) == flow
    assert mark_at({(): Marks(key, None), ("data",): Marks(block, key)}, ("data",)) == block
    assert mark_at({}, ("data",)) is None
