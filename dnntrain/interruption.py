"""Signals that ask for an orderly end: taken note of when they arrive, acted on where work can be left.

A handler that saved or raised would do so in the middle of whatever was going on: half-written files, locks held for
ever, exceptions lost in a destructor. So the handler only sets a flag, and long work calls `check` between two pieces.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Final

from dnntrain.errors import Interrupted

SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)
"""Ctrl-C; a machine that shuts down or a scheduler that takes it back; a scheduler's warning ahead of that."""

_PAUSE_S: Final = 0.1

_asked: int | None = None
_listening = False
_mask: set[signal.Signals | int] | None = None


@contextmanager
def listening(*signals: signal.Signals) -> Iterator[None]:
    """Take note of signals for the length of a block: of `SIGNALS` unless others are named.

    The first one is noted, for `check` to find; a second one raises at once. Only the main thread of a process can
    listen: elsewhere, and inside another such block, nothing changes.
    """
    global _asked, _listening
    if _listening or threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, _note) for number in signals or SIGNALS}
    _asked, _listening = None, True
    try:
        yield
    finally:
        _asked, _listening = None, False
        for number, handler in before.items():
            signal.signal(number, handler)


def sleep(seconds: float) -> None:
    """Wait, but not past a signal that asks for the end.

    Raises:
        Interrupted: one has.
    """
    until = time.monotonic() + seconds
    check()
    while (left := until - time.monotonic()) > 0:
        time.sleep(min(left, _PAUSE_S))
        check()


def ask(number: signal.Signals) -> None:
    """Ask for the end as a signal would, from any thread; heard only while somebody listens."""
    global _asked
    if _listening and _asked is None:
        _asked = number


def check() -> None:
    """Raise if a signal has asked for the end.

    Raises:
        Interrupted: it has.
    """
    if _asked is not None:
        raise Interrupted(_asked)


def _note(number: int, frame: FrameType | None) -> None:
    global _asked
    if _asked is not None:
        raise Interrupted(number, at_once=True)
    _asked = number


def _hold_back() -> None:
    """Keep signals waiting while the process forks: one to the child must not meet the handler of its parent."""
    global _mask
    if _listening:
        _mask = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)


def _let_through() -> None:
    global _mask
    if _mask is not None:
        signal.pthread_sigmask(signal.SIG_SETMASK, _mask)
        _mask = None


def _forget_in_child() -> None:
    """Give a forked child the usual handlers: whoever ends it does not want it to wait for a training step."""
    global _asked, _listening
    if _listening:
        _asked, _listening = None, False
        for number in SIGNALS:
            signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
    _let_through()


os.register_at_fork(before=_hold_back, after_in_parent=_let_through, after_in_child=_forget_in_child)
