"""Finding runs by path, name, prefix or age."""

from __future__ import annotations

import os
import re
from datetime import datetime
from pathlib import Path
from typing import Final

from dnntrain.errors import StoreError, UsageError, suggest
from dnntrain.store.directory import RunDirectory

LAST_RUN: Final = "last"

_STAMPED: Final = re.compile(r"-\d{8}")
_SHOWN: Final = 10


def listing(runs: Path) -> list[RunDirectory]:
    """List the runs in a folder, oldest first; damaged ones too, and none when the folder is not there.

    Raises:
        StoreError: the folder cannot be read.
    """
    try:
        found = [RunDirectory(path) for path in runs.iterdir() if _is_run(path)]
    except FileNotFoundError:
        return []
    except OSError as error:
        raise StoreError(f"cannot list the runs in {runs}: {error.strerror or error}") from error
    return sorted(found, key=_age)


def find(query: str, runs: Path) -> RunDirectory:
    """Find the run that a command names.

    Args:
        query: a path, the name of a folder in `runs`, the beginning of one such name only, or `last` for the newest.
        runs: the folder of all runs.

    Raises:
        UsageError: no run, or more than one, is meant.
        StoreError: the folder cannot be read.
    """
    known = listing(runs)
    if query == LAST_RUN and known:
        return known[-1]
    path = Path(os.path.expanduser(query))
    if query and _is_run(path):
        return RunDirectory(path)
    exact = [run for run in known if run.name == query]
    matching = exact or [run for run in known if query and run.name.startswith(query)]
    if len(matching) == 1:
        return matching[0]
    if matching:
        names = [run.name for run in matching]
        shown = ", ".join(names[:_SHOWN]) + (", ..." if len(names) > _SHOWN else "")
        raise UsageError(f"'{query}' is the beginning of {len(names)} runs: {shown}")
    if query and os.path.exists(path):
        raise UsageError(f"{path} is not a run directory: it has no {RunDirectory.SUMMARY}")
    if not known:
        raise UsageError(f"no run '{query}': there are no runs in {runs}")
    raise UsageError(f"no run '{query}' in {runs}: {_hint(query, known)}")


def _is_run(path: Path) -> bool:
    # Not Path.is_file, which raises for a folder that may not be entered.
    return os.path.isfile(os.path.join(path, RunDirectory.SUMMARY))


def _age(run: RunDirectory) -> tuple[datetime, float, str]:
    """Sort by the start that the name tells; else, and within a second, by the last change."""
    try:
        changed = os.stat(run.path).st_mtime
    except FileNotFoundError:
        # Removed since it was listed.
        changed = 0.0
    return run.started or datetime.fromtimestamp(changed), changed, run.name


def _hint(query: str, known: list[RunDirectory]) -> str:
    """Suggest names without their date, unless the query has one."""
    names = {run.name for run in known}
    if not _STAMPED.search(query):
        names = {_STAMPED.split(name)[0] for name in names}
    return suggest(query, names)
