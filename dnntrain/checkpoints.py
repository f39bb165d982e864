"""Reading checkpoints: tensors and plain values, and nothing that could run code."""

from __future__ import annotations

import pickle
import struct
import zipfile
import zlib
from pathlib import Path
from typing import Any, Final

import torch
from pydantic import BaseModel, ConfigDict, ValidationError
from torch import Tensor

from dnntrain.errors import NewerError, StoreError
from dnntrain.registry import Positive, PositiveInt
from dnntrain.store import RunDirectory

CHECKPOINT_SCHEMA: Final = 1


class Scaling(BaseModel):
    """The state of `Standardize`."""

    model_config = ConfigDict(arbitrary_types_allowed=True, strict=True)

    scale: Tensor
    shift: Tensor


class Best(BaseModel):
    """What the checkpoint of the best epoch holds of a trained network."""

    model_config = ConfigDict(arbitrary_types_allowed=True, strict=True)

    model: dict[str, Tensor]
    prepare: Scaling
    shape: list[PositiveInt]
    outputs: PositiveInt
    classes: list[str] | None
    epoch: PositiveInt
    # The first checkpoints did not say; all pictures but those of `digits` go up to 255.
    full_scale: Positive = 255.0


# What torch.load and zipfile raise for damaged files, beside errors of their own.
_UNREADABLE: Final = (
    *(OSError, RuntimeError, EOFError, KeyError, IndexError, AttributeError, ValueError, TypeError),
    *(zlib.error, struct.error),
)


def read_checkpoint(path: Path, device: torch.device) -> dict[str, Any]:
    """Read a checkpoint; only tensors and plain values are accepted.

    Raises:
        StoreError: it is damaged.
        NewerError: it was written by a newer dnntrain.
    """
    try:
        with zipfile.ZipFile(path) as file:
            damaged = file.testzip()
        if damaged is not None:
            raise StoreError(f"the checkpoint {path} is damaged: {damaged} is not what was written")
        checkpoint: dict[str, Any] = torch.load(path, map_location=device, weights_only=True)
    except zipfile.BadZipFile as error:
        raise StoreError(f"the checkpoint {path} is damaged or no checkpoint at all: {error}") from error
    except pickle.UnpicklingError as error:
        raise StoreError(
            f"refused to read the checkpoint {path}: it holds more than tensors and plain values, and loading it could "
            "run code"
        ) from error
    except _UNREADABLE as error:
        raise StoreError(f"cannot read the checkpoint {path}: {error}") from error
    schema = checkpoint.get("schema") if isinstance(checkpoint, dict) else None
    if type(schema) is not int or schema < 1:
        raise StoreError(f"the checkpoint {path} is damaged: it has no schema number")
    if schema > CHECKPOINT_SCHEMA:
        raise NewerError(f"{path} was written by a newer dnntrain (checkpoint schema {schema}); upgrade to read it")
    return checkpoint


def read_best(directory: RunDirectory) -> Best:
    """Read the network of a run's best epoch.

    Raises:
        StoreError: there is none, or it is damaged.
        NewerError: it was written by a newer dnntrain.
    """
    path = directory.checkpoint(directory.BEST)
    if not path.exists():
        raise StoreError(f"{directory.path} has no best checkpoint: no epoch was finished with a finite metric")
    checkpoint = read_checkpoint(path, torch.device("cpu"))
    try:
        return Best.model_validate(checkpoint)
    except ValidationError as error:
        wrong = ", ".join(sorted({str(each["loc"][0]) for each in error.errors()}))
        raise StoreError(
            f"{path} is no checkpoint of a best epoch: it lacks {wrong}, or has something else there"
        ) from error
