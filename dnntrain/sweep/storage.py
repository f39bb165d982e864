"""Where the state of a sweep is kept: Optuna's journal in the sweep's directory, or a database."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from io import FileIO
from pathlib import Path
from typing import Any, Final

from optuna import logging
from optuna.exceptions import DuplicatedStudyError, StorageInternalError
from optuna.storages import BaseStorage, JournalStorage, RDBStorage, get_storage
from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock
from optuna.study import StudyDirection
from sqlalchemy import event
from sqlalchemy.engine import Connection
from sqlalchemy.exc import ArgumentError, NoSuchModuleError, SQLAlchemyError
from typing_extensions import override

from dnntrain.errors import StoreError, UsageError
from dnntrain.store.lines import append_whole

GRACE_S: Final = 15
"""After so long, the journal's lock is taken from a holder that was killed. Writing takes milliseconds."""


_PATIENT: Final = {"connect_args": {"timeout": 60}}


class Journal(JournalFileBackend):
    """A journal that a full disk, or a process killed in the middle of a line, cannot spoil for the others.

    Optuna's own appends to whatever is there: after half a line nobody can read the journal any more.

    Args:
        path: the file, made when missing.
        grace: seconds after which the lock is taken from its holder.
    """

    def __init__(self, path: Path, *, grace: int = GRACE_S) -> None:
        self._only_one = JournalFileOpenLock(str(path), grace_period=grace)
        super().__init__(str(path), self._only_one)
        self._journal = path

    @override
    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        content = "".join(f"{json.dumps(log, separators=(',', ':'))}\n" for log in logs).encode()
        try:
            self._only_one.acquire()
            try:
                with FileIO(self._journal, "a+") as file:
                    _mend(file)
                    append_whole(file, content)
                    os.fsync(file.fileno())
            finally:
                # The lock may have been taken from this process while it was stopped. What was appended is whole.
                with suppress(RuntimeError):
                    self._only_one.release()
        except OSError as error:
            raise StoreError(f"cannot write {self._journal}: {error.strerror or error}") from error


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
        except (OSError, ValueError) as error:
            raise StoreError(f"cannot open {journal}: {error}") from error
    shown = without_password(url)
    try:
        database = RDBStorage(url, engine_kwargs=_PATIENT if url.startswith("sqlite") else None)
        if database.engine.dialect.name == "sqlite":
            _take_turns(database)
        return get_storage(database)
    except (ArgumentError, NoSuchModuleError) as error:
        raise UsageError(f"{shown} names no database: {error}") from error
    except ImportError as error:
        raise UsageError(
            f"{shown} needs a package that is not installed: {error}; for PostgreSQL: "
            "pip install 'dnntrain[postgresql]'"
        ) from error
    except (SQLAlchemyError, StorageInternalError) as error:
        raise StoreError(f"cannot open {shown}: {error}") from error


@contextmanager
def explained() -> Iterator[None]:
    """Say it in a word where a storage fails.

    Raises:
        StoreError: it has.
    """
    try:
        yield
    except (SQLAlchemyError, StorageInternalError) as error:
        raise StoreError(f"the database that keeps the sweep's state failed: {error.__cause__ or error}") from error


@contextmanager
def quiet() -> Iterator[None]:
    """Keep Optuna from telling of every study that is made."""
    verbosity = logging.get_verbosity()
    logging.set_verbosity(max(verbosity, logging.WARNING))
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)


def without_password(url: str) -> str:
    """Return a database's URL as it may be shown and kept."""
    return re.sub(r"([?&]password=)[^&]*", r"\1", re.sub(r"(://[^:/@]*):[^@]*@", r"\1@", url))


def studies(storage: BaseStorage) -> list[str]:
    """Return the names of all studies that a storage holds, in the order of making."""
    return [study.study_name for study in storage.get_all_studies()]


def study_of(storage: BaseStorage, name: str, directions: Sequence[StudyDirection]) -> int:
    """Return the study of a name, which is made where it is not there yet, also by two at once."""
    if name not in studies(storage):
        try:
            with quiet():
                return storage.create_new_study(directions, name)
        except DuplicatedStudyError:
            pass
    return storage.get_study_id_from_name(name)


def _take_turns(database: RDBStorage) -> None:
    """Have each transaction of SQLite lock the database first, which knows no locks of rows.

    Else two processes could both read that a ticket waits, and then both take it.
    """

    @event.listens_for(database.engine, "connect")
    def connected(connection: Any, record: object) -> None:
        connection.isolation_level = None

    @event.listens_for(database.engine, "begin")
    def begun(connection: Connection) -> None:
        connection.exec_driver_sql("BEGIN IMMEDIATE")

    database.engine.dispose()


def _mend(file: FileIO) -> None:
    """Cut off half a line that a killed writer has left at the end of a file."""
    size = end = file.seek(0, os.SEEK_END)
    while end > 0:
        start = max(0, end - 65_536)
        found = os.pread(file.fileno(), end - start, start).rfind(b"\n")
        if found >= 0:
            end = start + found + 1
            break
        end = start
    if end < size:
        file.truncate(end)
