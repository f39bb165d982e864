"""Layers that come from elsewhere: where they lie, whether they fit, and taking them over."""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final

import torch
from torch import Tensor, nn

from dnntrain.checkpoints import read_best
from dnntrain.errors import DataError, Problem, SpecError, StoreError, UsageError
from dnntrain.parts.layers import OUTPUT, layers_of, pick, state_of
from dnntrain.parts.weights import Weights, read_weights
from dnntrain.registry import Choice
from dnntrain.spec import Spec
from dnntrain.spec.fit import moments
from dnntrain.spec.reusing import ReuseSpec
from dnntrain.store import RunDirectory, find, listing

_ENDED: Final = ("completed", "stopped")
_COUNT: Final = ".num_batches_tracked"

_logger = logging.getLogger("dnntrain")


@dataclass(frozen=True)
class Source:
    """Weights to be reused.

    Attributes:
        path: the run directory or the file that they come from.
        tensors: by the names that a network of ours gives them.
        scaling: what standardized the inputs of the network they come from, scale and shift; None where nobody knows.
        remarks: what a file must say besides, so that the layers compute what they did where they come from.
    """

    path: Path
    tensors: Mapping[str, Tensor]
    scaling: tuple[Tensor, Tensor] | None
    remarks: tuple[str, ...] = ()


def locate(spec: Spec, runs: Path) -> Spec:
    """Return the experiment with the source of its reused layers as an absolute path.

    Args:
        spec: an experiment.
        runs: the folder in which a run is looked for by its name.

    Raises:
        SpecError: there is no such run or file.
    """
    reuse = spec.model.reuse
    if reuse is None:
        return spec
    path = os.path.abspath(_find(spec, reuse.from_, runs))
    return spec.model_copy(
        update={"model": spec.model.model_copy(update={"reuse": reuse.model_copy(update={"from_": path})})}
    )


def _find(spec: Spec, source: str, runs: Path) -> Path:
    """Return the path of a run that has ended, or of a file.

    Raises:
        SpecError: there is none.
    """
    if os.path.isabs(source):
        # Whether it is there is seen when it is read, which a run that goes on does not need.
        return Path(source)
    ended = []
    for directory in listing(runs):
        # What is damaged, or was begun by a newer version, is nothing that could be reused.
        with suppress(StoreError):
            summary = directory.summary()
            if summary.get("name") == source and summary.get("status") in _ENDED:
                ended.append(directory)
    if ended:
        return ended[-1].path
    try:
        return find(source, runs).path
    except UsageError as error:
        hint = "name a run that came to its end, a run directory or a file of weights"
        raise SpecError([spec.problem("model.reuse.from", str(error), hint)]) from error


def open_source(spec: Spec) -> Source:
    """Read the weights that an experiment reuses.

    Args:
        spec: an experiment with the absolute path of its source.

    Raises:
        SpecError: they cannot be read.
    """
    reuse = _reuse(spec)
    path = Path(reuse.from_)
    if not os.path.exists(path):
        message = f"there is no run and no file {path}"
        raise SpecError([spec.problem("model.reuse.from", message, "name a run that came to its end, or a file")])
    try:
        if path.is_file():
            weights = read_weights(path, names=reuse.names)
            return Source(path, weights.tensors, None, (*weights.remarks, *_otherwise_activated(spec, weights)))
        best = read_best(RunDirectory(path))
    except (StoreError, DataError, UsageError) as error:
        raise SpecError([spec.problem("model.reuse.from", str(error))]) from error
    if reuse.names is not None:
        message = "a run calls its layers as dnntrain does: names are for files"
        raise SpecError([spec.problem("model.reuse.names", message, "leave it out")])
    return Source(path, best.model, (best.prepare.scale, best.prepare.shift))


def _otherwise_activated(spec: Spec, weights: Weights) -> Iterator[str]:
    """Say where a file has another activation behind its hidden layers than the experiment."""
    ours = spec.model.activation
    theirs = {kind for layer, kind in weights.activations.items() if layer != OUTPUT}
    if isinstance(ours, Choice) and theirs - {ours.name}:
        yield f"its hidden layers have {' and '.join(sorted(theirs))} behind them, and model.activation is {ours.name}"


