from __future__ import annotations

from pathlib import Path
from typing import Any

import madeupruns
import pytest

from dnntrain.errors import StoreError
from dnntrain.store import RunDirectory, check_rows

WRONG: dict[str, list[Any]] = {
    "name": [None, 3, []],
    "status": [None, "resting", 1],
    "stop_reason": [3, {}],
    "seed": [None, 1.5, "1"],
    "epochs": [None, "3"],
    "best": [None, [], {}, {"epoch": 1}, {"epoch": "1", "metrics": {}}, {"epoch": 1, "metrics": {"valid/loss": "x"}}],
    "test": [3, [], {"test/loss": []}],
    "seconds": [None, "1"],
    "error": [3],
    "spec": [None, [], {}, {"training.monitor.metric": "valid/loss"}, {**madeupruns.SPEC, "training.monitor.mode": 1}],
}


@pytest.fixture
def run(tmp_path: Path) -> RunDirectory:
    return madeupruns.make_run(tmp_path)


def test_a_run_as_it_is_written_is_sound(run: RunDirectory) -> None:
    assert run.sound_summary() == run.summary()


@pytest.mark.parametrize(("key", "value"), [(key, value) for key, values in WRONG.items() for value in values])
def test_values_that_do_not_belong_there(run: RunDirectory, key: str, value: object) -> None:
    run.write_summary({**run.summary(), key: value})
    with pytest.raises(StoreError, match=rf"summary\.json is damaged: .*(as .*{key}|is no status)"):
        run.sound_summary()


@pytest.mark.parametrize("key", WRONG)
def test_what_is_missing(run: RunDirectory, key: str) -> None:
    run.write_summary({name: value for name, value in run.summary().items() if name != key})
    with pytest.raises(StoreError, match=f"it lacks {key}$"):
        run.sound_summary()


def test_its_status_is_that_of_now(tmp_path: Path) -> None:
    left = madeupruns.make_run(tmp_path, status="running")
    assert left.sound_summary()["status"] == "interrupted"


@pytest.mark.parametrize("row", [{"valid/loss": 1.0}, {"epoch": "1"}, {"epoch": 2, "seconds": "x"}])
def test_what_is_no_row_of_an_epoch(tmp_path: Path, row: dict[str, Any]) -> None:
    path = tmp_path / "metrics.jsonl"
    check_rows(path, [{"epoch": 1, "seconds": None}])
    with pytest.raises(StoreError, match=r"metrics\.jsonl is damaged: row 2 is not that of an epoch"):
        check_rows(path, [{"epoch": 1}, row])


@pytest.mark.parametrize(
    "text",
    ['{"tags": 3}', '{"tags": [1]}', '{"notes": "x"}', '{"notes": ["x"]}', '{"notes": [{"time": 1, "text": "x"}]}'],
)
def test_what_are_no_tags_or_notes(run: RunDirectory, text: str) -> None:
    (run.path / run.NOTES).write_text(text)
    with pytest.raises(StoreError, match=r"notes\.json is damaged: what it has as (tags|notes) does not belong there"):
        run.notes()
