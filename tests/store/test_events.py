"""TensorBoard event files."""

from __future__ import annotations

import errno
import math
import time
from io import FileIO
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.json_format import MessageToDict
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.backend.event_processing.plugin_event_multiplexer import EventMultiplexer
from tensorboard.plugins.hparams import metadata
from tensorboard.util.tensor_util import make_ndarray

from dnntrain.store.events import EventWriter


def test_scalars_are_read_back_and_what_is_no_number_is_left_out(tmp_path: Path) -> None:
    writer = EventWriter(tmp_path)
    writer.add_scalars({"a": 1.5, "b": None, "c": math.nan}, step=1)
    writer.add_scalars({"a": 2.5, "b": 3.0, "c": math.inf}, step=2)
    writer.close()
    events = EventAccumulator(str(tmp_path))
    events.Reload()
    assert [(event.step, event.value) for event in events.Scalars("a")] == [(1, 1.5), (2, 2.5)]
    assert [(event.step, event.value) for event in events.Scalars("b")] == [(2, 3.0)]
    assert events.Tags()["scalars"] == ["a", "b"]


def test_nothing_is_made_before_there_is_something_to_write(tmp_path: Path) -> None:
    writer = EventWriter(tmp_path / "tensorboard")
    writer.close()
    assert not (tmp_path / "tensorboard").exists()


def test_a_later_file_drops_what_an_earlier_one_says_of_its_steps(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = iter(range(2_000_000_000, 0, -1000))
    monkeypatch.setattr(time, "time", lambda: float(next(clock)))  # also where the clock was put back
    writer = EventWriter(tmp_path)
    for step in (1, 2, 3):
        writer.add_scalars({"a": 1.0}, step=step)
    writer.go_on(2)
    for step in (2, 3):
        writer.add_scalars({"a": 5.0}, step=step)
    writer.close()
    names = sorted(path.name.split(".")[3] for path in tmp_path.iterdir())
    assert names == ["2000000000", "2000000001"]
    events = EventAccumulator(str(tmp_path))
    events.Reload()
    assert [(event.step, event.value) for event in events.Scalars("a")] == [(1, 1.0), (2, 5.0), (3, 5.0)]


def test_every_scalar_is_in_the_file_at_once(tmp_path: Path) -> None:
    writer = EventWriter(tmp_path)
    writer.add_scalars({"a": 1.5}, step=1)
    events = EventAccumulator(str(tmp_path))
    events.Reload()
    assert [event.value for event in events.Scalars("a")] == [1.5]
    writer.close()


def test_a_file_in_the_way_is_an_error_of_the_one_who_writes(tmp_path: Path) -> None:
    (tmp_path / "tensorboard").write_text("in the way")
    writer = EventWriter(tmp_path / "tensorboard")
    with pytest.raises(OSError, match="exists"):
        writer.add_scalars({"a": 1.5}, step=1)
    writer.close()


def session(folder: Path) -> tuple[dict[str, Any], dict[str, Any] | None]:
    """Read with TensorBoard's own code what it believes of the training's start and end."""
    content = reload(folder).PluginTagToContent(metadata.PLUGIN_NAME)
    start = metadata.parse_session_start_info_plugin_data(content[metadata.SESSION_START_INFO_TAG])
    if metadata.SESSION_END_INFO_TAG not in content:
        return MessageToDict(start), None
    end = metadata.parse_session_end_info_plugin_data(content[metadata.SESSION_END_INFO_TAG])
    return MessageToDict(start), MessageToDict(end)


def reload(folder: Path) -> EventAccumulator:
    events = EventAccumulator(str(folder), size_guidance={"histograms": 0})
    events.Reload()
    return events


def test_hyperparameters_keep_their_kind(tmp_path: Path) -> None:
    writer = EventWriter(tmp_path / "tensorboard")
    writer.begin({"a": 1, "b": 0.5, "c": True, "d": "relu", "e": None, "f": [1, 2], "g": math.inf, "h": 2**60})
    start, end = session(tmp_path / "tensorboard")
    expected = {
        "a": 1.0,
        "b": 0.5,
        "c": True,
        "d": "relu",
        "e": "null",
        "f": "[1, 2]",
        "g": "Infinity",
        "h": str(2**60),
    }
    assert start["hparams"] == expected
    assert abs(start["startTimeSecs"] - time.time()) < 60
    assert end is None, "it still goes on"
    writer.close()


def test_a_file_name_that_is_not_utf8_is_no_obstacle(tmp_path: Path) -> None:
    writer = EventWriter(tmp_path)
    writer.begin({"path": "a\udcff.npz"})
    writer.add_scalars({"a\udcff": 1.0}, step=1)
    writer.close()
    assert session(tmp_path)[0]["hparams"] == {"path": "a\\udcff.npz"}


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        ("completed", "STATUS_SUCCESS"),
        ("stopped", "STATUS_SUCCESS"),
        ("failed", "STATUS_FAILURE"),
        ("interrupted", None),
    ],
)
def test_the_end_is_told(status: str, expected: str | None, tmp_path: Path) -> None:
    writer = EventWriter(tmp_path)
    writer.begin({"a": 1})
    writer.end(status)
    _, end = session(tmp_path)
    assert end is not None
    assert end.get("status") == expected


