"""The prepared cache: a data set is decoded once, then opened in no time by every later run.

`<cache>/prepared/<key>/` holds one `.npy` file per array and `meta.json`. The key is a hash of the data set's name,
its options and the state of its files, so a changed file is decoded anew. A folder appears whole or not at all: it is
written under another name, synced and renamed. One that was torn all the same (a power cut, a full disk, a stray
copy) is noticed when it is opened, and made again.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import shutil
import uuid
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any, BinaryIO, Final

import numpy as np

from dnntrain import interruption
from dnntrain.parts.datasets.base import ARRAY_NAMES, Arrays, Decoded, Source, cache_folder
from dnntrain.registry import Choice, plain

FORMAT: Final = 1  # raise it when the same files would be decoded to something else
_BLOCK: Final = 1 << 16
_BLOCKS: Final = 16
_HASH_STEP: Final = 1 << 24

_log = logging.getLogger("dnntrain")


def open_dataset(choice: Choice, *, cache: Path | None = None) -> Arrays:
    """Open a data set: from the prepared cache if it lies there, else decode it and leave it there.

    Args:
        choice: a part of the family `datasets`.
        cache: the cache folder; DNNTRAIN_CACHE or the user's cache folder if None.

    Returns:
        The arrays. They are mapped into memory copy-on-write, so that processes share their pages and none can
        change the cache; where the cache cannot be written they are ordinary arrays.

    Raises:
        DataError: the data is missing, damaged, or cannot be downloaded.
    """
    source: Source = choice.build()
    if source.fetch is not None:
        source.fetch()
        source = choice.build()
    key = {"format": FORMAT, "dataset": choice.name, "options": plain(choice.options), **source.key}
    digest = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()[:32]
    folder = (cache or cache_folder()) / "prepared" / digest
    prepared = _open(folder)
    if prepared is not None:
        return prepared
    _log.info("decoding %s", choice.name)
    arrays = _identify(source.load())
    try:
        _store(arrays, key, folder)
    except OSError as error:
        _log.warning("%s is used from memory: the cache %s cannot be written (%s)", choice.name, folder.parent, error)
        return arrays
    return _open(folder) or arrays


def fingerprint(decoded: Decoded) -> str:
    """Return the SHA-256 of the content: each array's name, type, shape and bytes, and the names of the classes."""
    content = hashlib.sha256()
    for name, array in decoded.arrays().items():
        content.update(f"{name} {array.dtype.str} {array.shape};".encode())
        data = np.ascontiguousarray(array).data.cast("B")
        for start in range(0, len(data), _HASH_STEP):
            interruption.check()
            content.update(data[start : start + _HASH_STEP])
    content.update(json.dumps(decoded.classes).encode())
    return content.hexdigest()


def _identify(decoded: Decoded) -> Arrays:
    values: dict[str, Any] = {item.name: getattr(decoded, item.name) for item in fields(Decoded)}
    for name, array in decoded.arrays().items():
        values[name] = np.require(array, requirements=["C", "W"])
    return Arrays(**values, fingerprint=fingerprint(decoded))


def _open(folder: Path) -> Arrays | None:
    """Map a prepared data set into memory; None if there is none, or if what is there is not whole."""
    try:
        meta = json.loads((folder / "meta.json").read_text(encoding="utf-8"))
        arrays: dict[str, Any] = dict.fromkeys(ARRAY_NAMES)
        for name, check in meta["checks"].items():
            path = folder / f"{name}.npy"
            with path.open("rb") as stream:
                if _check(stream) != check:
                    return None
            arrays[name] = np.load(path, mmap_mode="c", allow_pickle=False)
        described: dict[str, Any] = meta["described"]
        for name in ("classes", "feature_names"):
            if described[name] is not None:
                described[name] = tuple(described[name])
        return Arrays(**arrays, **described)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        # Whatever a torn folder looks like, the answer is the same: decode again.
        return None


def _check(stream: BinaryIO) -> str:
    """Return the size of a file and a hash of blocks spread over it, the first and the last always among them."""
    size = stream.seek(0, os.SEEK_END)
    content = hashlib.sha256()
    last = max(0, size - _BLOCK)
    for start in sorted({last * i // (_BLOCKS - 1) for i in range(_BLOCKS)}):
        stream.seek(start)
        content.update(stream.read(_BLOCK))
    return f"{size}:{content.hexdigest()}"


def _store(arrays: Arrays, key: Mapping[str, Any], folder: Path) -> None:
    """Write a prepared data set under a temporary name and move it into place.

    Raises:
        OSError: the cache cannot be written.
    """
    partial = _temporary(folder)
    try:
        partial.mkdir(parents=True)
        _write(arrays, key, partial)
        _move_into_place(partial, folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _write(arrays: Arrays, key: Mapping[str, Any], folder: Path) -> None:
    checks = {}
    for name, array in arrays.arrays().items():
        interruption.check()
        with (folder / f"{name}.npy").open("w+b") as stream:
            np.save(stream, array, allow_pickle=False)
            _sync(stream)
            checks[name] = _check(stream)
    described = {item.name: getattr(arrays, item.name) for item in fields(Arrays) if item.name not in ARRAY_NAMES}
    with (folder / "meta.json").open("wb") as stream:
        stream.write(json.dumps({"key": key, "described": described, "checks": checks}, indent=1).encode())
        _sync(stream)
    _sync_folder(folder)


def _move_into_place(partial: Path, folder: Path) -> None:
    # A folder cannot be renamed over one that holds files, so the second of two processes fails here. If the first
    # one's copy is whole it stays, and the caller discards this one; a torn one is moved out of the way.
    with contextlib.suppress(OSError):
        os.rename(partial, folder)
    if partial.exists() and _open(folder) is None:
        torn = _temporary(folder)
        with contextlib.suppress(FileNotFoundError):
            os.rename(folder, torn)
        shutil.rmtree(torn, ignore_errors=True)
        os.rename(partial, folder)
    _sync_folder(folder.parent)


def _temporary(folder: Path) -> Path:
    return folder.with_name(f".{folder.name}-{uuid.uuid4().hex}")


def _sync(stream: BinaryIO) -> None:
    stream.flush()
    os.fsync(stream.fileno())


def _sync_folder(folder: Path) -> None:
    # Some systems cannot sync a folder; the rename is atomic there too, only not yet durable.
    with contextlib.suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
