from __future__ import annotations

import json
import math
from pathlib import Path
from statistics import fmean, median
from typing import Any

import pytest
from madeupruns import make_run
from scipy import stats

from dnntrain.compare.comparison import Comparison, Row, as_json, compare_runs
from dnntrain.compare.records import collect
from dnntrain.errors import UsageError
from dnntrain.store import finite

EXERCISE = Path(__file__).parents[2] / "docs" / "runs" / "exercise"


def compared(folder: Path, **options: Any) -> Comparison:
    return compare_runs(collect([str(folder)]), **options)


def row(made: Comparison, label: str) -> Row:
    (found,) = [each for each in made.rows if each.group.label == label]
    return found


@pytest.fixture
def pair(tmp_path: Path) -> Path:
    """A baseline and a better one, three seeds each."""
    for seed, shift in enumerate((0.0, 0.1, 0.2)):
        make_run(tmp_path, "base", seed=seed, losses=[3 + shift, 2 + shift, 1 + shift], minutes=seed)
        make_run(
            tmp_path, "better", seed=seed, losses=[2 + shift, 1 + shift, 0.51 + 1.1 * shift], minutes=10 + seed,
            spec={"optimizer.lr": 1.0}, seconds=3.0,
        )  # fmt: skip
    return tmp_path


def test_quality_is_the_mean_over_seeds_and_the_verdict_scipys(pair: Path) -> None:
    made = compared(pair)
    assert (made.metric, made.better, made.baseline, list(made.keys)) == ("valid/loss", "min", "base", ["optimizer.lr"])
    assert [each.group.label for each in made.rows] == ["better", "base"]
    better = row(made, "better")
    ours, base = [0.51, 0.62, 0.73], [1.0, 1.1, 1.2]
    assert better.quality.value == pytest.approx(fmean(ours))
    low, high = stats.t.interval(0.95, 2, loc=fmean(ours), scale=stats.sem(ours))
    assert (better.quality.low, better.quality.high) == pytest.approx((low, high))
    assert better.difference is not None
    assert better.difference.method == "paired t"
    assert better.difference.p == pytest.approx(stats.ttest_rel(ours, base).pvalue)
    assert better.difference.verdict == "better"
    assert row(made, "base").difference is None


def test_convergence_is_the_way_to_the_baselines_typical_best(pair: Path) -> None:
    made = compared(pair)
    assert made.target.value == pytest.approx(1.1)
    epochs, seconds = row(made, "better").reached
    assert epochs.times == (2.0, 2.0, 3.0)
    assert epochs.reached == (True, True, True)
    assert seconds.times == (6.0, 6.0, 9.0)
    epochs, _ = row(made, "base").reached
    assert epochs.reached == (True, True, False)
    assert epochs.times == (3.0, 3.0, 3.0)
    assert (row(made, "base").best_epoch, row(made, "base").best_seconds) == (3, 6.0)


@pytest.mark.parametrize(
    ("status", "end"), [("completed", 3.0), ("interrupted", 3.0), ("stopped", math.inf), ("failed", math.inf)]
)
def test_who_does_not_arrive_is_censored(status: str, end: float, tmp_path: Path) -> None:
    make_run(tmp_path, "base", losses=[1.0])
    make_run(tmp_path, "slow", losses=[9.0, 9.0, 9.0], spec={"optimizer.lr": 1.0}, status=status, minutes=1)
    epochs, _ = row(compared(tmp_path), "slow").reached
    assert (epochs.times, epochs.reached) == ((end,), (False,))


def test_what_training_costs(pair: Path) -> None:
    cost = row(compared(pair), "better").speed
    assert (cost.samples_per_second, cost.seconds_per_epoch, cost.peak_memory) == (100.0, 3.0, 5_000_000)
    assert cost.prediction_seconds == pytest.approx((3.0 - 100 / 100) / 50)


