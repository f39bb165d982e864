from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import pytest

from dnntrain import build, run, spec, yamltext
from dnntrain.errors import DataError, UsageError
from dnntrain.registry import plain
from dnntrain.spec import Spec
from dnntrain.store import SweepDirectory
from dnntrain.sweep.between import Between, differing, draft_between, open_experiment
from dnntrain.sweep.bisection import explain
from dnntrain.sweep.conductor import Conductor, Event
from dnntrain.sweep.configurations import configuration
from dnntrain.sweep.engines.inline import Inline
from dnntrain.sweep.plan import Plan

CONFIGS = Path(__file__).parent.parent.parent / "configs"
TINY: dict[str, Any] = {
    "name": "tiny",
    "seed": 3,
    "data": {"dataset": "digits", "limit": 64, "batch_size": 16},
    "model": {"architecture": {"name": "mlp", "hidden": [8]}, "activation": "relu"},
    "optimizer": {"name": "sgd", "lr": 0.1},
    "schedule": "constant",
    "training": {"epochs": 1, "device": "cpu"},
}


class Quiet:
    def on_event(self, event: Event, /) -> None: ...

    def on_tick(self, conductor: Conductor, /) -> None: ...


def tiny(*overrides: str) -> Spec:
    made = spec.loads(yamltext.dump(TINY), overrides=overrides)
    return build.resolve(made, build.open_data(made))


def between(one: Spec, other: Spec, runs: Path, **rest: Any) -> Between:
    return Between(Plan(draft_between(one, other, **rest)), runs=runs, engine=Inline(), observer=Quiet())


def beside(one: Spec) -> dict[str, Any]:
    """Return what figures follow from, the seed aside."""
    content = plain(one)
    for key in ("name", "seed"):
        del content[key]
    for key in ("device", "threads", "checkpoint"):
        del content["training"][key]
    return dict(content)


def test_a_part_moves_with_its_options_and_an_option_of_the_same_part_alone() -> None:
    one = tiny("model.activation={name: elu, alpha: 1.0}", "training.clip={norm: 1.0}")
    other = tiny(
        "optimizer.momentum=0.9", "optimizer.lr=0.2", "schedule={name: cosine}", "seed=9", "name=other",
        "model.activation={name: elu, alpha: 2.0}", "training.clip={value: 0.5}", "training.device=auto",
        "data.validation={size: 20, from: first}",
    )  # fmt: skip
    assert list(differing(one, other)) == [
        "data.validation",
        "model.activation.alpha",
        "optimizer.lr",
        "optimizer.momentum",
        "schedule",
        "training.clip",
    ]
    assert differing(one, other)["training.clip"] == ({"norm": 1.0}, {"value": 0.5})
    adam = differing(one, tiny("optimizer={name: adamw, lr: 0.2}", "model.activation={name: elu, alpha: 1.0}"))
    assert {key: pair[1]["name"] for key, pair in adam.items() if key == "optimizer"} == {"optimizer": "adamw"}
    assert "optimizer.lr" not in adam
    assert differing(one, one) == {}


def resolved_configs() -> list[Spec]:
    found = []
    for path in sorted(CONFIGS.glob("digits_*.yaml")):
        made = spec.load(path)
        found.append(build.resolve(made, build.open_data(made)))
    return found


def test_moving_every_key_makes_a_into_b() -> None:
    """For each pair of the experiments on digits that are shipped, in both directions."""
    checked = 0
    for one, other in itertools.permutations(resolved_configs(), 2):
        try:
            draft = draft_between(one, other, metric="train/loss")
        except (UsageError, DataError):
            continue
        space = Plan(draft).space
        ends = [space.labelled({axis.name: axis.listed[end].label for axis in space.axes}) for end in (0, 1)]
        for point, wanted in zip(ends, (one, other), strict=True):
            assert point is not None
            assert beside(configuration(draft, point)) == beside(wanted)
        checked += 1
    assert checked > 100


def test_what_cannot_be_bisected_is_told() -> None:
    with pytest.raises(UsageError, match="the two are the same experiment"):
        draft_between(tiny(), tiny("seed=4", "name=other"))
    with pytest.raises(UsageError, match="A monitors valid/loss and B valid/accuracy: say which one counts"):
        draft_between(tiny(), tiny("training.monitor=valid/accuracy"))
    with pytest.raises(UsageError, match="does not measure 'valid/top'"):
        draft_between(tiny(), tiny("optimizer.lr=0.2"), metric="valid/top")
    with pytest.raises(UsageError, match=r"there is no file nowhere.yaml"):
        open_experiment("nowhere.yaml", runs=Path("runs"))
    with pytest.raises(UsageError, match="no run 'nowhere'"):
        open_experiment("nowhere", runs=Path("runs"))


@pytest.mark.parametrize(("seeds", "first", "second", "wanted"), [(3, 3, 5, [3, 4, 5]), (3, 5, 3, [3, 4, 5]),
                                                                  (3, 5, 9, [5, 6, 7]), (1, 5, 3, [5])])  # fmt: skip
def test_seeds_are_such_that_both_runs_are_among_them(seeds: int, first: int, second: int, wanted: list[int]) -> None:
    plan = Plan(draft_between(tiny(f"seed={first}"), tiny(f"seed={second}", "optimizer.lr=0.2"), seeds=seeds))
    assert [each.seed for each in plan.stretches(0, 0)] == wanted


def test_what_cannot_be_between_is_refused(tmp_path: Path) -> None:
    one, other = tiny("data.batch_size=1"), tiny("model.normalization=batch", "data.batch_size=16")
    made = between(one, other, tmp_path)
    assert made.keys == ("data.batch_size", "model.normalization")
    assert made.refusal(frozenset(["data.batch_size"])) == ""
    assert "one sample is not enough" in made.refusal(frozenset(["model.normalization"]))
    assert list(tmp_path.iterdir()) == [], "nothing is made before something is trained"


@pytest.mark.process
def test_a_bisection_is_one_sweep_and_finds_runs_that_are_there(tmp_path: Path) -> None:
    """An untrained rate of nearly 0 explains the gap, and an accumulation of gradients hardly anything."""
    runs = tmp_path / "runs"
    changed = ("optimizer.lr=1.0e-6", "data.sampling=balanced", "training.clip={norm: 100.0}")
    first = run.train(tiny(), runs=runs)
    other = run.train(tiny(*changed, "seed=4"), runs=runs)
    one, two = (open_experiment(str(record.path), runs=runs) for record in (first, other))
    made = between(one, two, runs)
    assert [made.cost(moved) for moved in (frozenset[str](), frozenset(made.keys))] == [2, 2]
    found = explain(made, made.keys, better=made.plan.better)
    assert [share.keys for share in found.found] == [("optimizer.lr",)]
    assert found.found[0].difference.verdict == "worse"
    assert found.trained == found.configurations * 3 - 2
    sweep = SweepDirectory.find(made.directory.path)
    rows = sweep.read_runs()
    assert len(rows) == found.configurations * 3
    assert sum(row["reused"] for row in rows) == 2
    assert (sweep.path / sweep.BEST).is_file()

    again = between(one, two, runs)
    assert explain(again, again.keys, better="min").trained == 0
    assert not list(again.directory.runs.iterdir())


def test_a_run_that_diverges_has_no_figure(tmp_path: Path) -> None:
    made = between(tiny(), tiny("optimizer.lr=1.0e+18", "data.batch_size=32"), tmp_path, seeds=2)
    found = explain(made, made.keys, better=made.plan.better)
    assert [share.keys for share in found.found] == [("optimizer.lr",)]
    assert found.found[0].all_fail
