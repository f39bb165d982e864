"""What the process imports that workers are forked from, and no other one: all that they need, which takes seconds.

A signal to the whole group, as a terminal sends it, would end that process, or interrupt its imports. So it is started
with these signals blocked, which whoever is forked from it would inherit: it is deaf, they are not.
"""

from __future__ import annotations

import importlib
import os
import signal
from typing import Final

from dnntrain.interruption import SIGNALS

_NEEDED: Final = (
    "torch",
    "dnntrain.sweep.engines.work",
    "dnntrain.run",
    "dnntrain.recording",
    "torch._dynamo",  # which the first optimizer imports
)


def _hear() -> None:
    signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)


def _import_all() -> None:
    parent = os.getppid()
    for name in _NEEDED:
        if os.getppid() != parent:
            # Whoever wanted workers is gone: after a mistake in an experiment file, say.
            raise SystemExit
        importlib.import_module(name)


os.register_at_fork(after_in_child=_hear)
_import_all()
