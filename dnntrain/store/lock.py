"""One writer per run directory.

The lock is an flock on a file, which the kernel drops however its holder ends. The file says who holds it and is
removed on release. Where the file system knows no flock, the file's existence is the lock, and it is stale when it was
left by a process of this host that is no more.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import socket
import time
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from dnntrain.errors import LockedError, StoreError

_UNSUPPORTED: Final = (errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.ENOLCK)
# `is_held` takes a shared lock for an instant, and a holder needs an instant to write its name.
_PATIENCE_S: Final = 0.2
_PAUSE_S: Final = 0.01

_held: set[int] = set()


def _forget_in_child() -> None:
    """Close the locks that a forked child inherits, or a surviving data worker would hold them for a dead parent."""
    for descriptor in _held:
        os.close(descriptor)
    _held.clear()


os.register_at_fork(after_in_child=_forget_in_child)


@contextlib.contextmanager
def hold(path: Path) -> Iterator[None]:
    """Hold the lock for as long as the context lasts.

    Args:
        path: the lock's file; its folder must exist.

    Raises:
        LockedError: another process, or another part of this one, holds it.
        StoreError: the file cannot be made.
    """
    try:
        descriptor = _acquire(path)
    except OSError as error:
        raise StoreError(f"cannot make the lock {path}: {error.strerror or error}") from error
    _held.add(descriptor)
    owner = os.getpid()
    try:
        yield
    finally:
        if os.getpid() == owner:
            # Removed while it is still locked: whoever opened it before will see that its name is gone.
            path.unlink(missing_ok=True)
            _held.discard(descriptor)
            os.close(descriptor)


def is_held(path: Path) -> bool:
    """Whether anybody holds the lock, without getting into the way of whoever wants it.

    Raises:
        StoreError: the file cannot be read.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        return False
    except OSError as error:
        raise StoreError(f"cannot read the lock {path}: {error.strerror or error}") from error
    try:
        free = _try_lock(descriptor, fcntl.LOCK_SH)
        return _alive(_holder(path)) if free is None else not free
    finally:
        os.close(descriptor)


def _acquire(path: Path) -> int:
    """Return the descriptor of the locked file."""
    deadline = time.monotonic() + _PATIENCE_S
    while True:
        descriptor, fresh = _open(path)
        free = _try_lock(descriptor, fcntl.LOCK_EX)
        if (free and _is_at(path, descriptor)) or (free is None and fresh):
            _sign(descriptor)
            return descriptor
        os.close(descriptor)
        if free is None and not _alive(_holder(path)):
            path.unlink(missing_ok=True)
        if time.monotonic() > deadline:
            raise LockedError(_refusal(path, certain=free is not None))
        time.sleep(_PAUSE_S)


def _open(path: Path) -> tuple[int, bool]:
    """Open the lock's file, and say whether it was made by this very call."""
    while True:
        with contextlib.suppress(FileExistsError):
            return os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o644), True
        with contextlib.suppress(FileNotFoundError):
            return os.open(path, os.O_RDWR), False


def _try_lock(descriptor: int, kind: int) -> bool | None:
    """Try to lock; None where the file system knows no locks."""
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno in _UNSUPPORTED:
            return None
        raise
    return True


def _is_at(path: Path, descriptor: int) -> bool:
    """Whether the file is still the one of that name: its last holder may have removed it after it was opened."""
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False


def _sign(descriptor: int) -> None:
    started = datetime.now().astimezone().isoformat(timespec="seconds")
    content = {"pid": os.getpid(), "host": socket.gethostname(), "started": started}
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, json.dumps(content).encode() + b"\n", 0)


def _holder(path: Path) -> dict[str, Any]:
    """Read who holds the lock; empty when nobody has signed yet."""
    try:
        content = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def _alive(holder: dict[str, Any]) -> bool:
    """Whether a holder may still run; one on another host, or one that has not signed yet, may."""
    pid = holder.get("pid")
    if not isinstance(pid, int) or holder.get("host") != socket.gethostname():
        return True
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        return True
    return True


def _refusal(path: Path, *, certain: bool) -> str:
    holder = _holder(path)
    who = f"process {holder.get('pid', '?')} on {holder.get('host', '?')}" if holder else "another process"
    since = f", since {holder['started']}" if "started" in holder else ""
    advice = "wait for it to end, or stop it" if certain else f"if it is gone, remove {path}"
    return f"{path.parent} is in use by {who}{since}: {advice}"
