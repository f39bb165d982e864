"""Where the weights of torchvision's networks are found, and how they come into a network."""

from __future__ import annotations

import hashlib
import logging
import os
import re
import tempfile
import urllib.request
from collections import OrderedDict
from http.client import HTTPException
from pathlib import Path
from typing import Any, Final

import torch
from torch import nn

from dnntrain import interruption
from dnntrain.errors import DataError, shorten
from dnntrain.parts.weights import Weights, read_weights

PATIENCE: Final = 20.0
"""Seconds without an answer, or without another byte, after which a download has failed."""

_BLOCK: Final = 1 << 20
_log = logging.getLogger("dnntrain")


def folders() -> list[Path]:
    """Return where files of weights are looked for: where torch.hub keeps them, then DNNTRAIN_DATA."""
    named = os.environ.get("DNNTRAIN_DATA")
    return [Path(torch.hub.get_dir()) / "checkpoints", *([Path(named).expanduser()] if named else [])]


def published(url: str) -> Path:
    """Return the file of weights that was published under an address: found on this machine, or downloaded.

    Raises:
        DataError: it is not here and cannot be downloaded.
    """
    name = url.rpartition("/")[2]
    places = folders()
    for folder in places:
        if os.path.isfile(folder / name):
            return folder / name
    try:
        return _download(url, places[0] / name)
    except (OSError, HTTPException, ValueError) as error:
        looked = " and ".join(map(str, places))
        raise DataError(
            f"the weights {name} are not in {looked}, and could not be downloaded from {url}: "
            f"{shorten(str(error) or type(error).__name__, 200)}\n"
            f"    let this machine reach the network, or put {name} into {places[0]} or a folder that DNNTRAIN_DATA "
            "names, or write its path as model.architecture.weights"
        ) from error


def _download(url: str, target: Path) -> Path:
    """Download a file next to its place, check it, and move it there.

    Raises:
        OSError: the network or the disk fails.
        ValueError: what came is not what was published.
    """
    _log.info("downloading %s", url)
    target.parent.mkdir(parents=True, exist_ok=True)
    content = hashlib.sha256()
    with tempfile.TemporaryDirectory(prefix=".download-", dir=target.parent) as folder:
        partial = Path(folder) / target.name
        with urllib.request.urlopen(url, timeout=PATIENCE) as answer, partial.open("wb") as file:
            while block := answer.read(_BLOCK):
                interruption.check()
                content.update(block)
                file.write(block)
        # torchvision's names end in the beginning of the checksum.
        wanted = re.search(r"-([0-9a-f]{8,})\.", target.name)
        if wanted and not content.hexdigest().startswith(wanted.group(1)):
            raise ValueError("its checksum is wrong")
        os.replace(partial, target)
    return target


def load_body(model: nn.Module, head: nn.Module, path: Path) -> None:
    """Put weights from a file into all of a network but its head and its auxiliary classifiers.

    Raises:
        DataError: the file is missing or damaged, or belongs to another network.
    """
    weights = read_weights(path)
    replaced = _replaced(model, head)
    state: Any = OrderedDict(
        (_modern(name), tensor) for name, tensor in weights.tensors.items() if not _modern(name).startswith(replaced)
    )
    # What a network's own version decides is how old files are read; the files do not all say theirs.
    state._metadata = {"": model.state_dict()._metadata[""]}  # type: ignore[attr-defined]
    try:
        missing, unexpected = model.load_state_dict(state, strict=False)
    except RuntimeError as error:
        raise _misfit(weights, str(error).splitlines()[-1].strip()) from error
    missing = [name for name in missing if not name.startswith(replaced) and not name.endswith("num_batches_tracked")]
    if missing or unexpected:
        what = f"it lacks {missing[0]}" if missing else f"it has {unexpected[0]}"
        count = len(missing) + len(unexpected)
        raise _misfit(weights, what + (f", and {count - 1} more differ" if count > 1 else ""))


def _replaced(model: nn.Module, head: nn.Module) -> tuple[str, ...]:
    """Return how the names begin of all that is not taken over."""
    own = next(name for name, module in model.named_modules() if module is head)
    return (f"{own}.", "AuxLogits.", "aux1.", "aux2.")


def _modern(name: str) -> str:
    """Return a name as it is today: older files of densenets have `norm.1` for `norm1`."""
    return re.sub(r"(denselayer\d+\.(?:norm|relu|conv))\.([12]\.)", r"\1\2", name)


def _misfit(weights: Weights, why: str) -> DataError:
    return DataError(f"{weights.source} does not belong to this network: {shorten(why, 200)}")