def test_runs_that_failed_are_counted_and_told(tmp_path: Path) -> None:
    for seed in range(4):
        make_run(tmp_path, "base", seed=seed, losses=[1 + seed / 10], minutes=seed)
        make_run(
            tmp_path, "wild", seed=seed, losses=[0.1 + seed / 10], minutes=9 + seed, spec={"optimizer.lr": 9.0},
            status="failed" if seed < 2 else "completed",
        )  # fmt: skip
    wild = row(compared(tmp_path), "wild")
    assert dict(wild.statuses) == {"failed": 2, "completed": 2}
    assert (wild.quality.count, wild.quality.failed) == (2, 2)
    assert wild.difference is not None
    assert wild.difference.failed == (2, 0)
    assert wild.difference.verdict == "not distinguishable"


def test_one_seed_has_no_verdict(tmp_path: Path) -> None:
    make_run(tmp_path, "a", losses=[1.0])
    make_run(tmp_path, "b", losses=[0.1], spec={"optimizer.lr": 1.0}, minutes=1)
    made = compared(tmp_path)
    found = row(made, "b").difference
    assert found is not None
    assert found.verdict == "one seed: no verdict"
    assert any("one seed each shows nothing of luck" in remark for remark in made.remarks)


def test_another_metric_and_baseline(pair: Path) -> None:
    made = compared(pair, metric="valid/accuracy", baseline="better")
    assert (made.better, made.baseline) == ("max", "better")
    assert row(made, "base").difference.verdict == "worse"  # type: ignore[union-attr]
    assert compared(pair, baseline=row(made, "better").group.runs[1].id).baseline == "better"
    with pytest.raises(UsageError, match=r"no run has the metric 'valid/acuracy': did you mean 'valid/accuracy'"):
        compared(pair, metric="valid/acuracy")
    with pytest.raises(UsageError, match="no group or run 'bse'.*did you mean 'base'"):
        compared(pair, baseline="bse")
    with pytest.raises(UsageError, match="cannot sort by"):
        compared(pair, sort="color")


def test_runs_that_monitored_different_metrics_need_one_named(pair: Path) -> None:
    other = {"training.monitor.metric": "valid/accuracy", "training.monitor.mode": "max"}
    make_run(pair, "accurate", spec=other, minutes=30)
    with pytest.raises(UsageError, match=r"say which one counts with --metric"):
        compared(pair)
    assert compared(pair, metric="valid/accuracy").better == "max"


@pytest.mark.parametrize(
    ("sort", "labels"),
    [("quality", ["better", "base"]), ("age", ["base", "better"]), ("convergence", ["better", "base"])],
)
def test_the_order_of_the_rows(sort: str, labels: list[str], pair: Path) -> None:
    assert [each.group.label for each in compared(pair, sort=sort).rows] == labels


@pytest.mark.parametrize(
    ("spec", "metric", "named"),
    [
        ({"data.dataset.name": "mnist"}, "valid/loss", "data.dataset:"),
        ({"data.validation.size": 10}, "valid/loss", "data.validation.size:"),
        ({"data.validation.size": 10}, "test/loss", None),
        ({"data.validation.size": 10, "data.classes": [1, 2]}, "test/loss", "data.classes:"),
        ({"data.batch_size": 10}, "valid/loss", None),
    ],
)
def test_other_data_is_told(spec: dict[str, Any], metric: str, named: str | None, tmp_path: Path) -> None:
    test = {"test/loss": 1.0}
    make_run(tmp_path, "a", test=test, spec={"data.validation.size": 20, "data.classes": None, "data.batch_size": 1})
    make_run(
        tmp_path, "b", test=test, spec={"data.validation.size": 20, "data.classes": None, "data.batch_size": 1} | spec
    )
    told = [each for each in compared(tmp_path, metric=metric).remarks if "on the same data" in each]
    assert (not told) if named is None else (len(told) == 1 and told[0].startswith(f"the groups differ in {named}"))


@pytest.mark.parametrize("status", ["running", "interrupted", "completed"])
def test_what_was_not_measured_is_no_failure(status: str, tmp_path: Path) -> None:
    for seed in (0, 1):
        make_run(tmp_path, "a", seed=seed, test={"test/loss": 1.0 + seed}, minutes=seed)
    without = make_run(tmp_path, "a", seed=2, status=status, minutes=2)
    with without.lock():
        made = compared(tmp_path, metric="test/loss")
    assert [(row.group.seeds, row.quality.failed) for row in made.rows] == [([0, 1], 0)]
    assert f"left out: {without.name} is {status} and has no test/loss" in made.remarks


