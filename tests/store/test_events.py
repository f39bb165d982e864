"""TensorBoard event files."""

from __future__ import annotations

import math
import time
from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from dnntrain.store.events import ScalarWriter


def test_scalars_are_read_back_and_what_is_no_number_is_left_out(tmp_path: Path) -> None:
    writer = ScalarWriter(tmp_path)
    writer.add({"a": 1.5, "b": None, "c": math.nan}, step=1)
    writer.add({"a": 2.5, "b": 3.0, "c": math.inf}, step=2)
    writer.close()
    events = EventAccumulator(str(tmp_path))
    events.Reload()
    assert [(event.step, event.value) for event in events.Scalars("a")] == [(1, 1.5), (2, 2.5)]
    assert [(event.step, event.value) for event in events.Scalars("b")] == [(2, 3.0)]
    assert events.Tags()["scalars"] == ["a", "b"]


def test_nothing_is_made_before_there_is_something_to_write(tmp_path: Path) -> None:
    writer = ScalarWriter(tmp_path / "tensorboard")
    writer.close()
    assert not (tmp_path / "tensorboard").exists()


def test_a_later_file_drops_what_an_earlier_one_says_of_its_steps(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = iter(range(2_000_000_000, 0, -1000))
    monkeypatch.setattr(time, "time", lambda: float(next(clock)))  # also where the clock was put back
    writer = ScalarWriter(tmp_path)
    for step in (1, 2, 3):
        writer.add({"a": 1.0}, step=step)
    writer.go_on(2)
    for step in (2, 3):
        writer.add({"a": 5.0}, step=step)
    writer.close()
    names = sorted(path.name.split(".")[3] for path in tmp_path.iterdir())
    assert names == ["2000000000", "2000000001"]
    events = EventAccumulator(str(tmp_path))
    events.Reload()
    assert [(event.step, event.value) for event in events.Scalars("a")] == [(1, 1.0), (2, 5.0), (3, 5.0)]


def test_every_scalar_is_in_the_file_at_once(tmp_path: Path) -> None:
    writer = ScalarWriter(tmp_path)
    writer.add({"a": 1.5}, step=1)
    events = EventAccumulator(str(tmp_path))
    events.Reload()
    assert [event.value for event in events.Scalars("a")] == [1.5]
    writer.close()


def test_a_file_in_the_way_is_an_error_of_the_one_who_writes(tmp_path: Path) -> None:
    (tmp_path / "tensorboard").write_text("in the way")
    writer = ScalarWriter(tmp_path / "tensorboard")
    with pytest.raises(OSError, match="exists"):
        writer.add({"a": 1.5}, step=1)
    writer.close()
