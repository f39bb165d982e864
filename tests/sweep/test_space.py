from __future__ import annotations

import itertools
import math
from collections import Counter
from typing import Any

import numpy as np
import optuna
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from scipy.stats import qmc
from tinysweeps import draft, space

from dnntrain import spec
from dnntrain.errors import SpecError, UsageError
from dnntrain.sweep.space import LARGEST_GRID, Point, Space

optuna.logging.set_verbosity(optuna.logging.WARNING)

LRS = [0.1, 0.01, 0.001]
DROPOUTS = ["none", "alpha", {"name": "dropout", "rate": 0.5}]
RATE = {"model.dropout.rate": {"choice": [0.1, 0.2], "unless": {"model.dropout": "none"}}}
FAMILY = {
    "family": {
        "variants": {
            "selu": {"model": {"activation": "selu", "initializer": "lecun_normal"}, "optimizer.name": "sgd"},
            "deep": {"model.architecture.hidden": {"layers": 9, "units": 4}},
            "plain": {},
        }
    }
}


def labels(found: Space) -> list[tuple[Any, ...]]:
    return [tuple(point.labels.values()) for point in found.points()]


# The grid.


def test_the_last_axis_changes_fastest() -> None:
    found = space({"optimizer.lr": LRS, "training.epochs": [1, 2], "model.activation": ["relu", "selu"]})
    product = itertools.product(LRS, [1, 2], ["relu", "selu"])
    assert [tuple(point.settings.values()) for point in found.points()] == list(product)
    assert (found.size, found.combinations) == (12, 12)


def test_whole_numbers_are_counted_from_end_to_end() -> None:
    assert labels(space({"training.epochs": {"int": [1, 4]}})) == [(1,), (2,), (3,), (4,)]
    assert labels(space({"training.epochs": {"int": [10, 35], "step": 10}})) == [(10,), (20,), (30,)]
    assert labels(space({"training.epochs": {"int": [1, 2], "step": 5}})) == [(1,)]


def test_nothing_to_vary_is_one_point() -> None:
    (point,) = space({}).points()
    assert (point.settings, point.labels, point.overrides()) == ({}, {}, [])
    assert point.describe() == "the experiment as it is"
    assert space({}).sample("qmc", 0, 5) == point
    assert Space(spec.loads("data: {dataset: digits}\nmodel: {architecture: {name: mlp, hidden: [3]}}")).size == 1


def test_variants_set_their_keys_together_and_lists_hold_whole_sections() -> None:
    found = space({**FAMILY, "training": [{"epochs": 1, "checkpoint": {"keep": 2}}, {"epochs": 2}]})
    points = [point.settings for point in found.points()]
    assert points[0] == {
        "optimizer.name": "sgd",
        "training.epochs": 1,
        "model.activation": "selu",
        "model.initializer": "lecun_normal",
        "training.checkpoint.keep": 2,
    }
    assert points[5] == {"training.epochs": 2}
    assert points[3]["model.architecture.hidden"] == {"layers": 9, "units": 4}
    assert [point.labels["family"] for point in found.points()] == ["selu", "selu", "deep", "deep", "plain", "plain"]


def test_an_axis_that_is_not_there_counts_once() -> None:
    found = space({"model.dropout": DROPOUTS, **RATE, "optimizer.lr": [1, 2]})
    assert [dict(point.labels) for point in found.points()][:3] == [
        {"model.dropout": "none", "optimizer.lr": "1"},
        {"model.dropout": "none", "optimizer.lr": "2"},
        {"model.dropout": "alpha", "model.dropout.rate": "0.1", "optimizer.lr": "1"},
    ]
    assert (found.size, found.combinations) == (10, 12)


