from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError
from tinyspecs import DATA, MINIMAL, marked, messages, only, place, read, told

from dnntrain import spec
from dnntrain.errors import SpecError
from dnntrain.registry import plain
from dnntrain.spec.sweeping import AxisSpec, holds, identity
from dnntrain.store import flatten

AXES = MINIMAL + "sweep:\n  trials: 9\n  space:\n"


def sweep(space: str, rest: str = "") -> str:
    return f"{MINIMAL}sweep:\n  space:\n    {space}\n{rest}"


# What there is no sweep in never speaks of one.


def test_a_file_without_a_sweep_is_written_without_one() -> None:
    found = read(MINIMAL)
    assert found.sweep is None
    assert "sweep" not in spec.dump(found)
    assert not [key for key in flatten(plain(found)) if key.startswith("sweep")]


def test_a_sweep_is_written_and_read_back_and_can_be_left_out() -> None:
    found = read(AXES + "    optimizer.lr: {log: [1e-5, 1e-1]}\n    model.activation: [relu, selu]\n")
    assert spec.loads(spec.dump(found)) == found
    bare = spec.without_sweep(found)
    assert bare == read(MINIMAL)
    assert "sweep" not in spec.dump(bare)
    assert spec.without_sweep(bare) is bare


def test_a_list_is_a_choice() -> None:
    short = read(AXES + "    optimizer.lr: [0.1, 1]\n")
    assert short == read(AXES + "    optimizer.lr: {choice: [0.1, 1]}\n")


@pytest.mark.parametrize(
    ("written", "kind", "listed", "continuous"),
    [
        ("[1]", "choice", True, False),
        ("{uniform: [-1, 1]}", "uniform", False, True),
        ("{log: [1e-3, 1]}", "log", False, True),
        ("{int: [1, 9], step: 2}", "int", False, False),
    ],
)
def test_kinds(written: str, kind: str, listed: bool, continuous: bool) -> None:
    found = read(AXES + f"    optimizer.lr: {written}\n").sweep
    assert found is not None
    axis = found.space["optimizer.lr"]
    assert (axis.kind, axis.listed, axis.continuous) == (kind, listed, continuous)


@pytest.mark.parametrize(
    ("text", "method"),
    [
        ("{}", "grid"),
        ("{space: {optimizer.lr: [1, 2]}}", "grid"),
        ("{space: {v: {variants: {a: {}}}}}", "grid"),
        ("{space: {optimizer.lr: [1, 2]}, trials: 3}", "tpe"),
        ("{space: {training.epochs: {int: [1, 2]}}, trials: 3}", "tpe"),
        ("{space: {optimizer.lr: {log: [1, 2]}}, patience: 3}", "tpe"),
        ("{space: {optimizer.lr: {log: [1, 2]}}, trials: 3, search: qmc}", "qmc"),
        ("{space: {optimizer.lr: [1, 2]}, search: random}", "random"),
    ],
)
def test_what_auto_searches_by(text: str, method: str) -> None:
    found = read(MINIMAL + f"sweep: {text}").sweep
    assert found is not None
    assert found.method == method


# Where it comes from: the file, what it extends, --set and --grid.


def test_settings_and_extends_reach_into_it(tmp_path: Path) -> None:
    (tmp_path / "base.yaml").write_text(AXES + "    optimizer.lr: {log: [0.1, 1]}\n    model.activation: [relu]\n")
    (tmp_path / "over.yaml").write_text("extends: base.yaml\nsweep: {space: {optimizer.lr: [1, 2]}, seeds: 3}")
    found = spec.load(tmp_path / "over.yaml", ["sweep.trials=5"]).sweep
    assert found is not None
    assert (found.trials, found.seeds) == (5, 3)
    assert found.space == {"optimizer.lr": AxisSpec(choice=(1, 2)), "model.activation": AxisSpec(choice=("relu",))}


