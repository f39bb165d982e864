"""Names of the folders that runs and sweeps are kept in: NAME-YYYYMMDD-HHMMSS-TOKEN."""

from __future__ import annotations

import contextlib
import os
import re
from datetime import datetime
from pathlib import Path
from typing import Final

from dnntrain.errors import StoreError, UsageError

_NAME: Final = re.compile(r"[A-Za-z0-9_-]{1,200}")
_FOLDER: Final = re.compile(r".+-(\d{4})(\d\d)(\d\d)-(\d\d)(\d\d)(\d\d)-[0-9a-f]{4}", re.ASCII)
_STAMP: Final = "%Y%m%d-%H%M%S"
_TRIES: Final = 200


def new_name(name: str, *, now: datetime | None = None) -> str:
    """Return a name that hardly another folder has.

    Args:
        name: the experiment's name: letters, digits, - and _.
        now: when it starts, in local time.

    Raises:
        UsageError: the name cannot be a folder's name.
    """
    _check(name)
    return f"{name}-{(now or datetime.now()).strftime(_STAMP)}-{os.urandom(2).hex()}"


def new_folder(parent: Path, name: str, *, now: datetime | None = None) -> Path:
    """Make a new folder, also when another one starts in the same second.

    Args:
        parent: made when missing.
        name: see `new_name`.
        now: see `new_name`.

    Raises:
        UsageError: the name cannot be a folder's name.
        StoreError: the folder cannot be made.
    """
    moment = now or datetime.now()
    _check(name)
    try:
        parent.mkdir(parents=True, exist_ok=True)
        for _ in range(_TRIES):
            path = parent / new_name(name, now=moment)
            with contextlib.suppress(FileExistsError):
                path.mkdir()
                return path
    except OSError as error:
        blocked = isinstance(error, FileExistsError | NotADirectoryError)
        reason = "a file is in the way" if blocked else error.strerror or error
        raise StoreError(f"cannot make a run directory in {parent}: {reason}") from error
    raise StoreError(f"cannot make a run directory in {parent}: too many runs named {name} started in this second")


def _check(name: str) -> None:
    if not _NAME.fullmatch(name):
        raise UsageError(
            f"a run cannot be named '{name}': a name has letters (a-z, A-Z), digits, - and _ only, 200 at most"
        )


def started(folder: str) -> datetime | None:
    """Return when what a folder keeps was started, as its name tells; None for a folder of another name."""
    if (found := _FOLDER.fullmatch(folder)) is None:
        return None
    # Not strptime, which takes three times as long.
    year, month, day, hour, minute, second = map(int, found.groups())
    try:
        return datetime(year, month, day, hour, minute, second)
    except ValueError:
        return None
