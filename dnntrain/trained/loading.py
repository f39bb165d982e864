"""A trained network, read from its run directory."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from typing_extensions import override

from dnntrain import build
from dnntrain import spec as specs
from dnntrain.checkpoints import Best, read_best
from dnntrain.errors import StoreError, UsageError
from dnntrain.parts.transforms import Standardize
from dnntrain.spec import Spec
from dnntrain.store import RunDirectory, find


class Trained(nn.Module):
    """A trained network with the preprocessing that belongs to it: raw samples in, logits out.

    Attributes:
        classes: names of the classes, in the order of the logits; None for regression.
        spec: the experiment that made it.
        epoch: the epoch whose weights these are.
        shape: of one sample as the network sees it; with `data.resize`, pictures of any size are brought to it.
        resize: does so; or None.
        prepare: what a sample goes through before the network: resizing, if any, and standardizing.
        full_scale: the largest value of a picture in the training data.
        kind: what the outputs are for: `classes`, `binary` (one logit) or `values`.
    """

    def __init__(self, spec: Spec, best: Best) -> None:
        super().__init__()
        self.spec = spec
        self.classes: tuple[str, ...] | None = None if best.classes is None else tuple(best.classes)
        self.epoch = best.epoch
        self.shape = tuple(best.shape)
        self.full_scale = best.full_scale
        self.kind: str = build.targets(spec)
        self.model = build.build_model(spec, self.shape, best.outputs, pretrained=False)
        self.model.load_state_dict(best.model)
        standardize = Standardize()
        standardize.scale, standardize.shift = best.prepare.scale, best.prepare.shift
        self.resize = build.resizer(build.size_of(spec))
        self.prepare: nn.Module = standardize if self.resize is None else nn.Sequential(self.resize, standardize)
        self.eval()

    @override
    def forward(self, x: Tensor) -> Tensor:
        """Return logits (N, outputs) of raw samples (N, ...), as the data set holds them."""
        logits: Tensor = self.model(self.prepare(x))
        return logits


def resizing(trained: Trained) -> Callable[[np.ndarray], np.ndarray] | None:
    """Return what brings arrays of pictures (N, C, H, W) to the size of the network, if the experiment does so."""
    resize = trained.resize
    return (
        None
        if resize is None
        else lambda x: np.asarray(resize(torch.from_numpy(np.require(x, requirements=["C", "W"]))))
    )


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
    """Read the spec of a run, to be computed on another device if one is given.

    Raises:
        UsageError: it is the pretraining of a run, of which there is no whole network.
    """
    if directory.around is not None:
        raise UsageError(f"{directory.path} holds pretrained layers, not a whole network: name {directory.around.path}")
    overrides = [] if device is None else [f"training.device={device}"]
    source = str(directory.path / directory.SPEC)
    return specs.loads(directory.spec_text(), source=source, folder=directory.path, overrides=overrides)


def load_best(directory: RunDirectory, spec: Spec, device: torch.device) -> Trained:
    """Return the network of a run with its best weights, built as a spec of it says.

    Raises:
        StoreError: there is no best checkpoint, or it is damaged, or that of another experiment.
    """
    best = read_best(directory)
    try:
        return Trained(spec, best).to(device)
    except RuntimeError as error:
        path = directory.checkpoint(directory.BEST)
        raise StoreError(f"{path} does not belong to the experiment beside it: {error}") from error