def test_a_run_before_its_first_epoch_is_no_failure(tmp_path: Path) -> None:
    make_run(tmp_path, "a")
    make_run(tmp_path, "b", losses=[], status="running")
    assert [row.group.label for row in compared(tmp_path).rows] == ["a"]
    with pytest.raises(UsageError, match="none of these runs has valid/loss yet"):
        compared(make_run(tmp_path / "alone", losses=[], status="running").path)


@pytest.mark.parametrize(("status", "losses"), [("failed", []), ("failed", [1.0]), ("completed", [None, None])])
def test_failure_and_divergence_count_as_the_worst(status: str, losses: list[float | None], tmp_path: Path) -> None:
    make_run(tmp_path, "a")
    make_run(tmp_path, "b", losses=losses, status=status, spec={"optimizer.lr": 9.0}, minutes=1)
    assert [(row.group.label, row.quality.failed) for row in compared(tmp_path).rows] == [("a", 0), ("b", 1)]


def test_it_is_told_to_programs(pair: Path) -> None:
    told = json.loads(json.dumps(finite(as_json(compared(pair)))))
    assert (told["schema"], told["metric"], told["baseline"]) == (1, "valid/loss", "base")
    better, base = told["groups"]
    assert better["configuration"] == {"optimizer.lr": 1.0}
    assert better["values"] == {"0": 0.51, "1": pytest.approx(0.62), "2": pytest.approx(0.73)}
    assert better["quality"]["difference"]["verdict"] == "better"
    assert base["quality"]["difference"] is None
    assert better["convergence"]["epochs"]["times"] == [2.0, 2.0, 3.0]
    assert set(better["speed"]) == {"samples_per_second", "seconds_per_epoch", "prediction_seconds", "peak_memory"}


def test_the_exercise_against_scipy() -> None:
    made = compared(EXERCISE, metric="test/accuracy", baseline="cifar_swish")
    assert {each.group.label: each.group.seeds for each in made.rows} == {
        f"cifar_{name}": [42, 43, 44] for name in ("swish", "batchnorm", "selu", "alpha_dropout", "one_cycle")
    }
    figures = {}
    for path in EXERCISE.iterdir():
        summary = json.loads((path / "summary.json").read_text())
        figures.setdefault(summary["name"], {})[summary["seed"]] = summary["test"]["test/accuracy"]
    base = [figures["cifar_swish"][seed] for seed in (42, 43, 44)]
    p_values = {}
    for name, by_seed in figures.items():
        ours = [by_seed[seed] for seed in (42, 43, 44)]
        found = row(made, name)
        assert found.quality.value == pytest.approx(fmean(ours))
        low, high = stats.t.interval(0.95, 2, loc=fmean(ours), scale=stats.sem(ours))
        assert (found.quality.low, found.quality.high) == pytest.approx((low, high))
        if name != "cifar_swish":
            p_values[name] = stats.ttest_rel(ours, base).pvalue
            assert found.difference is not None
            assert found.difference.p == pytest.approx(p_values[name])
    # Holm by hand: the smallest times 4, the next times 3, ..., never below the one before.
    adjusted, floor = {}, 0.0
    for place, (name, p) in enumerate(sorted(p_values.items(), key=lambda each: each[1])):
        floor = adjusted[name] = max(floor, min(1.0, p * (4 - place)))
    for name, p in adjusted.items():
        assert row(made, name).difference.adjusted_p == pytest.approx(p)  # type: ignore[union-attr]
    assert made.target.metric == "valid/loss", "test figures have no course over the epochs"
    rows = {
        path.name: list(map(json.loads, (path / "metrics.jsonl").read_text().splitlines()))
        for path in EXERCISE.iterdir()
    }
    goal = median(min(r["valid/loss"] for r in rows[run.id]) for run in row(made, "cifar_swish").group.runs)
    assert made.target.value == pytest.approx(goal)
    selu = row(made, "cifar_selu")
    assert selu.reached[0].times == tuple(
        next(r["epoch"] for r in rows[run.id] if r["valid/loss"] <= goal) for run in selu.group.runs
    )
