"""What the process imports first that workers are forked from, and no other one: it is deaf, they are not.

A signal to the whole group, as a terminal sends it, would end that process, or interrupt its imports. It is started
with these signals blocked, which whoever is forked from it would inherit.
"""

from __future__ import annotations

import os
import signal

from dnntrain.interruption import SIGNALS


def _hear() -> None:
    signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)


os.register_at_fork(after_in_child=_hear)
