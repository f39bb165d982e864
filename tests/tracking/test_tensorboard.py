"""What TensorBoard is told, epoch by epoch; tests/test_recording.py reads what it shows of whole runs."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import nn

from dnntrain.store import RunDirectory
from dnntrain.tracking import tensorboard
from dnntrain.tracking.tensorboard import TensorBoard


def tell(tracker: TensorBoard, epoch: int, *, epochs: int = 100, improved: bool = False, seconds: float = 1.0) -> None:
    row = {"epoch": epoch, "step": 10 * epoch, "valid/loss": 1.0 / epoch, "lr": 0.1, "seconds": seconds}
    run: Any = SimpleNamespace(row=row, epoch=epoch, epochs=epochs, improved=improved, model=nn.Linear(2, 2))
    tracker.tell(run)


def read(folder: Path) -> EventAccumulator:
    events = EventAccumulator(str(folder / "tensorboard"), size_guidance={"histograms": 0})
    events.Reload()
    return events


def test_the_best_epoch_has_figures_of_its_own(tmp_path: Path) -> None:
    tracker = TensorBoard(RunDirectory(tmp_path))
    for epoch in (1, 2, 3):
        tell(tracker, epoch, improved=epoch != 2)
    tracker.close()
    events = read(tmp_path)
    assert [event.step for event in events.Scalars("valid/loss")] == [1, 2, 3]
    assert [event.step for event in events.Scalars("best/valid/loss")] == [1, 3]
    assert not {"epoch", "step", "best/lr"} & set(events.Tags()["scalars"])


def test_histograms_take_no_more_than_their_share_of_the_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]

    def slow(model: Any) -> dict[str, list[tuple[float, float, float]]]:
        now[0] += 0.025
        return {"weight": [(0.0, 1.0, 4.0)]}

    monkeypatch.setattr(tensorboard, "weight_histograms", slow)
    monkeypatch.setattr("time.perf_counter", lambda: now[0])
    tracker = TensorBoard(RunDirectory(tmp_path))
    for epoch in range(1, 11):
        tell(tracker, epoch, epochs=10)
    tracker.close()
    # After 25 ms, 2.5 s of training must have gone by; the first and the last are always there.
    assert [event.step for event in read(tmp_path).Histograms("weights/weight")] == [1, 3, 5, 8, 10]


def test_going_back_forgets_what_was_told_since(tmp_path: Path) -> None:
    tracker = TensorBoard(RunDirectory(tmp_path))
    tracker.begin(RunDirectory(tmp_path), {"seed": 1})
    for epoch in (1, 2, 3):
        tell(tracker, epoch)
    tracker.go_on(1)
    tell(tracker, 2)
    summary = {"status": "completed", "epochs": 2, "test": {"test/loss": 0.5, "test/confusion": [[1, 0], [0, 1]]}}
    tracker.end(summary)
    tracker.close()
    events = read(tmp_path)
    assert [event.step for event in events.Scalars("valid/loss")] == [1, 2]
    assert [event.step for event in events.Histograms("weights/weight")] == [1, 2]
    assert [(event.step, event.value) for event in events.Scalars("test/loss")] == [(2, 0.5)]
    assert "test/confusion" not in events.Tags()["scalars"]
