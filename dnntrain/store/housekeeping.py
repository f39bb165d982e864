"""Keeping a folder of runs in order: tags, notes, removal, and checkpoints that nobody needs any more."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from dnntrain.errors import StoreError, UsageError
from dnntrain.store.directory import RunDirectory
from dnntrain.store.lookup import listing


def tag(directory: RunDirectory, tags: Sequence[str], *, remove: bool = False) -> list[str]:
    """Add tags to a run, or take them away; return those that it has then.

    Raises:
        UsageError: a tag is empty, or has more than letters, digits, '-', '_' and '.'.
        StoreError: its notes are damaged or cannot be written.
    """
    wrong = [each for each in tags if not each or not all(c.isalnum() or c in "-_." for c in each)]
    if wrong:
        raise UsageError(f"'{wrong[0]}' is no tag: a tag has letters, digits, '-', '_' and '.' only")
    notes = directory.notes()
    before = notes.get("tags", [])
    after = [each for each in before if each not in tags] if remove else list(dict.fromkeys([*before, *tags]))
    directory.write_notes({**notes, "tags": after})
    return after


def note(directory: RunDirectory, text: str, *, now: datetime | None = None) -> list[dict[str, str]]:
    """Add a note to a run, with the time; return all of them.

    Raises:
        UsageError: the note is empty.
        StoreError: its notes are damaged or cannot be written.
    """
    if not text.strip():
        raise UsageError("the note is empty")
    notes = directory.notes()
    stamp = (now or datetime.now()).astimezone().isoformat(timespec="seconds")
    written = [*notes.get("notes", []), {"time": stamp, "text": text}]
    directory.write_notes({**notes, "notes": written})
    return written


def size(directory: RunDirectory) -> int:
    """Return the bytes that a run takes on the disk; a file with two names counts once."""
    return sum(_sizes(directory.path).values())


def files(directory: RunDirectory) -> list[tuple[str, int]]:
    """List the files of a run by their paths in it, with their sizes in bytes."""
    found = []
    for path in sorted(directory.path.rglob("*")):
        # Files of a run that is being trained come and go.
        with contextlib.suppress(FileNotFoundError):
            if path.is_file():
                found.append((str(path.relative_to(directory.path)), path.lstat().st_size))
    return found


def remove(directory: RunDirectory, runs: Path) -> None:
    """Remove a run with everything in it.

    Args:
        directory: the run.
        runs: the folder of all runs; nothing outside it is ever removed.

    Raises:
        UsageError: the run does not lie in the folder, or is a link to somewhere else.
        LockedError: a process trains it.
        StoreError: it cannot be removed.
    """
    _refuse_outside(directory, runs)
    with directory.lock():
        # The summary goes last: what is left after an error is still listed, and can be removed again.
        for path in sorted(directory.path.iterdir(), key=lambda path: path.name == directory.SUMMARY):
            if path.name != directory.LOCK:
                _remove(path)
    _remove(directory.path)


@dataclass(frozen=True)
class Garbage:
    """Checkpoints that could go.

    Attributes:
        directory: of the run.
        bytes: what removing them gives back.
        reason: why they could go.
    """

    directory: RunDirectory
    bytes: int
    reason: str


def garbage(runs: Path, *, keep: int) -> list[Garbage]:
    """Find the checkpoints of runs that are not among the best.

    Of each metric by which runs were judged the best `keep` runs stay as they are; of others that have ended all
    checkpoints could go, metrics and everything else stay. Runs that could still go on are left alone.

    Args:
        runs: the folder of all runs.
        keep: how many of the best keep their checkpoints.
    """
    judged: dict[tuple[str, str], list[tuple[float, RunDirectory]]] = {}
    hopeless = []
    for directory in listing(runs):
        with contextlib.suppress(StoreError):
            summary = directory.sound_summary()
            if summary["status"] not in ("completed", "stopped"):
                continue
            spec = summary["spec"]
            monitor = (spec["training.monitor.metric"], spec["training.monitor.mode"])
            value = summary["best"]["metrics"].get(monitor[0])
            if value is None:
                hopeless.append(directory)
            else:
                judged.setdefault(monitor, []).append((-value if monitor[1] == "max" else value, directory))
    found = [_garbage(directory, "it has no best epoch") for directory in hopeless]
    for (metric, _), ranked in judged.items():
        ranked.sort(key=lambda each: (each[0], each[1].name))
        found += [
            _garbage(directory, f"{place} of {len(ranked)} by {metric}")
            for place, (_, directory) in enumerate(ranked, start=1)
            if place > keep
        ]
    return [each for each in found if each.bytes]


def drop_checkpoints(directory: RunDirectory, runs: Path) -> None:
    """Remove the checkpoints of a run.

    Raises:
        UsageError: the run does not lie in the folder.
        LockedError: a process trains it.
        StoreError: they cannot be removed.
    """
    _refuse_outside(directory, runs)
    with directory.lock():
        _remove(directory.path / directory.CHECKPOINTS)


def _garbage(directory: RunDirectory, reason: str) -> Garbage:
    return Garbage(directory, sum(_sizes(directory.path / directory.CHECKPOINTS).values()), reason)


def _sizes(folder: Path) -> dict[tuple[int, int], int]:
    found: dict[tuple[int, int], int] = {}
    for path in folder.rglob("*"):
        # Files of a run that is being trained come and go.
        with contextlib.suppress(FileNotFoundError):
            status = path.lstat()
            found[status.st_dev, status.st_ino] = status.st_size
    return found


def _refuse_outside(directory: RunDirectory, runs: Path) -> None:
    if directory.path.is_symlink() or directory.path.resolve().parent != runs.resolve():
        raise UsageError(f"{directory.path} does not lie in {runs}: name its folder with --runs-dir")


def _remove(path: Path) -> None:
    try:
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
    except OSError as error:
        raise StoreError(f"cannot remove {path}: {error.strerror or error}") from error