def test_a_grid_adds_an_axis_or_gives_one_other_values() -> None:
    text = MINIMAL + "sweep: {space: {model.dropout.rate: {uniform: [0, 0.5], unless: {model.dropout: none}}}}"
    grids = ["model.dropout.rate=0.1,0.2", "optimizer={name: sgd, lr: 0.1},adamw"]
    for found in (spec.loads(text, grids=grids).sweep, spec.loads(text + "\n", grids=reversed(grids)).sweep):  # type: ignore[arg-type]
        assert found is not None
        assert found.space["model.dropout.rate"] == AxisSpec(choice=(0.1, 0.2), unless={"model.dropout": "none"})
        assert found.space["optimizer"].choice == ({"name": "sgd", "lr": 0.1}, "adamw")
    alone = spec.loads(MINIMAL, grids=["optimizer.lr=1"]).sweep
    assert alone is not None
    assert alone.space == {"optimizer.lr": AxisSpec(choice=(1,))}


@pytest.mark.parametrize(
    ("grid", "message", "under", "column"),
    [
        ("optimizer.lr", "cannot set 'optimizer.lr'", "optimizer.lr", 1),
        ("=1,2", "cannot set '=1,2'", "=1,2", 1),
        ("optimizer.lr=", "'optimizer.lr' must have at least 1 entry, not 0", "", 14),
        ("optimizer.lr=1,1.0", "entry 1 says the same as entry 0", "1,1.0", 14),
        ("optimizer.rl=1,2", "unknown key 'optimizer.rl': there is no 'rl'", "optimizer.rl", 1),
        ("optimizer=a,{b: 1, b: 2}", "key 'b' given twice", "b", 20),
        ("optimizer.lr=1,,2", "a value is missing before this", ",", 16),
    ],
)
def test_a_wrong_grid_is_told_where_it_stands(grid: str, message: str, under: str, column: int) -> None:
    with pytest.raises(SpecError) as caught:
        spec.loads(MINIMAL, grids=["training.epochs=1", grid])
    problem = caught.value.problems[0]
    assert problem.message.startswith(message)
    assert place(problem) == f"--grid:2:{column}"
    assert marked(problem) == under


def test_a_grid_over_something_else_is_left_to_the_mistake_that_is_told() -> None:
    for text in ("sweep: 3", "sweep: {space: [1]}"):
        with pytest.raises(SpecError) as caught:
            spec.loads(MINIMAL + text, grids=["optimizer.lr=1"])
        assert len(caught.value.problems) == 1


# Values by themselves.


@pytest.mark.parametrize(
    ("axis", "message", "under"),
    [
        ("{log: [0, 1]}", "entry 0 of 'log' must be greater than 0, not 0", "0"),
        ("{uniform: [2, 1]}", "a range goes from its lower end to a higher one, and 2.0 is not below 1.0", "[2, 1]"),
        ("{int: [2, 2]}", "a range goes from its lower end to a higher one, and 2 is not below 2", "[2, 2]"),
        ("{int: [1.5, 2]}", "entry 0 of 'int' must be a whole number, not 1.5", "1.5"),
        ("{log: [1]}", "'log' must have 2 entries, not 1", "[1]"),
        ("[]", "'optimizer.lr' must have at least 1 entry, not 0", "[]"),
        ("[1, 2, 1.0]", "entry 2 says the same as entry 0", "[1, 2, 1.0]"),
        ("[sgd, {name: sgd}]", "entry 1 says the same as entry 0", "[sgd, {name: sgd}]"),
        ("{choice: [1], step: 2}", "step belongs to int", "{choice: [1], step: 2}"),
        ("{choice: [1], log: [1, 2]}", "an axis has exactly one of choice, uniform, log, int and variants", None),
        ("{when: {seed: 1}}", "an axis has exactly one of choice, uniform, log, int and variants", None),
        ("{chioce: [1]}", "unknown key 'chioce'", "chioce"),
        ("{variants: {a: {seed: 1}, b: {seed: 1}}}", "the variants a and b are the same", None),
        ("3", "'optimizer.lr' must be a list or a mapping, not 3", "3"),
    ],
)
def test_a_wrong_axis(axis: str, message: str, under: str | None) -> None:
    problem = only(AXES + f"    optimizer.lr: {axis}\n")
    assert problem.message == message
    assert under is None or marked(problem) == under


