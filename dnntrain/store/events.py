"""TensorBoard event files, written with the tensorboard package itself; no torch."""

from __future__ import annotations

import io
import json
import math
import os
import re
import socket
import time
from collections.abc import Mapping, Sequence
from io import FileIO
from pathlib import Path
from typing import Any, Final

from dnntrain.store.lines import append_whole

_EVENTS: Final = re.compile(r"events\.out\.tfevents\.(\d{10})\.")
_SESSION: Final = "events.out.tfevents.0000000000.hparams"
_EXACT: Final = 1 << 53


class EventWriter:
    """Writes what `tensorboard --logdir` shows: scalars, histograms, and hyperparameters beside what they led to.

    The tensorboard package is imported with the first thing that is written, since that takes a while.

    Hyperparameters, with the beginning and the end of the training, stand in a file of their own that is made anew when
    a run goes on: of several such statements readers believe the first, and it would say `interrupted` for ever.

    Args:
        folder: where the event files are made.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._series: _EventFile | None = None
        self._from: int | None = None

    def begin(self, hyperparameters: Mapping[str, Any]) -> None:
        """Say that training begins or goes on, and with what.

        Args:
            hyperparameters: by name; what is neither number nor text is written as JSON.
        """
        from google.protobuf.struct_pb2 import Value
        from tensorboard.plugins.hparams.metadata import SESSION_START_INFO_TAG
        from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData, SessionStartInfo

        values = {_text(name): Value(**_typed(value)) for name, value in hyperparameters.items()}
        info = SessionStartInfo(hparams=values, start_time_secs=time.time())
        (self._folder / _SESSION).unlink(missing_ok=True)
        # Readers take the first restart that they meet for the start, and drop nothing for it.
        self._say(SESSION_START_INFO_TAG, HParamsPluginData(session_start_info=info), first=0)

    def end(self, status: str) -> None:
        """Say how training ended; what was interrupted has no end that TensorBoard has a word for.

        Args:
            status: of the run.
        """
        from tensorboard.plugins.hparams import api_pb2
        from tensorboard.plugins.hparams.metadata import SESSION_END_INFO_TAG
        from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData, SessionEndInfo

        known = {
            "completed": api_pb2.STATUS_SUCCESS,
            "stopped": api_pb2.STATUS_SUCCESS,
            "failed": api_pb2.STATUS_FAILURE,
        }
        info = SessionEndInfo(status=known.get(status, api_pb2.STATUS_UNKNOWN), end_time_secs=time.time())
        self._say(SESSION_END_INFO_TAG, HParamsPluginData(session_end_info=info))

    def go_on(self, step: int) -> None:
        """Begin another file at a step, of which earlier files have told too much perhaps."""
        self.close()
        self._from = step

    def add_scalars(self, scalars: Mapping[str, float | None], *, step: int) -> None:
        """Write one value for each name; what is not a finite number is left out."""
        from tensorboard.compat.proto.summary_pb2 import Summary

        finite = {name: value for name, value in scalars.items() if value is not None and math.isfinite(value)}
        self._open().add([Summary.Value(tag=_text(name), simple_value=value) for name, value in finite.items()], step)

    def add_histograms(self, histograms: Mapping[str, Sequence[tuple[float, float, float]]], *, step: int) -> None:
        """Write histograms.

        Args:
            histograms: for each name its buckets: lower edge, upper edge, and how many values lie between.
            step: which they are of.
        """
        from tensorboard.compat.proto.summary_pb2 import HistogramProto, Summary

        # Of the two forms that TensorBoard has for histograms this is the one that all its readers drop when training
        # goes back; sum and sum of squares belong to it, but nothing that shows it looks at them.
        values = [
            Summary.Value(
                tag=_text(name),
                histo=HistogramProto(
                    min=buckets[0][0],
                    max=buckets[-1][1],
                    num=sum(count for _, _, count in buckets),
                    bucket_limit=[right for _, right, _ in buckets],
                    bucket=[count for _, _, count in buckets],
                ),
            )
            for name, buckets in histograms.items()
        ]
        self._open().add(values, step)

    def close(self) -> None:
        """Close the files."""
        if self._series is not None:
            self._series.close()
            self._series = None

    def _open(self) -> _EventFile:
        if self._series is None:
            self._folder.mkdir(exist_ok=True)
            self._series = _EventFile(self._folder / _file_name(self._folder), first=self._from)
        return self._series

    def _say(self, tag: str, content: Any, *, first: int | None = None) -> None:
        """Append a statement about the whole training to the file of such."""
        from tensorboard.compat.proto.summary_pb2 import Summary
        from tensorboard.plugins.hparams.metadata import NULL_TENSOR, create_summary_metadata

        self._folder.mkdir(exist_ok=True)
        file = _EventFile(self._folder / _SESSION, first=first)
        try:
            file.add([Summary.Value(tag=tag, metadata=create_summary_metadata(content), tensor=NULL_TENSOR)], step=0)
        finally:
            file.close()


class _EventFile:
    """Writes an event file as it is told to, where the package's own writer has a thread do so, which fails unheard.

    Args:
        path: the file, made when missing.
        first: readers drop what earlier files say of this step and of later ones.
    """

    def __init__(self, path: Path, *, first: int | None = None) -> None:
        from tensorboard.compat.proto.event_pb2 import SessionLog

        self._file = FileIO(path, "a+")
        if not path.stat().st_size:
            self._write(file_version="brain.Event:2")
        if first is not None:
            self._write(step=first, session_log=SessionLog(status=SessionLog.START))

    def add(self, values: Sequence[Any], step: int) -> None:
        from tensorboard.compat.proto.summary_pb2 import Summary

        self._write(step=step, summary=Summary(value=values))

    def _write(self, **content: Any) -> None:
        from tensorboard.compat.proto.event_pb2 import Event
        from tensorboard.summary.writer.record_writer import RecordWriter

        record = io.BytesIO()
        RecordWriter(record).write(Event(wall_time=time.time(), **content).SerializeToString())
        append_whole(self._file, record.getvalue())

    def close(self) -> None:
        self._file.close()


def _typed(value: Any) -> dict[str, Any]:
    """Return a value as the field of a protobuf `Value` that it fits."""
    if isinstance(value, bool):
        return {"bool_value": value}
    if (isinstance(value, int) and abs(value) <= _EXACT) or (isinstance(value, float) and math.isfinite(value)):
        return {"number_value": float(value)}
    return {"string_value": _text(value if isinstance(value, str) else json.dumps(value))}


def _text(value: str) -> str:
    """Write a lone surrogate, from a file name that is not UTF-8, as an escape: protobuf knows none."""
    return value.encode("utf-8", "backslashreplace").decode()


def _file_name(folder: Path) -> str:
    """Name an event file after the others in its folder, whatever the clock says: readers sort them by name."""
    stamps = [int(found[1]) for path in folder.iterdir() if (found := _EVENTS.match(path.name))]
    stamp = max([int(time.time()), *(earlier + 1 for earlier in stamps)])
    return f"events.out.tfevents.{stamp:010d}.{socket.gethostname()}.{os.getpid()}"