@pytest.mark.parametrize(
    ("above", "condition", "there"),
    [
        ({}, {"when": {"optimizer": "adamw"}}, [True]),
        ({}, {"when": {"optimizer.lr": 0.001, "model.dropout": "none"}}, [True]),
        ({}, {"when": {"optimizer.lr": 0.001, "model.dropout": "alpha"}}, [False]),
        ({}, {"unless": {"optimizer.lr": 0.001, "model.dropout": "alpha"}}, [True]),
        ({}, {"when": {"optimizer.momentum": 0.9}}, [False]),
        ({"optimizer": ["sgd", "adamw"]}, {"when": {"optimizer": "sgd"}}, [True, False]),
        ({"optimizer": ["sgd", "adamw"]}, {"when": {"optimizer.name": "sgd"}}, [True, False]),
        ({"optimizer.name": ["sgd", "adamw"]}, {"when": {"optimizer": ["sgd", "adam"]}}, [True, False]),
        ({"optimizer": [{"name": "sgd", "lr": 0.1}, "sgd"]}, {"when": {"optimizer.lr": 0.1}}, [True, False]),
        (FAMILY, {"when": {"family": ["deep", "plain"]}}, [False, True, True]),
        (FAMILY, {"unless": {"family": "deep"}, "when": {"family": ["deep", "plain"]}}, [False, False, True]),
        (FAMILY, {"when": {"model.activation": "selu"}}, [True, False, False]),
        (FAMILY, {"when": {"optimizer": "sgd"}}, [True, False, False]),
        ({"model.dropout": ["none", "alpha"]}, {"unless": {"model.dropout": "none"}}, [False, True]),
    ],
)
def test_conditions_see_the_file_and_the_axes_above(
    above: dict[str, Any], condition: dict[str, Any], there: list[bool]
) -> None:
    found = space({**above, "data.batch_size": {"choice": [7], **condition}})
    assert ["data.batch_size" in point.settings for point in found.points()] == there


def test_a_condition_on_an_axis_that_is_not_there_sees_the_file() -> None:
    chain = {"optimizer.momentum": {"choice": [0.5], "when": {"optimizer": "sgd"}}}
    found = space(
        {
            "optimizer": ["sgd", "adamw"],
            **chain,
            "data.batch_size": {"choice": [7], "when": {"optimizer.momentum": 0.5}},
        }
    )
    assert [len(point.settings) for point in found.points()] == [3, 1]


def test_exclusions() -> None:
    axes = {"model.dropout": DROPOUTS, **RATE, "optimizer.lr": LRS}
    everything = labels(space(axes))
    found = space(
        axes, exclude=[{"model.dropout": ["alpha", "dropout"], "optimizer.lr": 0.1}, {"model.dropout.rate": 0.2}]
    )
    assert labels(found) == [
        each
        for each in everything
        if not (each[0] != "none" and each[-1] == "0.1") and not (len(each) == 3 and each[1] == "0.2")
    ]
    with pytest.raises(SpecError, match="all configurations of the sweep are excluded"):
        _ = space({"optimizer.lr": LRS}, exclude=[{"optimizer.lr": LRS}]).size


AXES = st.fixed_dictionaries(
    {},
    optional={
        "optimizer.lr": st.lists(st.sampled_from([0.1, 0.2, 0.3]), min_size=1, unique=True),
        "model.dropout": st.sampled_from([["none"], ["alpha", "none"], ["none", "dropout", "alpha"]]),
        "model.dropout.rate": st.just(RATE["model.dropout.rate"]),
        "training.epochs": st.just({"int": [1, 5], "step": 2}),
        "family": st.just(FAMILY["family"]),
    },
)
EXCLUDE = st.lists(st.sampled_from([{"training.epochs": 3}, {"model.activation": "selu"}]), max_size=2)


@settings(deadline=None, max_examples=40)
@given(AXES, EXCLUDE)
def test_no_point_comes_twice_and_each_has_its_labels(axes: dict[str, Any], exclude: list[Any]) -> None:
    order = ("optimizer.lr", "family", "model.dropout", "training.epochs", "model.dropout.rate")
    found = space({name: axes[name] for name in order if name in axes}, exclude=exclude)
    points = list(found.points())
    assert len({tuple(point.labels.items()) for point in points}) == len(points) == found.size
    assert len({str(sorted(point.overrides())) for point in points}) == len(points)
    assert found.size is not None
    assert found.size <= found.combinations
    for point in points:
        assert found.labelled(point.labels) == point
        assert list(point.labels) == [axis.name for axis in found.axes if axis.name in point.labels]
        assert not (
            "training.epochs" in axes and point.settings["training.epochs"] == 3 and {"training.epochs": 3} in exclude
        )
    shuffled = [found.sample("random", 3, number) for number in range(len(points))]
    assert sorted(each.describe() for each in shuffled) == sorted(each.describe() for each in points)
    assert [found.sample("grid", 3, number) for number in range(len(points))] == points