def test_a_training_that_goes_on_has_its_latest_beginning_and_end(tmp_path: Path) -> None:
    writer = EventWriter(tmp_path)
    writer.begin({"epochs": 2})
    writer.add_scalars({"a": 1.0}, step=1)
    writer.end("failed")
    writer.close()
    writer = EventWriter(tmp_path)
    writer.go_on(2)
    writer.begin({"epochs": 4})
    assert session(tmp_path)[1] is None
    writer.add_scalars({"a": 2.0}, step=2)
    writer.end("completed")
    writer.close()
    start, end = session(tmp_path)
    assert start["hparams"] == {"epochs": 4.0}
    assert end is not None
    assert end["status"] == "STATUS_SUCCESS"
    assert [event.step for event in reload(tmp_path).Scalars("a")] == [1, 2]


def test_histograms_are_read_back_and_not_doubled(tmp_path: Path) -> None:
    rows = [(-1.0, 0.0, 3.0), (0.0, 2.0, 5.0)]
    writer = EventWriter(tmp_path)
    writer.begin({"a": 1})
    for step in (1, 2, 3):
        writer.add_histograms({"weights/a": rows}, step=step)
    writer.go_on(2)
    writer.add_histograms({"weights/a": [(0.0, 1.0, 8.0)]}, step=2)
    writer.close()
    told = [(event.step, event.histogram_value) for event in reload(tmp_path).Histograms("weights/a")]
    assert [(step, list(value.bucket_limit), list(value.bucket)) for step, value in told] == [
        (1, [0.0, 2.0], [3.0, 5.0]),
        (2, [1.0], [8.0]),
    ]
    # What `tensorboard` itself shows: left edge, right edge, count.
    served = EventMultiplexer().AddRun(str(tmp_path), "run").Reload()
    told = [(event.step, make_ndarray(event.tensor_proto).tolist()) for event in served.Tensors("run", "weights/a")]
    assert told == [(1, [list(row) for row in rows]), (2, [[0.0, 1.0, 8.0]])]
    assert served.PluginRunToTagToContent("histograms")["run"].keys() == {"weights/a"}


def test_a_disk_that_is_full_for_a_while_costs_only_what_was_to_be_written_then(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = EventWriter(tmp_path)
    writer.add_scalars({"a": 1.0}, step=1)

    def half(file: FileIO, content: bytes) -> int:
        if len(content) < 20:
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(file, content[: len(content) // 2])

    class Full(FileIO):
        def write(self, content: Any) -> int:
            return half(self, content)

    write, (path,) = FileIO.write, tmp_path.iterdir()
    with monkeypatch.context() as patch, Full(path, "a+") as full:
        patch.setattr(writer._series, "_file", full)
        with pytest.raises(OSError, match="No space"):
            writer.add_scalars({"a": 2.0}, step=2)
    writer.add_scalars({"a": 3.0}, step=3)
    writer.close()
    assert [(event.step, event.value) for event in reload(tmp_path).Scalars("a")] == [(1, 1.0), (3, 3.0)]
