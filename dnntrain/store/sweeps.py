"""The directory of a sweep: what is searched, the state of the search, and the runs."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final

from dnntrain.errors import StoreError, UsageError
from dnntrain.store.atomic import write_atomic
from dnntrain.store.directory import RunDirectory
from dnntrain.store.flat import finite
from dnntrain.store.naming import new_folder


class SweepDirectory:
    """Writes and reads one sweep; the only place that knows the names of its files.

    A sweep's directory can be moved or copied: runs are named by their paths from it.

    Args:
        path: the directory, which need not hold a sweep yet.
    """

    SWEEP: Final = "sweep.yaml"
    JOURNAL: Final = "journal.log"
    RUNS: Final = "runs.jsonl"
    STORAGE: Final = "storage.json"
    BEST: Final = "best.yaml"
    FOLDER: Final = "runs"
    LEASES: Final = "leases"

    def __init__(self, path: Path) -> None:
        self.path = path
        self.name = path.resolve().name

    @classmethod
    def create(cls, runs: Path, name: str) -> SweepDirectory:
        """Make a new directory NAME-YYYYMMDD-HHMMSS-TOKEN.

        Raises:
            UsageError: the name cannot be a folder's name.
            StoreError: the directory cannot be made.
        """
        made = cls(new_folder(runs, name))
        made.runs.mkdir()
        return made

    @classmethod
    def find(cls, path: Path) -> SweepDirectory:
        """Return the sweep that is kept in a folder.

        Raises:
            UsageError: there is none.
        """
        if not (path / cls.SWEEP).is_file():
            raise UsageError(f"{path} is no directory of a sweep: it has no {cls.SWEEP}")
        return cls(path)

    @classmethod
    def within(cls, folder: Path) -> list[SweepDirectory]:
        """Return the sweeps that are kept in a folder, by their names."""
        return [cls(path.parent) for path in sorted(folder.glob(f"*/{cls.SWEEP}"))]

    @property
    def runs(self) -> Path:
        """The folder of its runs."""
        return self.path / self.FOLDER

    @property
    def journal(self) -> Path:
        """The file in which the state of the search is kept, unless a database keeps it."""
        return self.path / self.JOURNAL

    @property
    def leases(self) -> Path:
        """The folder in which those who train say that they are alive."""
        return self.path / self.LEASES

    def write_storage(self, url: str, study: str) -> None:
        """Write down that a database keeps the state of the search.

        Args:
            url: of the database, without a password.
            study: by which name.
        """
        content = json.dumps({"url": url, "study": study}, indent=2) + "\n"
        write_atomic(self.path / self.STORAGE, lambda file: file.write(content.encode()))

    def storage(self) -> tuple[str, str] | None:
        """Read which database keeps the state of the search, and by which name; None where the journal does.

        Raises:
            StoreError: the file is damaged.
        """
        path = self.path / self.STORAGE
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            return str(content["url"]), str(content["study"])
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise StoreError(f"{path} is damaged: {error}") from error

    def write_sweep(self, text: str) -> None:
        """Write what is searched: an experiment file with its section `sweep`."""
        write_atomic(self.path / self.SWEEP, lambda file: file.write(text.encode()))

    def sweep_text(self) -> str:
        """Read what is searched.

        Raises:
            StoreError: it is missing or damaged.
        """
        try:
            return (self.path / self.SWEEP).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise StoreError(f"cannot read {self.path / self.SWEEP}: {error}") from error

    def write_best(self, text: str) -> None:
        """Write the best configuration, as an experiment file."""
        write_atomic(self.path / self.BEST, lambda file: file.write(text.encode()))

    def write_runs(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """Write the table of the runs, a line for each; numbers that are not finite become null."""
        lines = [json.dumps(finite(dict(row)), ensure_ascii=False, allow_nan=False) + "\n" for row in rows]
        write_atomic(self.path / self.RUNS, lambda file: file.write("".join(lines).encode()))

    def read_runs(self) -> list[dict[str, Any]]:
        """Read the table of the runs; nothing where it is not written yet.

        Raises:
            StoreError: it is damaged.
        """
        try:
            text = (self.path / self.RUNS).read_text(encoding="utf-8")
            return [json.loads(line) for line in text.splitlines()]
        except FileNotFoundError:
            return []
        except (OSError, ValueError) as error:
            raise StoreError(f"{self.path / self.RUNS} is damaged: {error}") from error

    def relative(self, run: RunDirectory) -> str:
        """Name a run by its path from this directory."""
        return Path(os.path.relpath(run.path.resolve(), self.path.resolve())).as_posix()
