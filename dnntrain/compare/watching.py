"""A folder of runs while they train: read again only where something has changed."""

from __future__ import annotations

import hashlib
import os
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeVar

from dnntrain.compare.comparison import compare_runs
from dnntrain.compare.payload import nothing, payload
from dnntrain.compare.records import Run, collect, read_run, within
from dnntrain.compare.report import as_text
from dnntrain.errors import StoreError, UsageError, visible
from dnntrain.store import RunDirectory

FRESH: Final = 0.3
"""Seconds for which an answer is good without another look at the folder, however many pages ask."""

_WATCHED: Final = (RunDirectory.SUMMARY, RunDirectory.METRICS, RunDirectory.NOTES)

Stamp = tuple[int, int] | None
Read = TypeVar("Read")


@dataclass(frozen=True)
class Snapshot:
    """What the folder shows at one time.

    Attributes:
        data: the payload.
        text: the same as JSON.
        version: changes whenever the text does.
    """

    data: dict[str, Any]
    text: bytes
    version: str


class Watched:
    """A folder of runs, which need not be there yet.

    May be asked by several threads at once.

    Args:
        folder: a folder of runs, a sweep, or one run.
        metric: to compare by; what the runs monitored unless given.
        baseline: a group or a run; the group of the oldest run unless given.
        clock: seconds, for how long an answer is good.
    """

    def __init__(
        self,
        folder: Path,
        *,
        metric: str | None = None,
        baseline: str | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._folder = folder
        self._metric = metric
        self._baseline = baseline
        self._clock = clock
        self._lock = threading.Lock()
        self._looked = -FRESH
        self._signature: object = None
        self._snapshot: Snapshot | None = None
        self._known: dict[Path, _Remembering] = {}

    def now(self) -> Snapshot:
        """Return what the folder shows, read again if anything in it has changed."""
        with self._lock:
            if self._snapshot is None or self._clock() - self._looked >= FRESH:
                try:
                    signature: object = self._look()
                except StoreError as error:
                    signature = str(error)
                if self._snapshot is None or signature != self._signature:
                    self._snapshot = _snapshot(self._read(signature))
                    self._signature = signature
                self._looked = self._clock()
            return self._snapshot

    def _look(self) -> list[tuple[Path, list[Stamp], bool]]:
        """Return what changes when a run does: the stamps of its files, and whether anybody holds it."""
        found = sorted({directory.path for directory in within(self._folder)})
        return [(path, [_stamp(path / name) for name in _WATCHED], _is_held(path)) for path in found]

    def _read(self, signature: object) -> dict[str, Any]:
        where = visible(str(self._folder), keep="")
        if isinstance(signature, str):
            return nothing(signature)
        try:
            if not signature:
                return nothing(f"There are no runs in {where} yet; they are shown here as they come.")
            found = collect([str(self._folder)], read=self._read_run)
            return payload(compare_runs(found, metric=self._metric, baseline=self._baseline))
        except (StoreError, UsageError) as error:
            # Such as a metric that no run has measured yet: what comes later may mend it.
            return nothing(str(error))
        except OSError as error:
            return nothing(f"{where} cannot be read: {error.strerror or error}")

    def _read_run(self, directory: RunDirectory) -> Run:
        known = self._known.setdefault(directory.path.resolve(), _Remembering(directory.path))
        return read_run(known)


class _Remembering(RunDirectory):
    """A run directory that reads a file again only when its time or its size has changed."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self._read_before: dict[str, tuple[Stamp, Any]] = {}

    def summary(self) -> dict[str, Any]:
        """Read the summary, or remember it."""
        return self._remember(self.SUMMARY, super().summary)

    def metrics(self) -> list[dict[str, Any]]:
        """Read the rows of all epochs, or remember them."""
        return self._remember(self.METRICS, super().metrics)

    def environment(self) -> dict[str, Any]:
        """Read what the run ran on, or remember it."""
        return self._remember(self.ENVIRONMENT, super().environment)

    def notes(self) -> dict[str, Any]:
        """Read tags and notes, or remember them."""
        return self._remember(self.NOTES, super().notes)

    def _remember(self, name: str, read: Callable[[], Read]) -> Read:
        stamp = _stamp(self.path / name)
        if name not in self._read_before or self._read_before[name][0] != stamp:
            # The stamp is older than what is read, never newer: at worst the file is read once more.
            self._read_before[name] = stamp, read()
        found: Read = self._read_before[name][1]
        return found


def _snapshot(data: dict[str, Any]) -> Snapshot:
    text = as_text(data).encode("utf-8", "backslashreplace")
    return Snapshot(data, text, hashlib.sha256(text).hexdigest()[:32])


def _is_held(path: Path) -> bool:
    # A process that is killed changes no file: the lock alone tells that its run goes on no more.
    return (path / RunDirectory.LOCK).exists() and RunDirectory(path).is_locked()


def _stamp(path: Path) -> Stamp:
    """Return what changes when a file does; None for one that is not there."""
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size
