from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from madeupruns import make_run

from dnntrain.compare.comparison import Speed, compare_runs
from dnntrain.compare.payload import describe_speed, payload
from dnntrain.compare.records import collect
from dnntrain.compare.report import as_text
from dnntrain.compare.wording import describe
from dnntrain.store import RunDirectory

EXERCISE = Path(__file__).parents[2] / "docs" / "runs" / "exercise"


def of(folder: Path, **options: Any) -> dict[str, Any]:
    return payload(compare_runs(collect([str(folder)]), **options))


@pytest.fixture(scope="module")
def exercise() -> dict[str, Any]:
    return of(EXERCISE, metric="test/accuracy")


def test_groups_and_runs_point_at_each_other(exercise: dict[str, Any]) -> None:
    assert len(exercise["groups"]) == 5 and len(exercise["runs"]) == 15
    for place, group in enumerate(exercise["groups"]):
        assert [exercise["runs"][index]["group"] for index in group["runs"]] == [place] * 3
        assert group["id"] == min(exercise["runs"][index]["id"] for index in group["runs"])
    assert sorted(group["age"] for group in exercise["groups"]) == list(range(5))
    assert next(g for g in exercise["groups"] if g["age"] == 0)["label"] == "cifar_swish"


def test_the_page_is_told_which_way_is_up(tmp_path: Path) -> None:
    monitor = {"training.monitor.metric": "valid/loss", "training.monitor.mode": "max"}
    make_run(tmp_path, spec=monitor)
    assert of(tmp_path)["directions"] == {"valid/loss": "max", "valid/accuracy": "max"}, "as the runs monitored it"
    make_run(tmp_path / "usual")
    assert of(tmp_path / "usual")["directions"] == {"valid/loss": "min", "valid/accuracy": "max"}


def test_verdicts_are_those_of_the_terminal(exercise: dict[str, Any]) -> None:
    made = compare_runs(collect([str(EXERCISE)]), metric="test/accuracy")
    for row, group in zip(made.rows, exercise["groups"], strict=True):
        told = describe(row.difference, scale=100, unit="points") if row.difference else "baseline"
        assert group["quality"]["text"] == told


def test_curves_are_the_rows_of_the_runs(exercise: dict[str, Any]) -> None:
    run = exercise["runs"][0]
    rows = RunDirectory(EXERCISE / run["id"]).metrics()
    assert run["epochs"] == [row["epoch"] for row in rows]
    assert run["curves"]["valid/loss"] == pytest.approx([row["valid/loss"] for row in rows], rel=1e-6)
    assert {"grad_norm", "lr", "seconds"} <= run["curves"].keys()
    assert not {"epoch", "step"} & run["curves"].keys()


def test_settings_tell_the_groups_apart(exercise: dict[str, Any]) -> None:
    place = exercise["keys"].index("model.activation.name")
    assert {group["label"]: group["settings"][place] for group in exercise["groups"]}["cifar_selu"] == "selu"
    assert "model.dropout.0.rate" not in exercise["keys"]  # the dropout's name says enough
    assert "model.dropout.0.rate" in exercise["specs"]["keys"]
    assert exercise["environments"]["common"]["packages.torch"]
    assert not any(key.startswith("command") for key in exercise["environments"]["common"])


def test_numbers_that_are_not_finite_become_null(tmp_path: Path) -> None:
    directory = make_run(tmp_path, losses=[1.0, 0.5])
    with (directory.path / "metrics.jsonl").open("a") as file:
        file.write('{"epoch": 3, "valid/loss": NaN, "x": Infinity, "word": "text", "flag": true, "big": 1e400}\n')
    run = of(tmp_path)["runs"][0]
    assert run["curves"]["valid/loss"] == [1.0, 0.5, None]
    assert run["curves"]["x"] == [None, None, None]
    assert not {"word", "flag"} & run["curves"].keys()
    json.loads(as_text(of(tmp_path)), parse_constant=pytest.fail)


def test_a_convergence_never_reached_is_null(tmp_path: Path) -> None:
    make_run(tmp_path, "good", losses=[1.0])
    make_run(tmp_path, "bad", losses=[2.0], status="stopped", spec={"optimizer.lr": 1.0}, minutes=1)
    bad = next(group for group in of(tmp_path)["groups"] if group["label"] == "bad")
    assert bad["convergence"]["epochs"] is None
    assert "not reached" in bad["convergence"]["text"]


def test_runs_of_the_same_name_in_two_folders_are_told_apart(tmp_path: Path) -> None:
    for folder, lr in (("one", 0.1), ("two", 0.2)):
        made = make_run(tmp_path / folder, spec={"optimizer.lr": lr})
        made.path.rename(tmp_path / folder / "same")
    found = payload(compare_runs(collect([str(tmp_path / "one"), str(tmp_path / "two")])))
    assert {run["id"] for run in found["runs"]} == {"one/same", "two/same"}
    assert len({group["id"] for group in found["groups"]}) == 2


@pytest.mark.parametrize(
    ("ours", "theirs", "word"),
    [(100.0, 100.0, "about as fast"), (200.0, 100.0, "2 times the speed"), (50.0, 100.0, "0.5 times the speed")],
)
def test_speed_in_words(ours: float, theirs: float, word: str) -> None:
    verdict, text = describe_speed(Speed(ours, 2.0, 2e-5, 5e6), Speed(theirs, None, None, None))
    assert verdict == word
    assert text.startswith(f"{word}: {ours:.0f} samples/s against {theirs:.0f}")
    assert text.endswith("2 s per epoch; 20 us per prediction; 5 MB at most")


def test_speed_that_is_not_known() -> None:
    nothing = Speed(None, None, None, None)
    assert describe_speed(nothing, None) == ("unknown", "no speed recorded")
    assert describe_speed(Speed(10.0, None, 0.02, None), nothing) == ("unknown", "10 samples/s; 20 ms per prediction")


def test_500_runs_stay_small(tmp_path: Path) -> None:
    make_run(tmp_path, losses=[1 / 3 / (i + 1) for i in range(20)])
    assert len(json.dumps(of(tmp_path)["runs"][0], separators=(",", ":"))) < 1500
