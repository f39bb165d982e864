"""Files that are either the old one or the whole new one, whatever happens while they are written."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO, Final

from dnntrain.errors import StoreError, UsageError

_TEMPORARY: Final = ".tmp"


def write_atomic(path: Path, write: Callable[[BinaryIO], object], *, previous: Path | None = None) -> None:
    """Write a file under a temporary name in its folder, sync it, and rename it into place.

    Args:
        path: the file to make or replace.
        write: writes the content to the binary file it is given; what it raises leaves the old file as it was.
        previous: the file that the replaced content is kept as, once the new content is whole.

    Raises:
        StoreError: the file system refuses, with its reason.
    """
    temporary = path.with_name(f".{path.name}.{os.urandom(4).hex()}{_TEMPORARY}")
    try:
        try:
            with temporary.open("xb") as file:
                write(file)
                file.flush()
                os.fsync(file.fileno())
            if previous is not None and path.exists():
                _keep(path, previous)
            os.replace(temporary, path)
            sync_folder(path.parent)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        raise StoreError(f"cannot write {path}: {error.strerror or error}") from error


def refuse_existing(path: Path, *, force: bool) -> None:
    """See that a file that a command shall write is not there yet, or may be written over.

    Raises:
        UsageError: it is there and `force` is not given, or it is a folder.
    """
    if os.path.isdir(path):
        raise UsageError(f"{path} is a folder; name a file in it with --output")
    if os.path.lexists(path) and not force:
        raise UsageError(f"{path} is there already; name another file with --output, or write over it with --force")


def link_or_copy(path: Path, other: Path) -> None:
    """Give a file a second name, or copy it where the file system knows no hard links."""
    try:
        os.link(path, other)
    except OSError:
        write_atomic(other, lambda file: file.write(path.read_bytes()))


def remove_leftovers(folder: Path) -> None:
    """Remove the temporary files of writers that were killed; only for a folder that nobody else writes to."""
    for leftover in folder.glob(f".*{_TEMPORARY}"):
        leftover.unlink(missing_ok=True)


def sync_folder(folder: Path) -> None:
    """Make the names in a folder durable."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        # Some network file systems know no sync of folders; they order renames themselves.
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):
            raise
    finally:
        os.close(descriptor)


def _keep(path: Path, previous: Path) -> None:
    """Give the content of `path` the name `previous` too, without a moment in which neither name has it."""
    link = previous.with_name(f".{previous.name}.{os.urandom(4).hex()}{_TEMPORARY}")
    try:
        os.link(path, link)
    except OSError:
        # No hard links here: for a moment only `previous` is there, and whoever resumes looks at both.
        os.replace(path, previous)
        return
    try:
        os.replace(link, previous)
    finally:
        # A rename does nothing when both are names of one file already, as after a crash right here.
        link.unlink(missing_ok=True)
