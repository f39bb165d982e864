"""What a file of weights comes to, and what its readers share."""

from __future__ import annotations

import importlib
import lzma
import struct
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

from torch import Tensor

from dnntrain.errors import DataError, UsageError, shorten, suggest

# How much more than the file itself what it unpacks to may take; formats of weights hardly compress.
MOST_UNPACKED: Final = 64
_LISTED: Final = 12

# What the libraries that read these formats raise for damaged files.
_UNREADABLE: Final = (
    *(OSError, EOFError, ValueError, KeyError, IndexError, TypeError, AttributeError, RuntimeError, OverflowError),
    *(MemoryError, zipfile.BadZipFile, zlib.error, lzma.LZMAError, struct.error),
)


@dataclass(frozen=True, eq=False)
class Weights:
    """Weights by the names of a network of ours.

    Attributes:
        tensors: by name, such as `dense1.weight`; kernels shaped (out, in) and (out, in, height, width).
        source: the file, for messages.
        activations: what follows each layer, such as `{"dense1": "relu", "output": "softmax"}`, where the file says.
        remarks: what a file of ours must say besides, so that the network gives the same numbers.
    """

    tensors: Mapping[str, Tensor]
    source: str
    activations: Mapping[str, str] = field(default_factory=dict)
    remarks: tuple[str, ...] = ()


def renamed(weights: Weights, names: Mapping[str, str]) -> Weights:
    """Return only the tensors that are named, under other names.

    Args:
        weights: what was read.
        names: from a name of ours to one of the file: of a tensor, or of a layer with all tensors in it.

    Raises:
        DataError: the file has no such tensor or layer.
    """
    tensors: dict[str, Tensor] = {}
    for ours, theirs in names.items():
        inside = {name: tensor for name, tensor in weights.tensors.items() if name.startswith(f"{theirs}.")}
        if theirs in weights.tensors:
            tensors[ours] = weights.tensors[theirs]
        elif inside:
            tensors |= {ours + name.removeprefix(theirs): tensor for name, tensor in inside.items()}
        else:
            hint = suggest(theirs, weights.tensors, limit=_LISTED)
            raise DataError(f"{weights.source} has no tensor and no layer '{shorten(theirs)}'\n    {hint}")
    return replace(weights, tensors=tensors)


@contextmanager
def reading(path: Path, kind: str) -> Iterator[None]:
    """Turn what a library raises for a file that it cannot read into a DataError.

    Args:
        path: the file.
        kind: what it should have been, such as `an HDF5 file`.
    """
    try:
        yield
    except _UNREADABLE as error:
        reason = shorten(str(error) or type(error).__name__, 200)
        raise DataError(f"{path} is damaged, or not {kind}: {reason}") from error


def library(name: str, path: Path) -> Any:
    """Import what reads a format.

    Raises:
        UsageError: it is not installed.
    """
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise UsageError(f"reading {path} needs {name}: pip install 'dnntrain[formats]'") from error
