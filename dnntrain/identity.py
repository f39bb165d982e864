"""What makes two runs the same run: everything that its numbers follow from."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Final

import torch

from dnntrain.registry import plain
from dnntrain.spec import Spec

_BESIDE: Final = {"": ("name",), "training": ("device", "threads", "checkpoint")}
"""What a resolved experiment says that its numbers do not follow from, or only in their last bits."""

_NO_PART: Final = ("cli", "compare", "sweep", "tracking")
"""Rooms whose sources have no part in training."""


def identity(spec: Spec, *, fingerprint: str, plugins: Mapping[str, str], reused: str | None = None) -> str:
    """Return a hash that two runs share exactly if they are the same run.

    It is made of the experiment without its name, the content of its data, the sources of dnntrain and of the plugins,
    and PyTorch's version. Device and threads are not in it: they are recorded, and move the last bits only.

    Args:
        spec: a resolved experiment.
        fingerprint: of the data.
        plugins: path -> SHA-256 of the local files that registered parts.
        reused: SHA-256 of the weights that are reused, wherever they lie; None where there are none.

    Returns:
        SHA-256 in hexadecimal digits.
    """
    experiment = plain(spec)
    for section, keys in _BESIDE.items():
        within = experiment[section] if section else experiment
        for key in keys:
            del within[key]
    if experiment["model"]["reuse"] is not None:
        experiment["model"]["reuse"]["from"] = reused
    parts = {
        "experiment": experiment,
        "data": fingerprint,
        "sources": _sources(),
        "plugins": sorted(plugins.values()),
        "torch": torch.__version__,
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


@cache
def _sources() -> str:
    """Hash the sources that training is made of, as they are when it is first asked for."""
    package = Path(__file__).parent
    digest = hashlib.sha256()
    for path in sorted(package.rglob("*.py")):
        name = path.relative_to(package)
        if name.parts[0] not in _NO_PART:
            digest.update(f"{name.as_posix()}\0".encode() + hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()
