from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from dnntrain import build, spec, yamltext
from dnntrain.errors import UsageError
from dnntrain.spec import Spec
from dnntrain.sweep.ablation import (
    NOTHING,
    TECHNIQUES,
    Ablation,
    as_json,
    effects,
    named,
    plan_ablation,
    read_ablation,
)
from dnntrain.sweep.configurations import configuration
from dnntrain.sweep.plan import Plan
from dnntrain.sweep.results import Result
from dnntrain.sweep.telling import ablation

PLAIN: dict[str, Any] = {
    "data": {"dataset": "digits"},
    "model": {"architecture": {"name": "mlp", "hidden": [8]}, "activation": "relu", "initializer": "glorot_uniform"},
    "optimizer": {"name": "sgd", "lr": 0.01},
    "schedule": "constant",
}


def experiment(*overrides: str) -> Spec:
    return spec.loads(yamltext.dump(PLAIN), source="f.yaml", overrides=overrides)


def planned(*overrides: str, **rest: Any) -> Ablation:
    return plan_ablation(experiment(*overrides), **rest)


def without(*overrides: str) -> dict[str, dict[str, Any]]:
    """Return what is set for each technique that is taken away."""
    return {name: {each.key: each.new for each in made} for name, made in planned(*overrides).changes.items()}


@pytest.mark.parametrize(
    ("technique", "override", "settings"),
    [
        ("initializer", "model.initializer=he_normal", {"model.initializer": "glorot_uniform"}),
        ("normalization", "model.normalization=batch", {"model.normalization": "none"}),
        ("dropout", "model.dropout={name: dropout, rate: 0.2}", {"model.dropout": "none"}),
        ("regularizers", "regularizers={name: l2, strength: 0.1}", {"regularizers": "none"}),
        ("weight_decay", "optimizer=adamw", {"optimizer.weight_decay": 0.0}),
        ("schedule", "schedule=one_cycle", {"schedule": "constant"}),
        ("clipping", "training.clip={norm: 1.0}", {"training.clip": None}),
        ("augmentation", "data.augment={name: random_crop, padding: 1}", {"data.augment": "none"}),
        ("averaging", "training.average=ema", {"training.average": None}),
        ("activation", "model.activation=elu", {"model.activation": "relu"}),
    ],
)
def test_each_technique_is_taken_away_by_itself(technique: str, override: str, settings: Mapping[str, Any]) -> None:
    made = planned(override)
    assert {name: {c.key: c.new for c in changes} for name, changes in made.changes.items()} == {technique: settings}
    assert sorted([*made.plain, technique]) == sorted(each.name for each in TECHNIQUES)
    base, bare = (configuration(made.plan.draft, point) for point in made.plan.space.points())
    assert base == build.resolve(experiment(override), build.open_data(base)).model_copy(update={"name": base.name})
    # What is left is plain, and nothing else has changed.
    (taken,) = [each for each in TECHNIQUES if each.name == technique]
    assert taken.taken_away(bare) == {}
    assert bare == spec.loads(spec.dump(base), overrides=[f"{key}={_yaml(v)}" for key, v in settings.items()])


def _yaml(value: Any) -> str:
    return "null" if value is None else str(value)


def test_what_suits_the_activation_goes_with_it() -> None:
    selu = without("model={activation: selu, initializer: lecun_uniform, dropout: {name: alpha, rate: 0.2}}")
    dropout = [{"name": "dropout", "rate": 0.2, "layers": "hidden"}]
    assert selu == {
        "activation": {"model.activation": "relu", "model.initializer": "he_uniform", "model.dropout": dropout},
        "initializer": {"model.initializer": "glorot_uniform"},
        "dropout": {"model.dropout": "none"},
    }
    own = without("model={activation: selu, initializer: orthogonal}")
    assert own["activation"] == {"model.activation": "relu"}


def test_what_auto_chose_stays() -> None:
    """Without batch normalization, or without swa, `auto` would choose otherwise: it does not get to."""
    made = planned("model.architecture={name: mlp, hidden: [8, 8, 8, 8, 8, 8]}", "model.activation=auto",
                   "training.average={name: swa}")  # fmt: skip
    assert set(made.changes) == {"activation", "normalization", "averaging"}
    by_name = {str(p.labels["without"]): configuration(made.plan.draft, p) for p in made.plan.space.points()}
    assert by_name["normalization"].model.activation == by_name[NOTHING].model.activation
    assert by_name["averaging"].callbacks == by_name[NOTHING].callbacks == ()


def test_an_architecture_with_a_custom_of_its_own_keeps_it() -> None:
    gru = ("model={architecture: {name: gru, units: 4}, activation: tanh, initializer: glorot_normal}",)
    made = planned(*gru, "training.clip={norm: 1.0}")
    assert list(made.changes) == ["clipping"]
    assert "activation" in made.plain


