"""A trained network, read from its run directory."""

from __future__ import annotations

import pickle
import struct
import zipfile
import zlib
from pathlib import Path
from typing import Any, Final

import torch
from pydantic import BaseModel, ConfigDict, ValidationError
from torch import Tensor, nn
from typing_extensions import override

from dnntrain import build
from dnntrain import spec as specs
from dnntrain.errors import NewerError, StoreError
from dnntrain.parts.transforms import Standardize
from dnntrain.registry import Positive, PositiveInt
from dnntrain.spec import Spec
from dnntrain.store import RunDirectory, find

CHECKPOINT_SCHEMA: Final = 1


class Trained(nn.Module):
    """A trained network with the preprocessing that belongs to it: raw samples in, logits out.

    Attributes:
        classes: names of the classes, in the order of the logits; None for regression.
        spec: the experiment that made it.
        epoch: the epoch whose weights these are.
        shape: of one sample.
        full_scale: the largest value of a picture in the training data.
        kind: what the outputs are for: `classes`, `binary` (one logit) or `values`.
    """

    def __init__(self, spec: Spec, best: _Best) -> None:
        super().__init__()
        self.spec = spec
        self.classes: tuple[str, ...] | None = None if best.classes is None else tuple(best.classes)
        self.epoch = best.epoch
        self.shape = tuple(best.shape)
        self.full_scale = best.full_scale
        self.kind: str = build.targets(spec)
        self.model = build.build_model(spec, self.shape, best.outputs)
        self.model.load_state_dict(best.model)
        self.prepare = Standardize()
        self.prepare.scale, self.prepare.shift = best.prepare.scale, best.prepare.shift
        self.eval()

    @override
    def forward(self, x: Tensor) -> Tensor:
        """Return logits (N, outputs) of raw samples (N, ...), as the data set holds them."""
        logits: Tensor = self.model(self.prepare(x))
        return logits


def load(run: str | Path, /, *, runs: str | Path = "runs", device: str | torch.device = "cpu") -> Trained:
    """Return the network of a run, with its best weights and its preprocessing, in evaluation mode.

    Args:
        run: a path, a name, a unique prefix, or `last`.
        runs: where runs are looked for.
        device: where to put it.
    """
    directory = find(str(run), Path(runs))
    spec = spec_of(directory, None)
    return load_best(directory, spec, torch.device(device))


def spec_of(directory: RunDirectory, device: str | None) -> Spec:
    """Read the spec of a run, to be computed on another device if one is given."""
    overrides = [] if device is None else [f"training.device={device}"]
    source = str(directory.path / directory.SPEC)
    return specs.loads(directory.spec_text(), source=source, folder=directory.path, overrides=overrides)


def load_best(directory: RunDirectory, spec: Spec, device: torch.device) -> Trained:
    """Return the network of a run with its best weights, built as a spec of it says.

    Raises:
        StoreError: there is no best checkpoint, or it is damaged, or that of another experiment.
    """
    path = directory.checkpoint(directory.BEST)
    if not path.exists():
        raise StoreError(f"{directory.path} has no best checkpoint: no epoch was finished with a finite metric")
    checkpoint = read_checkpoint(path, torch.device("cpu"))
    try:
        return Trained(spec, _Best.model_validate(checkpoint)).to(device)
    except ValidationError as error:
        wrong = ", ".join(sorted({str(each["loc"][0]) for each in error.errors()}))
        raise StoreError(
            f"{path} is no checkpoint of a best epoch: it lacks {wrong}, or has something else there"
        ) from error
    except RuntimeError as error:
        raise StoreError(f"{path} does not belong to the experiment beside it: {error}") from error


class _Scaling(BaseModel):
    """The state of `Standardize`."""

    model_config = ConfigDict(arbitrary_types_allowed=True, strict=True)

    scale: Tensor
    shift: Tensor


class _Best(BaseModel):
    """What the checkpoint of the best epoch holds of a trained network."""

    model_config = ConfigDict(arbitrary_types_allowed=True, strict=True)

    model: dict[str, Tensor]
    prepare: _Scaling
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
