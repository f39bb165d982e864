from __future__ import annotations

from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from madeupruns import START, make_run

from dnntrain.compare.records import Filters, aligned, collect, differing, grouped, parse_filters, within
from dnntrain.errors import StoreError, UsageError
from dnntrain.store import SweepDirectory


def names(sources: list[str], filters: Filters | None = None, runs: Path = Path("runs")) -> list[str]:
    return [run.id.split("-")[0] for run in collect(sources, filters, runs=runs).runs]


def test_a_sweep_names_each_of_its_runs_once(tmp_path: Path) -> None:
    earlier = make_run(tmp_path / "one" / "runs", "earlier")
    sweep = SweepDirectory(tmp_path / "two")
    own = make_run(sweep.runs, "own", spec={"optimizer.lr": 1.0})
    rows = [{"run": sweep.relative(own), "reused": False}, {"run": sweep.relative(earlier), "reused": True}]
    sweep.write_runs([*rows, {"run": None, "reused": False}, {"run": "runs/gone", "reused": True}])
    assert sorted(each.name for each in within(sweep.path)) == sorted([own.name, earlier.name])
    assert names(["two"], runs=tmp_path) == names([str(sweep.path)]) == ["earlier", "own"]


def test_runs_are_found_by_folder_path_glob_and_name(tmp_path: Path) -> None:
    a, b = make_run(tmp_path, "a"), make_run(tmp_path, "b", spec={"optimizer.lr": 1.0}, minutes=1)
    assert names([str(tmp_path)]) == ["a", "b"]
    assert names([str(b.path), str(a.path)]) == ["a", "b"], "the oldest first, however they are named"
    assert names([str(tmp_path / "b*")]) == ["b"]
    assert names(["a"], runs=tmp_path) == ["a"]
    assert names([str(tmp_path), str(a.path), "a"], runs=tmp_path) == ["a", "b"], "each counts once"
    for nothing in ("c", str(tmp_path / "x*")):
        with pytest.raises(UsageError):
            names([nothing], runs=tmp_path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(UsageError, match="there are no runs in"):
        names([str(tmp_path / "empty")])


def test_runs_of_a_sweep_are_found_in_it(tmp_path: Path) -> None:
    make_run(tmp_path / "sweep" / "runs", "a")
    make_run(tmp_path, "b", spec={"optimizer.lr": 1.0}, minutes=1)
    assert names([str(tmp_path)]) == ["a", "b"]
    assert names([str(tmp_path / "sweep")]) == ["a"]


@pytest.mark.parametrize(
    ("filters", "expected"),
    [
        (parse_filters(where=["optimizer=sgd"]), ["a", "b"]),
        (parse_filters(where=["optimizer.name=sgd", "optimizer.lr=1"]), ["b"]),
        (parse_filters(where=["optimizer.lr=1e-1"]), ["a", "c"]),
        (parse_filters(where=["model.activation=elu"]), ["c"]),
        (parse_filters(tags=["paper"]), ["a", "c"]),
        (parse_filters(tags=["paper", "best"]), ["c"]),
        (parse_filters(statuses=["failed"]), ["b"]),
        (parse_filters(statuses=["failed", "completed"]), ["a", "b", "c"]),
        (parse_filters(since="2026-01-01T12:05"), ["b", "c"]),
        (parse_filters(since="1000w"), ["a", "b", "c"]),
    ],
    ids=lambda value: "",
)
def test_filters(filters: Filters, expected: list[str], tmp_path: Path) -> None:
    make_run(tmp_path, "a", tags=["paper"])
    make_run(tmp_path, "b", spec={"optimizer.lr": 1.0}, status="failed", minutes=10)
    make_run(
        tmp_path, "c", spec={"optimizer.name": "adamw", "model.activation": "elu"}, tags=["best", "paper"], minutes=20
    )
    assert names([str(tmp_path)], filters) == expected


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"where": ["optimizer.lr"]}, "is no condition"),
        ({"where": ["=3"]}, "is no condition"),
        ({"statuses": ["done"]}, "is no status"),
        ({"since": "yesterday"}, "neither a span"),
    ],
)
def test_what_is_no_filter(arguments: Any, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        parse_filters(**arguments)


def test_a_span_ends_now() -> None:
    assert parse_filters(since="999999w").since == datetime.min, "before there were dates"
    zoned = datetime(2026, 1, 1, 12, tzinfo=timezone(timedelta(hours=5)))
    assert parse_filters(since=zoned.isoformat()).since == zoned.astimezone().replace(tzinfo=None)
    since = parse_filters(since="2h").since
    assert since is not None
    assert timedelta(hours=1, minutes=59) < datetime.now() - since < timedelta(hours=2, minutes=1)


def test_one_run_of_each_seed_counts(tmp_path: Path) -> None:
    make_run(tmp_path, "a", seed=1)
    make_run(tmp_path, "b", seed=1, minutes=1)
    make_run(tmp_path, "c", seed=1, status="interrupted", minutes=2)
    make_run(tmp_path, "d", seed=2, minutes=3)
    found = collect([str(tmp_path)])
    assert [run.id.split("-")[0] for run in found.runs] == ["b", "d"], "the latest that came to its end"
    assert len(found.remarks) == 2
    assert all("has the same configuration and seed" in remark for remark in found.remarks)


def test_groups_differ_in_more_than_the_seed(tmp_path: Path) -> None:
    for seed in (2, 0, 1):
        make_run(tmp_path, "base", seed=seed, minutes=seed)
    make_run(tmp_path, "base", spec={"optimizer.lr": 1.0}, minutes=9)
    make_run(tmp_path, "other", spec={"optimizer.lr": 2.0}, minutes=10)
    groups = grouped(collect([str(tmp_path)]).runs)
    assert [(group.label, group.seeds) for group in groups] == [("base 1", [0, 1, 2]), ("base 2", [0]), ("other", [0])]
    assert differing([group.configuration for group in groups]) == ["optimizer.lr"]


def test_a_damaged_run_is_left_out_and_told(tmp_path: Path) -> None:
    make_run(tmp_path, "a")
    (make_run(tmp_path, "b").path / "summary.json").write_text("{")
    found = collect([str(tmp_path)])
    assert len(found.runs) == 1
    assert found.remarks[0].startswith("left out: ")


def test_where_all_are_damaged_each_is_told(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (make_run(tmp_path, name).path / "summary.json").write_text("{")
    with pytest.raises(StoreError, match=r"(?s)no run that can be read\nleft out: .*/a-.*\nleft out: .*/b-"):
        collect([str(tmp_path)])


def test_conditions_that_no_run_meets(tmp_path: Path) -> None:
    make_run(tmp_path, tags=["kept"])
    with pytest.raises(UsageError, match="no run has the key 'optimizer.rl': did you mean 'optimizer.lr'"):
        collect([str(tmp_path)], parse_filters(["optimizer.rl=1"]))
    with pytest.raises(UsageError, match="no run of 1 meets the conditions: look at --where, --tag$"):
        collect([str(tmp_path)], parse_filters(["optimizer=adam"], ["kept"]))


@pytest.mark.parametrize(
    ("one", "other", "keys"),
    [
        # A new option, a new section, a new option of a listed part: all at what the others have.
        ({"o.name": "sgd", "o.lr": 1}, {"o.name": "sgd", "o.lr": 1, "o.momentum": 0.0}, []),
        ({"training.epochs": 1}, {"training.epochs": 1, "training.checkpoint.every": "epoch"}, []),
        ({"c.0.name": "early_stopping"}, {"c.0.name": "early_stopping", "c.0.patience": 10}, []),
        # The same, and the others have another value: that is a difference.
        ({"o.name": "sgd", "o.lr": 1}, {"o.name": "sgd", "o.lr": 1, "o.momentum": 0.9}, ["o.momentum"]),
        ({"training.epochs": 1}, {"training.epochs": 1, "training.checkpoint.every": 5}, ["training.checkpoint.every"]),
        # What nobody knows is nobody's default.
        ({"o.name": "sgd"}, {"o.name": "sgd", "o.unheard_of": 1}, ["o.unheard_of"]),
        # Another part has other options.
        ({"o.name": "sgd", "o.lr": 1}, {"o.name": "adam", "o.lr": 1, "o.eps": 0}, ["o.name", "o.eps"]),
        # A list that is empty, or shorter, is another list.
        ({"c": []}, {"c.0.name": "x"}, ["c", "c.0.name"]),
        ({"model.dropout": []}, {"model.dropout.0.name": "alpha"}, ["model.dropout", "model.dropout.0.name"]),
        ({"c.0.name": "x"}, {"c.0.name": "x", "c.1.name": "y", "c.1.a": 1}, ["c.1.name", "c.1.a"]),
        # A bare name is the part's name.
        ({"a": "relu"}, {"a.name": "elu", "a.alpha": 1}, ["a.name", "a.alpha"]),
        ({"a": "elu"}, {"a.name": "elu", "a.alpha": 1.0}, []),
    ],
)
def test_configurations_of_different_versions(one: dict[str, Any], other: dict[str, Any], keys: list[str]) -> None:
    assert differing(aligned([one, other])) == keys
    assert set(differing(aligned([other, one]))) == set(keys)


def test_a_run_knows_when_it_started(tmp_path: Path) -> None:
    (run,) = collect([str(make_run(tmp_path).path)]).runs
    assert run.directory.started == START
    assert run.best("valid/loss") == 1.0
    assert run.best("test/loss") is None
    assert run.monitor == ("valid/loss", "min")
