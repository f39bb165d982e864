"""Where the state of a sweep is kept: Optuna's journal in the sweep's directory, or a database."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from optuna.exceptions import DuplicatedStudyError
from optuna.storages import BaseStorage, JournalStorage
from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock
from optuna.study import StudyDirection
from typing_extensions import override

from dnntrain.errors import StoreError, UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

GRACE_S: Final = 15
"""After so long, the journal's lock is taken from a holder that was killed. Writing takes milliseconds."""


class Journal(JournalFileBackend):
    """A journal that a full disk, or a process killed in the middle of a line, cannot spoil for the others.

    Optuna's own appends to whatever is there: after half a line nobody can read the journal any more.
    """

    def __init__(self, path: Path) -> None:
        self._lock_of_ours = JournalFileOpenLock(str(path), grace_period=GRACE_S)
        super().__init__(str(path), self._lock_of_ours)
        self._journal = path

    @override
    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        content = "".join(f"{json.dumps(log, separators=(',', ':'))}\n" for log in logs).encode()
        self._lock_of_ours.acquire()
        try:
            with self._journal.open("r+b", buffering=0) as file:
                whole = _whole(file.fileno())
                try:
                    os.ftruncate(file.fileno(), whole)
                    file.seek(whole)
                    if file.write(content) != len(content):
                        raise OSError("only a part could be written")
                    os.fsync(file.fileno())
                except OSError:
                    os.ftruncate(file.fileno(), whole)
                    raise
        except OSError as error:
            raise StoreError(f"cannot write {self._journal}: {error.strerror or error}") from error
        finally:
            self._lock_of_ours.release()


def open_storage(journal: Path, url: str | None = None) -> BaseStorage:
    """Open the storage of a sweep.

    Args:
        journal: the file, where no database is named.
        url: of a database, as SQLAlchemy has it.

    Raises:
        StoreError: it cannot be opened.
        UsageError: what the database needs is not installed.
    """
    if url is None:
        try:
            return JournalStorage(Journal(journal))
        except OSError as error:
            raise StoreError(f"cannot open {journal}: {error.strerror or error}") from error
    from optuna.storages import RDBStorage
    from sqlalchemy.exc import ArgumentError, NoSuchModuleError, SQLAlchemyError

    try:
        return RDBStorage(url)
    except (ArgumentError, NoSuchModuleError) as error:
        raise UsageError(f"{without_password(url)} names no database: {error}") from error
    except ImportError as error:
        raise UsageError(
            f"{without_password(url)} needs a package that is not installed: {error}; for PostgreSQL: "
            "pip install 'dnntrain[postgresql]'"
        ) from error
    except SQLAlchemyError as error:
        raise StoreError(f"cannot open {without_password(url)}: {error}") from error


def without_password(url: str) -> str:
    """Return a database's URL as it may be shown."""
    return re.sub(r"(://[^:/@]*):[^@]*@", r"\1:***@", url)


def study_of(storage: BaseStorage, name: str, directions: Sequence[StudyDirection]) -> int:
    """Return the study of a name, which is made where it is not there yet, also by two at once."""
    try:
        return storage.create_new_study(directions, name)
    except DuplicatedStudyError:
        return storage.get_study_id_from_name(name)


def _whole(descriptor: int) -> int:
    """Return where the last whole line of a file ends."""
    size = os.fstat(descriptor).st_size
    end = size
    while end > 0:
        start = max(0, end - 65_536)
        found = os.pread(descriptor, end - start, start).rfind(b"\n")
        if found >= 0:
            return start + found + 1
        end = start
    return 0
