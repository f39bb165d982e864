"""NumPy's files and pictures, opened so that whatever is wrong with them is told in one way.

A file that is damaged, or made to do harm, leads the libraries that decode it to raise a dozen kinds of exceptions;
they are listed here, once.
"""

from __future__ import annotations

import lzma
import os
import struct
import tokenize
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np

from dnntrain.errors import DataError

if TYPE_CHECKING:
    from PIL import Image

_NUMPY_ERRORS: Final = (
    OSError,
    EOFError,
    ValueError,
    MemoryError,  # the header promises more than there can be
    OverflowError,
    SyntaxError,  # the header is no Python literal
    tokenize.TokenError,
    RuntimeError,  # zipfile: encrypted, or a feature of zip that it does not know
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
)


@contextmanager
def numpy_file(said: str) -> Iterator[None]:
    """Turn what NumPy raises for a file that it cannot read into a DataError.

    Args:
        said: how the message begins, such as the file and that it is damaged.
    """
    try:
        yield
    except _NUMPY_ERRORS as error:
        reason = "not enough memory for what it claims to hold" if isinstance(error, MemoryError) else error
        raise DataError(f"{said}: {reason}") from error


def archived(archive: np.lib.npyio.NpzFile, name: str) -> np.ndarray:
    """Read one array of an archive.

    Raises:
        ValueError: it is no array, or unpacks to more than the memory of this machine.
    """
    members = archive.zip.infolist() if archive.zip else []
    size = sum(each.file_size for each in members if each.filename in (name, f"{name}.npy"))
    if size > memory():
        raise ValueError(f"it unpacks to {size:,} bytes, more than this machine has memory")
    array = archive[name]
    if not isinstance(array, np.ndarray):
        raise ValueError("it does not start like an array")
    return array


def memory() -> int:
    """Return the bytes of memory that this machine has."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


@contextmanager
def picture(file: str | Path, said: str) -> Iterator[Image.Image]:
    """Open a picture; a DataError comes of everything that Pillow raises meanwhile.

    Args:
        file: the picture.
        said: how the message begins, such as the file and that it cannot be read.
    """
    from PIL import Image

    try:
        with Image.open(file) as image:
            yield image
    except (OSError, SyntaxError, ValueError, EOFError, struct.error, Image.DecompressionBombError) as error:
        raise DataError(f"{said}: {error}") from error
