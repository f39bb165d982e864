"""TensorBoard event files, written with the tensorboard package itself; no torch."""

from __future__ import annotations

import math
import os
import re
import socket
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

_EVENTS: Final = re.compile(r"events\.out\.tfevents\.(\d{10})\.")


class ScalarWriter:
    """Writes scalars that `tensorboard --logdir` shows.

    The tensorboard package is imported with the first scalar, since it takes a while.

    Args:
        folder: where the event file is made.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._writer: _Writer | None = None
        self._from: int | None = None

    def go_on(self, step: int) -> None:
        """Begin another file at a step, of which earlier files have told too much perhaps."""
        self.close()
        self._from = step

    def add(self, scalars: Mapping[str, float | None], *, step: int) -> None:
        """Write one value for each name; what is not a finite number is left out."""
        if self._writer is None:
            self._writer = _Writer(self._folder, self._from)
        self._writer.add({k: v for k, v in scalars.items() if v is not None and math.isfinite(v)}, step)

    def close(self) -> None:
        """Close the file."""
        if self._writer is not None:
            self._writer.close()
            self._writer = None


class _Writer:
    """Writes an event file as it is told to, where the package's own writer has a thread do so, which fails unheard."""

    def __init__(self, folder: Path, first: int | None) -> None:
        from tensorboard.compat.proto.event_pb2 import Event, SessionLog
        from tensorboard.compat.proto.summary_pb2 import Summary
        from tensorboard.summary.writer.record_writer import RecordWriter

        self._event, self._summary = Event, Summary
        folder.mkdir(exist_ok=True)
        self._file = (folder / _file_name(folder)).open("xb")
        self._records = RecordWriter(self._file)
        self._write(Event(wall_time=time.time(), file_version="brain.Event:2"))
        if first is not None:
            # Readers drop what earlier files say of this step and of later ones.
            started = SessionLog(status=SessionLog.START)
            self._write(Event(wall_time=time.time(), step=first, session_log=started))

    def add(self, scalars: Mapping[str, float], step: int) -> None:
        values = [self._summary.Value(tag=name, simple_value=value) for name, value in scalars.items()]
        self._write(self._event(wall_time=time.time(), step=step, summary=self._summary(value=values)))

    def _write(self, event: Any) -> None:
        self._records.write(event.SerializeToString())
        self._file.flush()

    def close(self) -> None:
        self._file.close()


def _file_name(folder: Path) -> str:
    """Name an event file after the others in its folder, whatever the clock says: readers sort them by name."""
    stamps = [int(found[1]) for path in folder.iterdir() if (found := _EVENTS.match(path.name))]
    stamp = max([int(time.time()), *(earlier + 1 for earlier in stamps)])
    return f"events.out.tfevents.{stamp:010d}.{socket.gethostname()}.{os.getpid()}"