def test_what_cannot_be_gone_through() -> None:
    for found in (space({"optimizer.lr": {"log": [0.1, 1]}}), space({"optimizer.lr": {"uniform": [0.1, 1]}})):
        assert (found.size, found.finite) == (None, False)
        with pytest.raises(UsageError, match=r"optimizer.lr is a range"):
            found.points()
    huge = space({"data.batch_size": {"int": [1, 10_000]}, "training.epochs": {"int": [1, 10_000]}})
    with pytest.raises(UsageError, match="100,000,000 combinations"):
        huge.points()
    # What goes through none of them is there at once.
    assert huge.sample("random", 0, 10**9) != huge.sample("random", 0, 10**9 + 1)
    assert len(list(huge.corners(4))) == 4


def test_a_trial_past_the_grid_is_refused() -> None:
    found = space({"optimizer.lr": LRS})
    for search in ("grid", "random"):
        with pytest.raises(UsageError, match="3 configurations, so there is no number 4"):
            found.sample(search, 0, 3)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="tpe looks at the results"):
        found.sample("tpe", 0, 0)


# What a point says.


def test_a_parts_name_comes_before_its_options() -> None:
    (point,) = space({"optimizer.lr": [0.5], "model.architecture.hidden": [[3, 4]], "optimizer.name": ["sgd"]}).points()
    assert point.overrides() == ["optimizer.name=sgd", "optimizer.lr=0.5", "model.architecture.hidden=[3, 4]"]
    assert list(point.settings) == list(point.nodes)
    text = "data: {dataset: digits}\nmodel: {architecture: {name: mlp, hidden: [3]}}"
    made = spec.loads(text, overrides=point.overrides())
    assert (made.optimizer.name, getattr(made.optimizer.options, "lr", None)) == ("sgd", 0.5)


def test_labels_are_told_apart_and_described_shortly() -> None:
    found = space({"optimizer.nesterov": [True, 1, "true", None, "null"], "optimizer.lr": {"uniform": [0, 1]}})
    assert [value.label for value in found.axes[0].listed] == ["true", "1", '"true"', "null", '"null"']
    point = found.at([0.0, 1 / 3])
    assert point is not None
    assert point.labels["optimizer.lr"] == 1 / 3
    assert point.describe() == "optimizer.nesterov=true, optimizer.lr=0.3333"
    (long,) = space({"model.architecture.hidden": [list(range(1, 99))]}).points()
    assert len(long.describe()) < 80


def test_the_labels_of_a_point_must_be_those_of_the_space() -> None:
    found = space({"optimizer.lr": LRS, "training.epochs": {"int": [1, 3]}})
    assert found.labelled({"optimizer.lr": "0.1", "training.epochs": 2, "other": 1}) is not None
    for wrong, message in [
        ({"optimizer.lr": "0.5", "training.epochs": 2}, "'0.5' is not among the values of optimizer.lr"),
        ({"optimizer.lr": "0.1", "training.epochs": 4}, "'4' is not among the values of training.epochs"),
        ({"optimizer.lr": "0.1", "training.epochs": "2"}, "'2' is not among"),
        ({"optimizer.lr": "0.1"}, "does not say what training.epochs is"),
    ]:
        with pytest.raises(UsageError, match=message):
            found.labelled(wrong)  # type: ignore[arg-type]


# Samples.


MIXED = {
    "optimizer.lr": {"log": [1e-5, 1e-1]},
    "model.activation": ["relu", "selu", "tanh"],
    "model.dropout": ["none", "alpha"],
    "model.dropout.rate": {"uniform": [0.25, 0.75], "unless": {"model.dropout": "none"}},
    "training.epochs": {"int": [2, 8], "step": 3},
}


@pytest.mark.parametrize("search", ["random", "qmc"])
@settings(deadline=None, max_examples=20)
@given(seed=st.integers(0, 2**40), numbers=st.lists(st.integers(0, 5000), min_size=1, max_size=4))
def test_a_sample_depends_on_nothing_but_seed_and_number(search: Any, seed: int, numbers: list[int]) -> None:
    once = [space(MIXED).sample(search, seed, number) for number in numbers]
    found = space(MIXED)
    np.random.seed(1)
    again = {number: found.sample(search, seed, number) for number in reversed(numbers)}
    assert once == [again[number] for number in numbers]
    assert found.sample(search, seed + 1, numbers[0]) != once[0]


