"""TensorBoard event files."""

from __future__ import annotations

import math
from pathlib import Path

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