def test_what_cannot_be_taken_away_is_told() -> None:
    made = planned(
        "model.dropout={name: dropout, rate: 0.2}", "schedule=one_cycle", only=["dropout", "schedule", "clipping"]
    )
    assert (list(made.changes), made.plain, made.refused) == (["dropout", "schedule"], ["clipping"], [])
    with pytest.raises(UsageError, match="no technique 'dropot' to take away: did you mean 'dropout'"):
        planned(only=["dropot"])
    with pytest.raises(UsageError, match=r"nothing to take away .*already plain: dropout\)"):
        planned("schedule=one_cycle", only=["dropout"])
    with pytest.raises(UsageError, match="does not measure 'valid/acc' in training: did you mean 'valid/accuracy'"):
        planned("schedule=one_cycle", metric="valid/acc")


def test_an_impossible_removal_is_left_out_and_told(monkeypatch: pytest.MonkeyPatch) -> None:
    from dnntrain.sweep import ablation as module

    broken = module.Technique("clipping", lambda spec: {"training.clip": {"norm": -1.0}})
    monkeypatch.setattr(module, "TECHNIQUES", (*(t for t in TECHNIQUES if t.name != "clipping"), broken))
    made = planned("schedule=one_cycle")
    assert list(made.changes) == ["schedule"]
    assert [each.technique for each in made.refused] == ["clipping"]
    assert "greater than 0" in made.refused[0].message
    with pytest.raises(UsageError, match="nothing to take away .*clipping: .*greater than 0"):
        planned("schedule=one_cycle", only=["clipping"])


def test_a_file_s_own_sweep_is_passed_over_and_seeds_are_those_asked_for() -> None:
    made = planned("sweep.space={optimizer.lr: [0.1, 0.2]}", "schedule=one_cycle", "seed=7", seeds=4)
    assert [axis.name for axis in made.plan.space.axes] == ["without"]
    assert [each.seed for each in made.plan.stretches(0, 0)] == [7, 8, 9, 10]
    assert made.plan.runs == 8


def test_an_ablation_is_read_back() -> None:
    made = planned("schedule=one_cycle", "model.dropout={name: dropout, rate: 0.2}", metric="valid/accuracy")
    again = read_ablation(Plan.read(spec.dump(made.plan.base), source="sweep.yaml", folder=Path()), source="a sweep")
    assert again.changes == made.changes
    assert (again.plain, again.plan.metric, again.plan.better) == (made.plain, "valid/accuracy", "max")
    other = yamltext.dump({**PLAIN, "sweep": {"space": {"optimizer.lr": [0.1, 0.2]}}})
    with pytest.raises(UsageError, match="a sweep is no ablation"):
        read_ablation(Plan.read(other, source="sweep.yaml", folder=Path()), source="a sweep")


def came(made: Ablation, figures: Mapping[str, list[float | None]]) -> Result:
    rows = [
        {"labels": {"without": name}, "seed": seed, "value": value, "status": "done" if value else "failed",
         "reused": False}
        for name, values in figures.items() for seed, value in enumerate(values)
    ]  # fmt: skip
    return Result(made.plan.metric, made.plan.better, [], rows, "", None, [])


def test_the_most_harmful_removal_comes_first_and_verdicts_are_corrected() -> None:
    made = planned(
        "schedule=one_cycle", "model.dropout={name: dropout, rate: 0.2}", "training.clip={norm: 1.0}", "optimizer=adamw"
    )
    figures = {
        NOTHING: [1.0, 1.1, 1.2],
        "dropout": [1.5, 1.61, 1.69],
        "schedule": [0.5, 0.61, 0.69],
        "clipping": [None, None, None],
        "weight_decay": [1.01, 1.12, 1.17],
    }
    result = came(made, figures)
    found = effects(made, result)
    assert [each.technique for each in found.effects] == ["clipping", "dropout", "weight_decay", "schedule"]
    assert [each.mean for each in found.effects] == [None, *(pytest.approx(m) for m in (1.6, 1.1, 0.6))]
    by_name = {each.technique: each.difference for each in found.effects}
    assert [by_name[name].verdict for name in ("dropout", "weight_decay", "schedule")] == [
        "worse", "not distinguishable", "better",
    ]  # fmt: skip
    assert {each.comparisons for each in by_name.values()} == {4}
    assert by_name["dropout"].method == "paired t"
    assert ablation(found)[:2] == [
        "worth having, beyond luck: dropout; clipping, for every run without it failed",
        "better without, beyond luck: schedule",
    ]
    told = as_json(made, found, result)
    assert [each["technique"] for each in told["without"]] == [each.technique for each in found.effects]
    assert (told["failed"], told["values"], told["seeds"]) == (3, {"0": 1.0, "1": 1.1, "2": 1.2}, [0, 1, 2])


def test_one_seed_gives_no_verdict() -> None:
    made = planned("schedule=one_cycle", seeds=1)
    found = effects(made, came(made, {NOTHING: [1.0], "schedule": [2.0]}))
    assert found.effects[0].difference.verdict == "one seed: no verdict"
    assert ablation(found)[0].startswith("one seed shows nothing of luck")


@pytest.mark.parametrize(
    ("value", "text"),
    [("relu", "relu"), ({"name": "alpha", "rate": 0.1}, "alpha"), ([{"name": "l2"}, "x"], "l2, x"), ([], "none"),
     (None, "none"), ({"norm": 1.0}, "{norm: 1.0}"), (0.0, "0.0")],
)  # fmt: skip
def test_values_are_named_shortly(value: Any, text: str) -> None:
    assert named(value) == text
