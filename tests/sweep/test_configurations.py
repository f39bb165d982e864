from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tinysweeps import EXPERIMENT, draft

from dnntrain import build, spec, yamltext
from dnntrain.errors import DataError, Problem, SpecError
from dnntrain.spec import Spec
from dnntrain.sweep import configurations
from dnntrain.sweep.configurations import Repetition, check_space, configuration, repetitions
from dnntrain.sweep.space import Point, Space


def points(axes: dict[str, Any], **rest: Any) -> list[Spec]:
    """Return the configurations of all points."""
    made = draft(axes, **rest)
    return [configuration(made, point) for point in Space(made.spec()).points()]


def wrong(axes: dict[str, Any], *grids: str, **rest: Any) -> tuple[Problem, ...]:
    made = draft(axes, *grids, **{"patience": 3, **rest})
    with pytest.raises(SpecError) as caught:
        check_space(made, Space(made.spec()))
    return caught.value.problems


def told(axes: dict[str, Any], *grids: str, **rest: Any) -> list[str]:
    return [problem.message for problem in wrong(axes, *grids, **rest)]


# What is laid over what.


def test_a_point_is_laid_over_the_settings_and_these_over_the_file() -> None:
    text = yamltext.dump(
        {**EXPERIMENT, "seed": 1, "training": {"epochs": 3}, "sweep": {"space": {"training.epochs": [5]}}}
    )
    made = spec.drafts(text, overrides=["training.epochs=4", "seed=2", "data.limit=9"])
    (point,) = Space(made.spec()).points()
    found = configuration(made, point, Repetition(7))
    assert (found.training.epochs, found.seed, found.data.limit, found.sweep) == (5, 7, 9, None)
    assert configuration(made, point).seed == 2
    assert "sweep" not in spec.dump(found)


def test_parts_are_replaced_and_merged_as_settings_would() -> None:
    one, other = points({"optimizer.lr": [0.5], "optimizer.name": ["sgd", "adamw"]})
    assert [(each.optimizer.name, vars(each.optimizer.options)["lr"]) for each in (one, other)] == [
        ("sgd", 0.5),
        ("adamw", 0.5),
    ]
    whole, named = points({"optimizer": [{"name": "sgd", "momentum": 0.9}, "adamw"], "optimizer.lr": [0.25]})
    assert vars(whole.optimizer.options)["momentum"] == 0.9
    assert {vars(each.optimizer.options)["lr"] for each in (whole, named)} == {0.25}


def test_a_configuration_is_what_its_overrides_say() -> None:
    made = draft(
        {
            "family": {"variants": {"a": {"model": {"activation": "selu"}, "optimizer.name": "sgd"}, "b": {}}},
            "model.dropout": ["none", {"name": "alpha", "rate": 0.2}],
            "optimizer.lr": [0.1, 1e-5],
            "training.clip": [None, {"norm": 1.0}, {"value": 2.0}],
        }
    )
    found = list(Space(made.spec()).points())
    assert len(found) == 24
    for point in found:
        assert configuration(made, point) == spec.loads(
            yamltext.dump(EXPERIMENT), source="f.yaml", overrides=point.overrides()
        )


def test_a_relative_path_starts_at_the_file_that_wrote_it(tmp_path: Path) -> None:
    (tmp_path / "some").mkdir()
    made = spec.drafts(
        yamltext.dump({**EXPERIMENT, "sweep": {"space": {"data.dataset": [{"name": "npz", "path": "here.npz"}]}}}),
        source=str(tmp_path / "some" / "f.yaml"),
        folder=tmp_path / "some",
    )
    (point,) = Space(made.spec()).points()
    assert vars(configuration(made, point).data.dataset.options)["path"] == tmp_path / "some" / "here.npz"


def test_folds_take_the_place_of_the_validation() -> None:
    text = yamltext.dump(
        {"model": EXPERIMENT["model"], "data": {"dataset": "digits", "validation": {"size": 9, "seed": 3}}}
    )
    made = spec.drafts(text + "sweep: {folds: 3, seeds: 2}\nseed: 5\n")
    (point,) = Space(made.spec()).points()
    runs = repetitions(made.spec())
    assert [(each.seed, each.fold) for each in runs] == [(5, 0), (5, 1), (5, 2), (6, 0), (6, 1), (6, 2)]
    found: Any = configuration(made, point, runs[-1], folds=3)
    validation = found.data.validation
    assert (found.seed, validation.size, validation.folds, validation.fold, validation.seed) == (6, None, 3, 2, 3)


def test_without_seeds_or_folds_there_is_one_run() -> None:
    assert repetitions(draft({}).spec()) == [Repetition(0)]
    assert repetitions(draft({}, seeds=3).spec()) == [Repetition(0), Repetition(1), Repetition(2)]
    assert repetitions(spec.loads(yamltext.dump(EXPERIMENT))) == [Repetition(0)]


# What is wrong.


