"""Run directories: where a run is recorded, found and locked.

`RunDirectory` is the one class that knows the names of the files of a run, as `SweepDirectory` is for a sweep. Nothing
here imports torch, so that commands which only look at runs start at once.
"""

from __future__ import annotations

from dnntrain.store.atomic import refuse_existing, write_atomic
from dnntrain.store.directory import SCHEMA, STATUSES, RunDirectory
from dnntrain.store.flat import finite, flatten
from dnntrain.store.lookup import find, listing
from dnntrain.store.soundness import check_rows
from dnntrain.store.sweeps import SweepDirectory

__all__ = [
    "SCHEMA",
    "STATUSES",
    "RunDirectory",
    "SweepDirectory",
    "check_rows",
    "find",
    "finite",
    "flatten",
    "listing",
    "refuse_existing",
    "write_atomic",
]