def drawn(search: Any, count: int, axes: dict[str, Any] = MIXED, **rest: Any) -> list[Point]:
    found = space(axes, **rest)
    return [found.sample(search, 7, number) for number in range(count)]


@pytest.mark.parametrize("search", ["random", "qmc"])
def test_samples_are_distributed_as_the_axes_say(search: str) -> None:
    points = drawn(search, 512)
    lr = [math.log(point.settings["optimizer.lr"]) for point in points]
    assert stats.kstest(lr, stats.uniform(math.log(1e-5), math.log(1e4)).cdf).pvalue > 0.01
    rates = [point.settings["model.dropout.rate"] for point in points if "model.dropout.rate" in point.settings]
    assert stats.kstest(rates, stats.uniform(0.25, 0.5).cdf).pvalue > 0.01
    assert len(rates) == sum(point.labels["model.dropout"] == "alpha" for point in points)
    for name, kinds in (("training.epochs", {2, 5, 8}), ("model.activation", {"relu", "selu", "tanh"})):
        counts = Counter(point.settings[name] for point in points)
        assert set(counts) == kinds
        assert stats.chisquare(list(counts.values())).pvalue > 0.01
    assert {type(point.settings["training.epochs"]) for point in points} == {int}


def test_ends_are_reached_and_not_passed() -> None:
    found = space(MIXED)
    low, high = found.at([0.0] * 5), found.at([1.0] * 5)
    assert low is not None
    assert high is not None
    assert dict(low.settings) == {
        "optimizer.lr": 1e-5,
        "model.activation": "relu",
        "model.dropout": "none",
        "training.epochs": 2,
    }
    assert dict(high.settings) == {
        "optimizer.lr": 0.1,
        "model.activation": "tanh",
        "model.dropout": "alpha",
        "training.epochs": 8,
        "model.dropout.rate": 0.75,
    }
    with pytest.raises(ValueError, match="zip"):
        found.at([0.5])


def test_qmc_is_the_scrambled_sobol_sequence() -> None:
    axes = {"optimizer.lr": {"uniform": [0, 1]}, "optimizer.eps": {"uniform": [2, 4]}}
    points = drawn("qmc", 16, axes)
    expected = qmc.Sobol(2, scramble=True, seed=np.random.default_rng(7)).random_base2(4) * [1, 2] + [0, 2]
    assert [tuple(point.settings.values()) for point in points] == [tuple(each) for each in expected.tolist()]


def test_random_draws_from_a_generator_of_the_trials_own() -> None:
    axes = {"optimizer.lr": {"uniform": [0, 1]}, "optimizer.eps": {"uniform": [0, 1]}}
    expected = [np.random.default_rng([7, number]).random(2).tolist() for number in range(5)]
    assert [list(point.settings.values()) for point in drawn("random", 5, axes)] == expected


@pytest.mark.parametrize("search", ["random", "qmc"])
def test_an_excluded_point_is_drawn_again(search: str) -> None:
    exclude = [{"model.activation": ["relu", "tanh"], "model.dropout": "alpha"}]
    points = drawn(search, 128, exclude=exclude)
    counts = Counter((point.labels["model.activation"], point.labels["model.dropout"]) for point in points)
    assert set(counts) == {("relu", "none"), ("selu", "none"), ("tanh", "none"), ("selu", "alpha")}
    assert stats.chisquare(list(counts.values())).pvalue > 0.001
    everywhere = [{"model.activation": ["relu", "selu", "tanh"]}]
    with pytest.raises(SpecError, match="all configurations of the sweep are excluded"):
        space(MIXED, exclude=everywhere).sample(search, 0, 0)  # type: ignore[arg-type]


def test_random_differs_from_grid_and_between_seeds() -> None:
    found = space({"training.epochs": {"int": [1, 50]}})
    orders = [tuple(found.sample("random", seed, n).labels["training.epochs"] for n in range(50)) for seed in range(3)]
    assert len({*orders, tuple(range(1, 51))}) == 4


# Optuna.