def test_true_is_not_one_and_a_text_is_not_a_number() -> None:
    read(AXES + "    optimizer.nesterov: [true, false, 1, 0, '1', 'true', null, 'null']\n")


def test_all_mistakes_are_told_at_once() -> None:
    text = AXES.replace("9", "0") + "    optimizer.lr: {log: [2, 1]}\n    x: []\n  seeds: 0\n  folds: 1\n  tirals: 2\n"
    assert len(told(text + "seed: -1\n")) == 7
    # What is wrong with one key does not hide that another does not go together with the rest.
    assert messages(told(MINIMAL + "sweep: {seeds: 0, space: {optimizer.rl: [1]}}")) == [
        "'seeds' must be greater than 0, not 0",
        "unknown key 'optimizer.rl': there is no 'rl'",
    ]


def test_axes_guard_their_own_in_python_too() -> None:
    for wrong in ({}, {"log": (0.0, 1.0)}, {"choice": ()}, {"uniform": (1.0, 0.0)}):
        with pytest.raises(ValidationError):
            AxisSpec(**wrong)  # type: ignore[arg-type]


# How they go together.


@pytest.mark.parametrize(
    ("text", "message", "under"),
    [
        (sweep("optimizer.learning_rate: [1]"), "unknown key 'optimizer.learning_rate'", "optimizer.learning_rate"),
        (sweep("f: {variants: {a: {optimizer.rl: 1}}}"), "unknown key 'optimizer.rl'", "optimizer.rl"),
        (sweep("f: {variants: {a: {model: {activaton: selu}}}}"), "unknown key 'model.activaton'", "activaton"),
        (sweep("model: {variants: {a: {}}}"), "'model' is a key of the file", "model"),
        (sweep("seed: [1, 2]"), "'seed' is not searched", "seed"),
        (sweep("name: [a, b]"), "'name' is not searched", "name"),
        (sweep("f: {variants: {a: {sweep: {trials: 3}}}}"), "'sweep' is not searched", "sweep"),
        (
            sweep("optimizer.lr: [1]\n    f: {variants: {a: {optimizer.lr: 1}}}"),
            "'optimizer.lr' is set by the axis 'optimizer.lr' already",
            "optimizer.lr",
        ),
        (sweep("optimizer.lr: {choice: [1], when: {optimizer.lr: 1}}"), "'optimizer.lr' depends on itself", None),
        (
            sweep("optimizer.lr: {choice: [1], when: {optimizer: sgd}}\n    optimizer: [sgd, adamw]"),
            "'optimizer.lr' depends on 'optimizer', which stands below it",
            "optimizer",
        ),
        (
            sweep("optimizer.lr: {choice: [1], when: {loss: mse}}\n    f: {variants: {a: {loss: mse}}}"),
            "'optimizer.lr' depends on 'f', which stands below it",
            "loss",
        ),
        (sweep("optimizer.lr: {choice: [1], when: {optimzer: sgd}}"), "unknown key 'optimzer'", "optimzer"),
        (
            sweep("optimizer: [sgd]\n    optimizer.lr: {choice: [1], when: {optimizer: [sgd, sdg]}}"),
            "'optimizer' is never sdg",
            "[sgd, sdg]",
        ),
        (sweep("f: {variants: {a: {}}}", "  exclude: [{f: b}]"), "'f' is never b", "b"),
        (
            sweep("optimizer.lr: {log: [1, 2]}", "  trials: 3\n  exclude: [{optimizer.lr: 1}]"),
            "'optimizer.lr' is a range, whose values are never met exactly",
            "optimizer.lr",
        ),
        (
            sweep("optimizer.lr: {log: [1, 2]}", "  search: grid"),
            "'optimizer.lr' is a range, and a grid is made of single values",
            "{log: [1, 2]}",
        ),
        (
            sweep("optimizer.lr: [1, 2]", "  search: grid\n  trials: 1"),
            "a grid tries all of its configurations",
            "1",
        ),
        (sweep("optimizer.lr: {log: [1, 2]}"), "nothing says when the search, tpe, shall end", None),
        (sweep("optimizer.lr: [1, 2]", "  search: qmc"), "nothing says when the search, qmc, shall end", None),
        (sweep("data.validation.size: [9]", "  folds: 3"), "folds set 'data.validation' already", None),
        (sweep("f: {variants: {a: {data: {validation: none}}}}", "  folds: 3"), "folds set 'data.validation'", None),
    ],
)
def test_what_cannot_be(text: str, message: str, under: str | None) -> None:
    problem = only(text)
    assert problem.message.startswith(message)
    assert problem.hint
    assert under is None or marked(problem) == under