def knows_scaling(spec: Spec) -> bool:
    """Whether the source of an experiment's layers says how their inputs were standardized: a run does."""
    return os.path.isdir(_reuse(spec).from_)


def reused_layers(spec: Spec, model: nn.Module) -> list[str]:
    """Return the names of the layers of a network that know something before training, from the bottom up.

    They come from elsewhere, or are pretrained: then it is all of them but the output.

    Raises:
        SpecError: the file names layers that there are not.
    """
    layers = layers_of(model)
    taken = set(_taken(spec, model))
    return [layer.name for layer in layers if layer.name in taken or (spec.pretraining and not layer.is_output)]


def _taken(spec: Spec, model: nn.Module) -> list[str]:
    """Return the names of the layers that come from a run or a file."""
    if spec.model.reuse is None:
        # An architecture that comes with weights of its own brings all layers but the output.
        return [] if moments(spec) is None else [layer.name for layer in pick(layers_of(model), "all_but_output")]
    try:
        return [layer.name for layer in pick(layers_of(model), spec.model.reuse.keep)]
    except UsageError as error:
        raise SpecError([spec.problem("model.reuse.keep", str(error))]) from error


@torch.no_grad()
def take_over(spec: Spec, model: nn.Module, source: Source) -> None:
    """Copy the layers that an experiment keeps from their source into a network.

    Args:
        spec: an experiment that reuses layers.
        model: its network; changed in place.
        source: what it reuses.

    Raises:
        SpecError: some of the layers are not there, or have another shape there; each is named.
    """
    for remark in source.remarks:
        _logger.warning("%s: %s", source.path, remark)
    kept = set(_taken(spec, model))
    state = model.state_dict()
    problems: list[Problem] = []
    for layer in layers_of(model):
        if layer.name not in kept:
            continue
        wanted = state_of(layer, model)
        # Only PyTorch counts the batches that statistics were taken of, and only where there is no momentum.
        wanted = [name for name in wanted if not name.endswith(_COUNT) or name in source.tensors]
        wrong = [_unlike(name, state[name], source.tensors.get(name)) for name in wanted]
        if told := [each for each in wrong if each]:
            problems.append(spec.problem("model.reuse", f"layer {layer.name} cannot be reused: {'; '.join(told)}"))
            continue
        for name in wanted:
            state[name].copy_(source.tensors[name])
    if problems:
        there = ", ".join(dict.fromkeys(name.rpartition(".")[0] for name in source.tensors))
        hint = f"keep fewer layers, or give them the form they have in {source.path.name} ({there})"
        raise SpecError([*problems[:-1], Problem(problems[-1].message, problems[-1].mark, hint)])


def _unlike(name: str, ours: Tensor, theirs: Tensor | None) -> str:
    if theirs is None:
        return f"there is no {name} in the source"
    if ours.shape != theirs.shape:
        return f"{name} is {_form(ours)} here and {_form(theirs)} in the source"
    return ""


def _form(tensor: Tensor) -> str:
    return " x ".join(map(str, tensor.shape)) or "a number"


def digest(spec: Spec) -> str | None:
    """Return the SHA-256 of what an experiment reuses; None where it reuses nothing, or that is no longer there.

    Raises:
        SpecError: it cannot be read.
    """
    if spec.model.reuse is None:
        return None
    path = Path(spec.model.reuse.from_)
    file = RunDirectory(path).checkpoint(RunDirectory.BEST) if path.is_dir() else path
    try:
        state = file.stat()
        return _hash(file, state.st_size, state.st_mtime_ns)
    except FileNotFoundError:
        return None
    except OSError as error:
        message = f"cannot read {file}: {error.strerror or error}"
        raise SpecError([spec.problem("model.reuse.from", message)]) from error


@cache
def _hash(file: Path, size: int, changed: int) -> str:
    """Hash a file once for as long as its size and the time of its last change stay what they are."""
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


def _reuse(spec: Spec) -> ReuseSpec:
    if spec.model.reuse is None:
        raise TypeError("the experiment reuses nothing")
    return spec.model.reuse