@pytest.mark.parametrize("sampler", ["tpe", "gp", "random"])
def test_suggestions_reach_every_choice_and_keep_the_conditions(sampler: str) -> None:
    family = {"variants": {"deep": {"data.limit": 9}, "wide": {"data.limit": 8}, "plain": {}}}
    found = space({**MIXED, "family": family}, exclude=[{"family": ["deep", "wide"], "model.dropout": "alpha"}])
    samplers = {
        "tpe": optuna.samplers.TPESampler(seed=1, n_startup_trials=15),
        "gp": optuna.samplers.GPSampler(seed=1, n_startup_trials=15, warn_independent_sampling=False),
        "random": optuna.samplers.RandomSampler(seed=1),
    }
    study = optuna.create_study(sampler=samplers[sampler])
    points = []
    pruned = 0
    for _ in range(30):
        trial = study.ask()
        try:
            point = found.suggest(trial)
        except optuna.TrialPruned:
            study.tell(trial, state=optuna.trial.TrialState.PRUNED)
            pruned += 1
            continue
        points.append(point)
        assert found.labelled(trial.params) == point
        assert trial.params == dict(point.labels)
        assert ("model.dropout.rate" in point.settings) == (point.labels["model.dropout"] == "alpha")
        assert (point.labels["family"], point.labels["model.dropout"]) not in (("deep", "alpha"), ("wide", "alpha"))
        assert 1e-5 <= point.settings["optimizer.lr"] <= 0.1
        assert point.settings["training.epochs"] in (2, 5, 8)
        study.tell(trial, float(len(points)))
    assert pruned
    for axis in ("model.dropout", "model.activation", "family"):
        assert len({point.labels[axis] for point in points}) == (2 if axis == "model.dropout" else 3), axis
    assert {name: d for name, d in study.trials[0].distributions.items() if name in trial.params}.items() <= (
        found.distributions().items()
    )


def test_a_point_can_be_enqueued() -> None:
    found = space(
        {
            "optimizer": ["sgd", {"name": "adamw", "eps": 1e-6}],
            "optimizer.lr": LRS,
            "data.batch_size": {"int": [1, 8], "step": 3},
        }
    )
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=1))
    points = list(found.points())
    for point in points:
        study.enqueue_trial(dict(point.labels))
    assert [found.suggest(study.ask()) for _ in points] == points


def test_distributions_are_what_suggesting_uses() -> None:
    found = space(MIXED)
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=1))
    seen: dict[str, Any] = {}
    for _ in range(10):
        trial = study.ask()
        found.suggest(trial)
        seen |= trial.distributions
    assert seen == found.distributions()
    assert study.ask(found.distributions()).params.keys() == seen.keys()


# The corners.


def test_corners_hold_both_ends_of_each_range() -> None:
    found = space(
        {"optimizer.lr": {"log": [0.1, 1]}, "model.activation": ["relu", "selu"], "training.epochs": {"int": [1, 9]}}
    )
    product = itertools.product([0.1, 1.0], ["relu", "selu"], [1, 9])
    assert [tuple(point.settings.values()) for point in found.corners(8)] == list(product)


def test_a_range_whose_step_leads_nowhere_has_one_corner() -> None:
    assert [dict(point.labels) for point in space({"training.epochs": {"int": [1, 2], "step": 5}}).corners(9)] == [
        {"training.epochs": 1}
    ]


def test_many_corners_are_drawn_always_the_same() -> None:
    found = space(
        {"optimizer.lr": {"log": [0.1, 1]}, "training.epochs": {"int": [1, 9]}, "model.activation": ["relu", "selu"]}
    )
    some = list(found.corners(4))
    assert 1 < len(some) <= 4
    assert some == list(found.corners(4))
    assert {point.describe() for point in some} < {point.describe() for point in found.corners(8)}
    excluded = space(
        {"optimizer.lr": {"log": [0.1, 1]}, "model.activation": ["relu"]}, exclude=[{"model.activation": "relu"}]
    )
    for most in (1, 2):
        with pytest.raises(SpecError, match="are excluded"):
            excluded.corners(most)


def test_a_grid_on_the_command_line_is_an_axis() -> None:
    found = Space(draft({"optimizer.lr": LRS}, "optimizer.lr=1,2", "model.activation=relu").spec())
    assert labels(found) == [("1", "relu"), ("2", "relu")]
    assert found.axes[0].listed[1].nodes["optimizer.lr"].mark.source == "--grid"
    assert LARGEST_GRID >= 10_000
