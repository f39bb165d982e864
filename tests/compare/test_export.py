from __future__ import annotations

import csv
import io
from pathlib import Path

import pyarrow
import pytest
from madeupruns import make_run
from pyarrow import parquet

from dnntrain.compare.export import ABOUT, as_csv, metrics_table, write_csv, write_parquet
from dnntrain.compare.records import Filters, collect
from dnntrain.errors import StoreError, UsageError

EXERCISE = Path(__file__).parents[2] / "docs" / "runs" / "exercise"


def rows_of(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


def test_a_row_for_each_epoch_of_each_run_with_what_differs(tmp_path: Path) -> None:
    first = make_run(tmp_path, "a", seed=1, losses=(3.0, None), tags=["x", "y"])
    second = make_run(tmp_path, "b", seed=2, spec={"optimizer.lr": 0.5}, status="failed", minutes=1)
    table = metrics_table(collect([str(tmp_path)]))
    figures = ("epoch", "valid/loss", "valid/accuracy", "seconds", "samples_per_second")
    assert table.columns == (*ABOUT, "spec.optimizer.lr", *figures)
    rows = rows_of(as_csv(table))
    assert [(row["run"], row["epoch"]) for row in rows] == [
        *((first.name, str(epoch)) for epoch in (1, 2)),
        *((second.name, str(epoch)) for epoch in (1, 2, 3)),
    ]
    expected = dict(name="a", seed="1", status="completed", tags="x y", epoch="1", **{"spec.optimizer.lr": "0.1"})
    assert expected.items() <= rows[0].items()
    assert [row["valid/loss"] for row in rows] == ["3.0", "", "3.0", "2.0", "1.0"]
    assert [row["spec.optimizer.lr"] for row in rows] == ["0.1", "0.1", "0.5", "0.5", "0.5"]
    assert rows[-1]["status"] == "failed"


def test_all_keys_on_request_but_seed_and_name_stand_first(tmp_path: Path) -> None:
    make_run(tmp_path, spec={"model.architecture.hidden": [3, 4], "training.clip": None})
    table = metrics_table(collect([str(tmp_path)]), spec=True)
    (row, *_) = rows_of(as_csv(table))
    assert row["spec.model.architecture.hidden"] == "[3, 4]"
    assert row["spec.training.clip"] == ""
    assert row["spec.optimizer.name"] == "sgd"
    assert not {"spec.seed", "spec.name"} & set(row)


def test_filters_are_those_of_compare(tmp_path: Path) -> None:
    make_run(tmp_path, "a", tags=["kept"])
    make_run(tmp_path, "b", seed=1)
    table = metrics_table(collect([str(tmp_path)], Filters(tags=["kept"])))
    assert {row["name"] for row in table.rows} == {"a"}


def test_parquet_has_types(tmp_path: Path) -> None:
    odd = {"mixed": 1, "flag": True, "list": [1, 2], "nothing": None, "huge": 2**70}
    make_run(tmp_path / "runs", seed=1, losses=(3.0, None), spec=odd)
    make_run(tmp_path / "runs", seed=2, losses=(1.0,), spec={**odd, "mixed": "one"}, minutes=1)
    path = tmp_path / "figures.parquet"
    write_parquet(metrics_table(collect([str(tmp_path / "runs")]), spec=True), path)
    read = parquet.read_table(path)
    kinds = {name: read.schema.field(name).type for name in read.column_names}
    assert kinds["seed"] == kinds["epoch"] == pyarrow.int64()
    assert kinds["valid/loss"] == kinds["spec.optimizer.lr"] == kinds["spec.nothing"] == pyarrow.float64()
    assert kinds["run"] == kinds["spec.mixed"] == kinds["spec.list"] == pyarrow.string()
    assert kinds["spec.flag"] == pyarrow.bool_()
    assert read["valid/loss"].to_pylist() == [3.0, None, 1.0]
    assert read["spec.mixed"].to_pylist() == ["1", "1", "one"]
    assert read["spec.list"].to_pylist() == ["[1, 2]"] * 3
    assert read["spec.huge"].to_pylist() == [float(2**70)] * 3


def test_real_runs_come_out_as_they_were_recorded(tmp_path: Path) -> None:
    found = collect([str(EXERCISE)])
    table = metrics_table(found)
    assert len(found.runs) == 15
    assert len(table.rows) == sum(len(run.rows) for run in found.runs)
    write_csv(table, tmp_path / "a.csv")
    write_parquet(table, tmp_path / "a.parquet")
    read = parquet.read_table(tmp_path / "a.parquet").to_pylist()
    expected = [row["valid/accuracy"] for run in found.runs for row in run.rows]
    assert [row["valid/accuracy"] for row in read] == expected
    text = rows_of((tmp_path / "a.csv").read_text())
    assert [float(row["valid/accuracy"]) for row in text] == expected, "no digit is lost"


def test_what_a_run_says_cannot_command_a_terminal(tmp_path: Path) -> None:
    make_run(tmp_path, spec={"data.path": "a\x1b[31m\udcff"})
    table = metrics_table(collect([str(tmp_path)]), spec=True)
    assert rows_of(as_csv(table))[0]["spec.data.path"] == "a\\x1b[31m\\udcff"
    write_parquet(table, tmp_path / "a.parquet")


def test_damaged_and_empty_runs_are_left_out_and_named(tmp_path: Path) -> None:
    make_run(tmp_path, "good", minutes=2)
    damaged = make_run(tmp_path, "bad", seed=1)
    (damaged.path / "metrics.jsonl").write_text("{\n{}\n")
    empty = make_run(tmp_path, "none", seed=2, losses=())
    table = metrics_table(collect([str(tmp_path)]))
    assert {row["name"] for row in table.rows} == {"good"}
    assert any(damaged.name in remark for remark in table.remarks)
    assert f"left out: {empty.name} has no epoch yet" in table.remarks


@pytest.mark.parametrize("write", [write_csv, write_parquet])
def test_nothing_is_overwritten_and_nothing_half_written(write, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    make_run(tmp_path / "runs")
    table = metrics_table(collect([str(tmp_path / "runs")]))
    path = tmp_path / "there"
    path.write_text("mine")
    with pytest.raises(UsageError, match="is there already"):
        write(table, path)
    assert path.read_text() == "mine"
    with pytest.raises(StoreError, match="cannot write"):
        write(table, tmp_path / "nowhere" / "file")
    assert sorted(each.name for each in tmp_path.iterdir()) == ["runs", "there"]
