"""What the process imports that workers are forked from, and no other one: all that they need, which takes seconds.

A signal to the whole group, as a terminal sends it, would end that process, or interrupt its imports. So it is started
with these signals blocked, which whoever is forked from it would inherit: it is deaf, they are not.
"""

from __future__ import annotations

import importlib
import os
import signal
import threading
from typing import Final

from dnntrain.interruption import SIGNALS

_NEEDED: Final = (
    "torch",
    "dnntrain.sweep.engines.work",
    "dnntrain.run",
    "dnntrain.recording",
    "torch._dynamo",  # which the first optimizer imports
)
_GLANCE_S: Final = 0.1


def _hear() -> None:
    signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)


def _import_all() -> None:
    done = threading.Event()
    watch = threading.Thread(target=_end_with, args=(os.getppid(), done), daemon=True)
    watch.start()
    try:
        for name in _NEEDED:
            importlib.import_module(name)
    finally:
        # Nothing is to be forked beside a thread.
        done.set()
        watch.join()


def _end_with(parent: int, done: threading.Event) -> None:
    """End at once when whoever wanted workers is gone: after a mistake in an experiment file, say."""
    while not done.wait(_GLANCE_S):
        if os.getppid() != parent:
            os._exit(0)


os.register_at_fork(after_in_child=_hear)
_import_all()