@pytest.mark.parametrize(
    "text",
    [
        sweep("optimizer: [sgd, adamw]\n    optimizer.nesterov: {choice: [true], when: {optimizer: sgd}}"),
        sweep("callbacks.0.patience: [3, 5]"),
        sweep("model.dropout.rate: {choice: [0.1], unless: {model.dropout: none}}"),
        sweep(
            "f: {variants: {a: {model: {activation: selu}}, b: {}}}", "  exclude: [{f: [a], model.activation: selu}]"
        ),
        sweep("optimizer.lr: [1, 2]", "  search: random"),
        sweep("optimizer.lr: {log: [1, 2]}", "  budget: 2h"),
        sweep("data.limit: [9]", "  folds: 3"),
        sweep("f: {variants: {a: {}, b: {data.limit: 9}}}\n    g: {variants: {a: {}, b: {seed: 9}}}").replace(
            "seed: 9", "loss: mse"
        ),
        f"{DATA}  validation: none\nmodel:\n  architecture: {{name: mlp, hidden: [10]}}\nsweep: {{}}",
    ],
)
def test_what_can_be(text: str) -> None:
    read(text)


def test_a_condition_stands_though_the_command_line_narrows_what_it_looks_at() -> None:
    text = sweep("optimizer: [sgd, adamw]\n    optimizer.nesterov: {choice: [true], when: {optimizer: sgd}}")
    found = spec.loads(text, grids=["optimizer=adamw,lion"]).sweep
    assert found is not None
    assert found.space["optimizer"].choice == ("adamw", "lion")


def test_the_hint_names_what_was_meant() -> None:
    assert only(sweep("optimizer.learning_rate: [1]")).hint == "called lr here"
    assert only(sweep("model.activaton: [1]")).hint.startswith("did you mean 'activation'?")
    assert "seeds: 3" in only(sweep("seed: [1]")).hint
    text = sweep("family: {variants: {a: {}}}", "  exclude: [{famly: a}]")
    assert only(text).hint.startswith("did you mean 'family'?")


# Conditions.


@pytest.mark.parametrize(
    ("wanted", "value", "expected"),
    [
        (1, 1.0, True),
        (1, True, False),
        ("1", 1, False),
        ("sgd", "sgd", True),
        ("sgd", {"name": "sgd", "lr": 0.1}, True),
        ({"name": "sgd"}, "sgd", True),
        ({"name": "sgd", "lr": 0.1}, {"name": "sgd", "lr": 0.1, "momentum": 0}, True),
        ({"name": "sgd", "lr": 0.2}, {"name": "sgd", "lr": 0.1}, False),
        ({"name": "sgd", "lr": 0.2}, "sgd", False),
        (["sgd", "adam"], "adam", True),
        (["sgd", "adam"], "adamw", False),
        ([300, 100], [300, 100], True),
        ("alpha", [{"name": "alpha", "rate": 0.1}], True),
        ("alpha", [], False),
        ("none", [], True),
        ("none", None, True),
        (None, "none", True),
        ("none", "alpha", False),
        (["none", "alpha"], [], True),
        ("none", 0, False),
        (False, None, False),
        ("a", object(), False),
    ],
)
def test_what_a_condition_is_met_by(wanted: Any, value: Any, expected: bool) -> None:
    assert holds(wanted, value) is expected


def test_identity_is_shared_by_what_says_the_same() -> None:
    assert identity({"a": [1, {"name": "x"}]}) == identity({"a": (1.0, "x")})
    assert len({identity(each) for each in (1, "1", True, None, "None", [], {})}) == 7