def test_every_mistake_of_every_configuration_is_told_at_once_with_its_values() -> None:
    axes = {
        "optimizer": ["adamw", {"name": "sgd", "lr": -1}],
        "model.activation": ["relu", "sellu"],
        "data.batch_size": [1, 8],
        "model.normalization": ["none", "batch"],
    }
    found = wrong(axes)
    assert [each.message for each in found] == [
        "'lr' must be greater than 0, not -1 (in 8 of 16 configurations, such as "
        "optimizer={name: sgd, lr: -1}, model.activation=relu, data.batch_size=1, model.normalization=none)",
        "unknown activation 'sellu' (in 8 of 16 configurations, such as "
        "optimizer=adamw, model.activation=sellu, data.batch_size=1, model.normalization=none)",
        "batch normalization takes statistics over a batch, so one sample is not enough (in 4 of 16 configurations, "
        "such as optimizer=adamw, model.activation=relu, data.batch_size=1, model.normalization=batch)",
    ]
    places = [each.mark.text[each.mark.column - 1 :][: each.mark.width] for each in found if each.mark is not None]
    assert places == ["-1", "sellu", "1"]
    assert [each.mark.source for each in found if each.mark is not None] == ["f.yaml"] * 3
    assert "did you mean 'selu'?" in found[1].hint


def test_one_configuration_and_all_of_them() -> None:
    assert told({"optimizer.lr": [0.1, 0]}) == ["'lr' must be greater than 0, not 0 (with optimizer.lr=0)"]
    assert told({"model.dropout.rate": [0.1, 0.2]}) == [
        "this dropout lacks its name (with model.dropout.rate=0.1)",
        "this dropout lacks its name (with model.dropout.rate=0.2)",
    ]
    assert told({"optimizer": ["sdg"], "optimizer.lr": [1, 2]}) == ["unknown optimizer 'sdg' (in every configuration)"]
    assert told({"optimizer": ["sdg"]}) == ["unknown optimizer 'sdg'"]


def test_a_mistake_of_a_grid_is_told_where_the_grid_is() -> None:
    (problem,) = wrong({"optimizer.lr": [0.1]}, "optimizer.lr=0.1,-1")
    assert str(problem.mark) == "--grid:1:18"


def test_the_ends_of_ranges_are_tried() -> None:
    assert told({"optimizer.lr": {"uniform": [-1, 1]}}) == [
        "'lr' must be greater than 0, not -1.0 (with optimizer.lr=-1)"
    ]
    assert told({"data.batch_size": {"int": [0, 4]}}) == [
        "'batch_size' must be greater than 0, not 0 (with data.batch_size=0)"
    ]
    made = draft({"optimizer.lr": {"log": [1e-5, 1]}, "model.activation": ["relu", "selu"]}, patience=3)
    assert check_space(made, Space(made.spec())) == 4


def test_a_condition_keeps_an_option_from_a_part_that_has_none() -> None:
    axes = {"optimizer": ["sgd", "adamw"], "optimizer.nesterov": {"choice": [False]}}
    assert told(axes)[0].startswith("unknown key 'nesterov' (with optimizer=adamw")
    made = draft({**axes, "optimizer.nesterov": {"choice": [False], "when": {"optimizer": "sgd"}}})
    assert check_space(made, Space(made.spec())) == 2


def test_what_does_not_fit_the_data_is_told_too(tmp_path: Path) -> None:
    assert told({"loss": ["cross_entropy", "mse"], "data.batch_size": [8, 9]}) == [
        "mse needs numbers, but dataset 'digits' has classes (in 2 of 4 configurations, such as loss=mse, "
        "data.batch_size=8)"
    ]
    assert "there is only one class" in told({"data.classes": [None, [3]]})[0]
    missing = {"name": "npz", "path": str(tmp_path / "none.npz")}
    (problem,) = wrong({"data.dataset": ["digits", missing], "data.batch_size": [8, 9]})
    assert "none.npz" in problem.message
    assert "in 2 of 4 configurations" in problem.message


def test_each_data_set_is_opened_once(monkeypatch: pytest.MonkeyPatch) -> None:
    opened = []

    def counted(experiment: Spec) -> build.Data:
        opened.append(experiment.data.limit)
        if experiment.data.limit == 7:
            raise DataError("gone")
        return real(experiment)

    real = build.open_data
    monkeypatch.setattr(build, "open_data", counted)
    made = draft(
        {
            "optimizer.lr": [0.1, 0.2],
            "data.limit": [50, 60, 7],
            "data.batch_size": [3, 4],
            "seed_": {"variants": {"a": {}}},
        }
    )
    with pytest.raises(SpecError, match="gone"):
        check_space(made, Space(made.spec()))
    assert opened == [50, 60, 7]


def test_a_mistake_of_reading_is_told_with_the_rest() -> None:
    made = spec.drafts(yamltext.dump({**EXPERIMENT, "sweep": {"space": {"optimizer.lr": [0]}}}), overrides=["seed"])
    with pytest.raises(SpecError) as caught:
        configuration(made, Point({}, {}, {}))
    assert [each.message for each in caught.value.problems] == ["cannot set 'seed'"]


def test_past_a_limit_some_are_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(configurations, "MOST_CHECKED", 6)
    made = draft({"data.batch_size": {"int": [1, 50]}, "optimizer.lr": [0.1, 0.2, 0.3, 0.4]}, patience=3)
    assert 1 < check_space(made, Space(made.spec())) <= 6


def test_a_thousand_configurations_are_checked_without_reading_the_text_again(monkeypatch: pytest.MonkeyPatch) -> None:
    made = draft({"optimizer.lr": [i / 1000 for i in range(1, 501)], "model.activation": ["relu", "selu"]})
    space = Space(made.spec())

    def read_again(*_: object) -> None:
        raise AssertionError("a thousand times, which would take a quarter of a minute")

    monkeypatch.setattr("dnntrain.yamltext.reading.events", read_again)
    assert check_space(made, space) == 1000
    with pytest.raises(AssertionError, match="a thousand times"):
        draft({})
