"""Runs that are there already, and what came of them."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from dnntrain.compare.records import within
from dnntrain.errors import StoreError
from dnntrain.store import RunDirectory
from dnntrain.training.hooks import Monitor


class Earlier:
    """Finished runs of a folder, and of the sweeps in it, by what they are.

    Args:
        folder: as `dnntrain run` has it; it is read once.
    """

    def __init__(self, folder: Path) -> None:
        self._found: dict[str, RunDirectory] = {}
        for directory in within(folder):
            with suppress(StoreError):
                environment = directory.environment()
                if directory.status() in ("completed", "stopped") and (found := _identity(environment)):
                    self._found.setdefault(found, directory)

    def add(self, identity: str, directory: RunDirectory) -> None:
        """Take note of a run that has come to its end just now."""
        self._found.setdefault(identity, directory)

    def find(self, identity: str) -> RunDirectory | None:
        """Return a run that has this identity and has come to its end."""
        return self._found.get(identity)


def figure(directory: RunDirectory, metric: str, *, until: int | None = None) -> float | None:
    """Return a metric of a run as it was at its best epoch.

    Args:
        directory: of the run, which need not have come to its end.
        metric: such as `valid/accuracy`.
        until: look at so many epochs only, as if the run had been left then.

    Returns:
        None where it is no finite number.

    Raises:
        StoreError: the run is damaged.
    """
    spec = directory.summary()["spec"]
    mode = spec["training.monitor.mode"]
    monitor = Monitor(spec["training.monitor.metric"], "max" if mode == "max" else "min")
    best: dict[str, Any] = {}
    for row in directory.metrics():
        if until is None or row["epoch"] <= until:
            best = row if monitor.improves(monitor.value(row), monitor.value(best)) else best
    return Monitor(metric).value(best)


def _identity(environment: Mapping[str, Any]) -> str | None:
    """Return what a run is, if it has been the same from its beginning to its end."""
    found = {part.get("identity") for part in (environment, *environment.get("resumed", []))}
    identity = found.pop() if len(found) == 1 else None
    return identity if isinstance(identity, str) else None
