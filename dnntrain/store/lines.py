"""Files that grow line by line while a run goes on, and survive its being killed."""

from __future__ import annotations

import os
from collections.abc import Callable
from io import FileIO
from pathlib import Path

from dnntrain.errors import StoreError


class LineFile:
    """Appends whole lines; the file is opened by the first of them.

    Each line goes to the operating system at once, so it outlives this process; `sync` makes it outlive the machine.

    Args:
        path: the file, made when missing.
        is_whole: says whether a last line without its line end is complete. If so it is ended, else it is cut off,
            so that the next line does not grow onto the torn one.
    """

    def __init__(self, path: Path, *, is_whole: Callable[[bytes], bool]) -> None:
        self._path = path
        self._is_whole = is_whole
        self._file: FileIO | None = None

    def append(self, line: str) -> None:
        """Append one line, or nothing of it.

        Raises:
            StoreError: the file system refuses.
        """
        try:
            if self._file is None:
                self._file = self._open()
            append_whole(self._file, line.encode("utf-8", "backslashreplace") + b"\n")
        except OSError as error:
            raise StoreError(f"cannot write {self._path}: {error.strerror or error}") from error

    def sync(self) -> None:
        """Make what was appended durable.

        Raises:
            StoreError: the file system refuses.
        """
        if self._file is None:
            return
        try:
            os.fsync(self._file.fileno())
        except OSError as error:
            raise StoreError(f"cannot write {self._path}: {error.strerror or error}") from error

    def close(self) -> None:
        """Close the file; another line opens it again."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def _open(self) -> FileIO:
        content = self._path.read_bytes() if self._path.exists() else b""
        file = FileIO(self._path, "a+")
        tail = content[content.rfind(b"\n") + 1 :]
        if tail and self._is_whole(tail):
            file.write(b"\n")
        elif tail:
            file.truncate(len(content) - len(tail))
        return file


def append_whole(file: FileIO, content: bytes) -> None:
    """Append everything, or leave the file as it was: a full disk takes the first half of a line.

    Raises:
        OSError: the file system refuses.
    """
    start = file.seek(0, os.SEEK_END)
    try:
        while content:
            content = content[file.write(content) or 0 :]
    except OSError:
        file.truncate(start)
        raise
