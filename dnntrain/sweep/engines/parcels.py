"""Run directories on their way between machines, in pieces, and their arrival: whole, or not at all."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO, Final

from dnntrain.errors import StoreError
from dnntrain.store import RunDirectory, write_atomic
from dnntrain.store.atomic import sync_folder

_CHUNK: Final = 8 * 2**20

Parcel = dict[str, list[Any]]
"""A directory on its way: file -> references to the pieces of its content, which lie where both sides reach them."""


def pack(directory: Path, put: Callable[[bytes], Any]) -> Parcel:
    """Take up the files of a directory that nobody writes to; nothing where it is not there."""
    parcel: Parcel = {}
    for path in sorted(directory.rglob("*")):
        if path.is_file() and path.name != RunDirectory.LOCK:
            with path.open("rb") as file:
                parcel[path.relative_to(directory).as_posix()] = [put(piece) for piece in iter(_next(file), b"")]
    return parcel


def _next(file: BinaryIO) -> Callable[[], bytes]:
    return lambda: file.read(_CHUNK)


def unpack(parcel: Parcel, get: Callable[[Any], bytes], folder: Path) -> None:
    """Write the files of a directory, one piece in memory at a time, each durable before the next."""
    for name, pieces in parcel.items():
        path = folder / name
        if not path.resolve().is_relative_to(folder.resolve()):
            raise StoreError(f"a node has sent a file that leads out of its run: {name}")
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(path, _writer(pieces, get))


def _writer(pieces: list[Any], get: Callable[[Any], bytes]) -> Callable[[BinaryIO], None]:
    def write(file: BinaryIO) -> None:
        for piece in pieces:
            file.write(get(piece))

    return write


def bring_home(parcel: Parcel, get: Callable[[Any], bytes], directory: Path) -> None:
    """Put a run in the place of what was there of it, when it has arrived as a whole.

    Raises:
        StoreError: it cannot be written.
    """
    mend(directory)
    token = os.urandom(4).hex()
    arriving, before = (directory.with_name(f".{directory.name}.{token}.{what}") for what in ("arriving", "before"))
    try:
        directory.parent.mkdir(parents=True, exist_ok=True)
        try:
            unpack(parcel, get, arriving)
            if directory.exists():
                directory.rename(before)
            arriving.rename(directory)
            sync_folder(directory.parent)
        finally:
            mend(directory)
    except OSError as error:
        raise StoreError(f"cannot bring home {directory}: {error.strerror or error}") from error


def mend(directory: Path) -> None:
    """Clear up after an arrival, however it ended: one that died between its two renames is taken back."""
    for before in directory.parent.glob(f".{directory.name}.*.before"):
        if directory.exists():
            shutil.rmtree(before)
        else:
            before.rename(directory)
    for arriving in directory.parent.glob(f".{directory.name}.*.arriving"):
        shutil.rmtree(arriving)
