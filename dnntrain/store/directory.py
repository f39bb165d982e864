"""The directory of one run."""

from __future__ import annotations

import contextlib
import json
import os
import re
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import Any, BinaryIO, Final

from dnntrain.errors import StoreError
from dnntrain.store import lock
from dnntrain.store.atomic import link_or_copy, remove_leftovers, write_atomic
from dnntrain.store.flat import finite
from dnntrain.store.lines import LineFile
from dnntrain.store.naming import new_folder, started
from dnntrain.store.parsing import parse
from dnntrain.store.soundness import check_notes, check_summary

SCHEMA: Final = 1
STATUSES: Final = ("running", "completed", "stopped", "interrupted", "failed")

_CHECKPOINT: Final = re.compile(r"[A-Za-z0-9_-]+\.pt")
_STEP: Final = re.compile(r"step-(\d{8,})\.pt")


class RunDirectory:
    """Writes and reads one run; the only place that knows the names of its files.

    Files that are replaced are replaced as a whole; metrics and log grow line by line. A run directory can be moved
    or copied, as nothing in it names its own place.

    Args:
        path: the directory, which need not hold a run yet.
    """

    SPEC: Final = "spec.yaml"
    ENVIRONMENT: Final = "environment.json"
    METRICS: Final = "metrics.jsonl"
    SUMMARY: Final = "summary.json"
    CHECKPOINTS: Final = "checkpoints"
    NOTES: Final = "notes.json"
    DIVERGENCE: Final = "divergence.json"
    TRACKING: Final = "tracking.json"
    LOCK: Final = "lock"
    TENSORBOARD: Final = "tensorboard"
    LOG: Final = "log.txt"
    PRETRAINING: Final = "pretraining"

    LAST: Final = "last.pt"
    PREVIOUS: Final = "previous.pt"
    BEST: Final = "best.pt"

    def __init__(self, path: Path) -> None:
        self.path = path
        self.name = Path(os.path.abspath(path)).name

    @cached_property
    def _metrics(self) -> LineFile:
        return LineFile(self.path / self.METRICS, is_whole=_is_row)

    @cached_property
    def _log(self) -> LineFile:
        return LineFile(self.path / self.LOG, is_whole=lambda tail: True)

    @classmethod
    def create(cls, runs: Path, name: str, *, now: datetime | None = None) -> RunDirectory:
        """Make a new directory NAME-YYYYMMDD-HHMMSS-TOKEN, also when another run starts in the same second.

        Args:
            runs: the folder of all runs, made when missing.
            name: the experiment's name: letters, digits, - and _.
            now: when the run starts, in local time.

        Raises:
            UsageError: the name cannot be a folder's name.
            StoreError: the directory cannot be made.
        """
        return cls(new_folder(runs, name, now=now))

    @classmethod
    def at(cls, path: Path) -> RunDirectory:
        """Make a directory of a name that was decided before, or take it as it is where it holds no run yet.

        Raises:
            StoreError: the directory cannot be made, or holds a run.
        """
        try:
            path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StoreError(f"cannot make the run directory {path}: {error.strerror or error}") from error
        if (path / cls.SUMMARY).exists():
            raise StoreError(f"{path} holds a run already")
        return cls(path)

    @cached_property
    def started(self) -> datetime | None:
        """When the run started, as its folder's name tells; None for a folder of another name."""
        return started(self.name)

    def pretraining(self, name: str) -> RunDirectory:
        """Return the directory of one of the run's pretrainings, made where it is not there yet.

        Raises:
            StoreError: it cannot be made.
        """
        path = self.path / self.PRETRAINING / name
        try:
            path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StoreError(f"cannot make {path}: {error.strerror or error}") from error
        return RunDirectory(path)

    @property
    def around(self) -> RunDirectory | None:
        """The run whose pretraining this is; None for a run of its own."""
        folder = Path(os.path.abspath(self.path)).parent
        own = folder.name != self.PRETRAINING or not (folder.parent / self.SUMMARY).exists()
        return None if own else RunDirectory(folder.parent)

    @property
    def tensorboard(self) -> Path:
        """The folder of TensorBoard's event files."""
        return self.path / self.TENSORBOARD

    def write_spec(self, text: str) -> None:
        """Write the resolved specification, as YAML text."""
        write_atomic(self.path / self.SPEC, lambda file: file.write(text.encode()))

    def write_environment(self, environment: dict[str, Any]) -> None:
        """Write what the run ran on."""
        self._write_json(self.ENVIRONMENT, environment)

    def write_summary(self, summary: dict[str, Any]) -> dict[str, Any]:
        """Write the summary, and return it with its schema number, which is added here."""
        numbered = {"schema": SCHEMA} | summary | {"schema": SCHEMA}
        self._write_json(self.SUMMARY, numbered)
        return numbered

    def write_notes(self, notes: dict[str, Any]) -> None:
        """Write tags and notes."""
        self._write_json(self.NOTES, notes)

    def write_tracking(self, known: dict[str, Any]) -> None:
        """Write by what names other tools know the run."""
        self._write_json(self.TRACKING, known)

    def write_divergence(self, report: dict[str, Any]) -> None:
        """Write how the run diverged."""
        self._write_json(self.DIVERGENCE, report)

    def append_metrics(self, row: dict[str, Any]) -> None:
        """Append the figures of one epoch, under flat keys; numbers that are not finite become null."""
        self._metrics.append(json.dumps(finite(row), ensure_ascii=False, allow_nan=False))

    def log(self, text: str) -> None:
        """Append to the log, each line with the time."""
        stamp = datetime.now().astimezone().isoformat(timespec="seconds")
        for line in text.splitlines():
            self._log.append(f"{stamp} {line}")

    def sync_metrics(self) -> None:
        """Make the metrics durable."""
        self._metrics.sync()

    def sync_log(self) -> None:
        """Make the log durable."""
        self._log.sync()

    def close(self) -> None:
        """Close metrics and log."""
        self._metrics.close()
        self._log.close()

    def truncate_metrics(self, epoch: int) -> None:
        """Cut the rows past an epoch, and a torn last line.

        Raises:
            StoreError: a row cannot be read, or the file cannot be written.
        """
        self._metrics.close()
        rows = [row for row in self.metrics() if row.get("epoch", epoch) <= epoch]
        if (self.path / self.METRICS).exists():
            text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
            write_atomic(self.path / self.METRICS, lambda file: file.write(_encode(text)))

    @staticmethod
    def step_checkpoint(step: int) -> str:
        """Name the checkpoint that is kept for an optimizer step."""
        return f"step-{step:08d}.pt"

    def checkpoint(self, name: str) -> Path:
        """Return where a checkpoint lies, whether or not it is there: `LAST`, `BEST`, a `step_checkpoint`, ..."""
        if not _CHECKPOINT.fullmatch(name):
            raise ValueError(f"not the name of a checkpoint: {name!r}")
        return self.path / self.CHECKPOINTS / name

    def step_checkpoints(self) -> list[Path]:
        """Return the checkpoints kept for steps, in the order of the steps."""
        return [path for _, path in self._by_step()]

    def _by_step(self) -> list[tuple[int, Path]]:
        found = [(_STEP.fullmatch(path.name), path) for path in (self.path / self.CHECKPOINTS).glob("step-*.pt")]
        return sorted((int(match[1]), path) for match, path in found if match)

    def save_checkpoint(self, name: str, write: Callable[[BinaryIO], object]) -> None:
        """Write a checkpoint as a whole; the `LAST` one that it replaces becomes `PREVIOUS`.

        Args:
            name: the file's name.
            write: writes the content to the file it is given; what it raises leaves all checkpoints as they were.

        Raises:
            StoreError: the file system refuses.
        """
        path = self.checkpoint(name)
        try:
            path.parent.mkdir(exist_ok=True)
        except OSError as error:
            raise StoreError(f"cannot make {path.parent}: {error.strerror or error}") from error
        write_atomic(path, write, previous=self.checkpoint(self.PREVIOUS) if name == self.LAST else None)

    def keep_checkpoint(self, step: int, keep: int) -> None:
        """Keep the `LAST` checkpoint under the name of its step as well, and of all such only the latest ones.

        Args:
            step: the optimizer step that it is of.
            keep: how many are kept.

        Raises:
            StoreError: the file system refuses.
        """
        path = self.checkpoint(self.step_checkpoint(step))
        try:
            if keep:
                path.unlink(missing_ok=True)
                link_or_copy(self.checkpoint(self.LAST), path)
            for old in self.step_checkpoints()[: -keep or None]:
                old.unlink(missing_ok=True)
        except OSError as error:
            raise StoreError(f"cannot write {path}: {error.strerror or error}") from error

    def drop_checkpoints(self, *, before: Path | None, after: int) -> None:
        """Remove the checkpoints that training has gone back past, or passed over because they are damaged.

        Left where they are, they would be kept as `PREVIOUS` in place of the good one.

        Args:
            before: the checkpoint that training goes on from; None for its start.
            after: the optimizer step that this one is of; those kept for later steps are taken anew.

        Raises:
            StoreError: the file system refuses.
        """
        try:
            for name in (self.LAST, self.PREVIOUS):
                if self.checkpoint(name) == before:
                    break
                self.checkpoint(name).unlink(missing_ok=True)
            for step, path in self._by_step():
                if step > after:
                    path.unlink(missing_ok=True)
        except OSError as error:
            raise StoreError(f"cannot clear {self.path / self.CHECKPOINTS}: {error.strerror or error}") from error

    def resumable(self) -> list[Path]:
        """Return the checkpoints that are there to go on from, the one to try first at the front."""
        found = [self.checkpoint(self.LAST), self.checkpoint(self.PREVIOUS), *reversed(self.step_checkpoints())]
        return [path for path in found if path.exists()]

    @contextlib.contextmanager
    def lock(self) -> Iterator[None]:
        """Hold the run: nobody else may go on with it meanwhile, and its status can be `running`.

        Raises:
            LockedError: another process holds it.
            StoreError: the lock's file cannot be made.
        """
        with lock.hold(self.path / self.LOCK):
            for folder in (self.path, self.path / self.CHECKPOINTS):
                remove_leftovers(folder)
            yield

    def is_locked(self) -> bool:
        """Whether anybody holds the run."""
        return lock.is_held(self.path / self.LOCK)

    def status(self, summary: Mapping[str, Any] | None = None) -> str:
        """Return one of `STATUSES`; a run that says `running` while nobody holds it is `interrupted`.

        Args:
            summary: the summary where it has just been read.

        Raises:
            StoreError: there is no summary, or it is damaged.
        """
        status = self._stated(summary)
        if status != "running" or self.is_locked():
            return status
        # Its holder may have ended, and said so, since the summary was read.
        status = self._stated()
        return "interrupted" if status == "running" else status

    def summary(self) -> dict[str, Any]:
        """Read the summary.

        Raises:
            StoreError: it is missing or damaged, or a newer dnntrain wrote it.
        """
        summary = self._read_json(self.SUMMARY)
        schema = summary.get("schema")
        if type(schema) is not int or schema < 1:
            raise StoreError(f"{self.path / self.SUMMARY} is damaged: it has no schema number")
        if schema > SCHEMA:
            raise StoreError(
                f"{self.path / self.SUMMARY} was written by a newer dnntrain (schema {schema}, known up to {SCHEMA}): "
                "upgrade dnntrain to read it"
            )
        return summary

    def sound_summary(self) -> dict[str, Any]:
        """Read the summary, and see that it has all that is shown and compared; its `status` is that of now.

        Raises:
            StoreError: it is missing or damaged, or a newer dnntrain wrote it.
        """
        summary = self.summary()
        check_summary(self.path / self.SUMMARY, summary)
        return {**summary, "status": self.status(summary)}

    def environment(self) -> dict[str, Any]:
        """Read what the run ran on.

        Raises:
            StoreError: it is missing or damaged.
        """
        return self._read_json(self.ENVIRONMENT)

    def notes(self) -> dict[str, Any]:
        """Read tags and notes; a run without any has empty ones.

        Raises:
            StoreError: they are damaged.
        """
        if not os.path.exists(f"{self.path}/{self.NOTES}"):
            return {}
        notes = self._read_json(self.NOTES)
        check_notes(self.path / self.NOTES, notes)
        return notes

    def tracking(self) -> dict[str, Any]:
        """Read by what names other tools know the run; nothing where none does.

        Raises:
            StoreError: it is damaged.
        """
        return self._read_json(self.TRACKING) if (self.path / self.TRACKING).exists() else {}

    def spec_text(self) -> str:
        """Read the resolved specification, as YAML text.

        Raises:
            StoreError: it is missing or damaged.
        """
        try:
            return self._read(self.SPEC).decode()
        except UnicodeDecodeError as error:
            raise StoreError(f"{self.path / self.SPEC} is damaged: it is not UTF-8") from error

    def metrics(self) -> list[dict[str, Any]]:
        """Read the rows of all epochs; a torn last line, and a file that is not there yet, count as nothing.

        Raises:
            StoreError: a line before the last is broken.
        """
        path = self.path / self.METRICS
        lines = self._read(self.METRICS).split(b"\n") if path.exists() else []
        if lines and not lines[-1]:
            lines.pop()
        if (whole := _rows(lines)) is not None:
            return whole
        rows: list[dict[str, Any]] = []
        for number, line in enumerate(lines, start=1):
            row = _row(line)
            if row is not None:
                rows.append(row)
            elif number < len(lines):
                raise StoreError(f"{path}:{number}: this line is broken; mend or remove it to read the others")
        return rows

    def _stated(self, summary: Mapping[str, Any] | None = None) -> str:
        status = (self.summary() if summary is None else summary).get("status")
        if status not in STATUSES:
            raise StoreError(f"{self.path / self.SUMMARY} is damaged: '{status}' is no status")
        return str(status)

    def _write_json(self, name: str, content: dict[str, Any]) -> None:
        text = json.dumps(finite(content), indent=2, ensure_ascii=False, allow_nan=False) + "\n"
        write_atomic(self.path / name, lambda file: file.write(_encode(text)))

    def _read_json(self, name: str) -> dict[str, Any]:
        try:
            content = parse(self._read(name))
        except (ValueError, RecursionError) as error:
            raise StoreError(f"{self.path / name} is damaged: {error}") from error
        if not isinstance(content, dict):
            raise StoreError(f"{self.path / name} is damaged: it holds no JSON object")
        return content

    def _read(self, name: str) -> bytes:
        try:
            # Not through Path, which takes longer than the file does where a thousand runs are read.
            with open(f"{self.path}/{name}", "rb") as file:
                return file.read()
        except FileNotFoundError as error:
            raise StoreError(f"{self.path} has no {name}: is it a run directory?") from error
        except OSError as error:
            raise StoreError(f"cannot read {self.path / name}: {error.strerror or error}") from error


def _encode(text: str) -> bytes:
    # A lone surrogate, from a file name that is not UTF-8, becomes the escape by which JSON writes it.
    return text.encode("utf-8", "backslashreplace")


def _rows(lines: list[bytes]) -> list[dict[str, Any]] | None:
    """Read all lines at once, which is much faster than one by one; None where one of them may be broken."""
    # With a brace at the start of each and none within, no line can go on in the next one.
    if not all(line.startswith(b"{") and line.count(b"{") == 1 for line in lines):
        return None
    try:
        rows = parse(b"[" + b",".join(lines) + b"]")
    except (ValueError, RecursionError):
        return None
    return rows if len(rows) == len(lines) and all(isinstance(row, dict) for row in rows) else None


def _row(line: bytes) -> dict[str, Any] | None:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return row if isinstance(row, dict) else None


def _is_row(line: bytes) -> bool:
    return _row(line) is not None
