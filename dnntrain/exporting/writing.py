"""A run's network written into one file, which is there only if it computes what the network computes."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from dnntrain import build
from dnntrain.errors import DnntrainError, ExportError, UsageError, suggest
from dnntrain.exporting.folding import fold_batch_norm
from dnntrain.exporting.formats import FORMATS, Format, Network, Written, check_packages
from dnntrain.parts.transforms import Resize
from dnntrain.spec.fit import vocabulary
from dnntrain.store import RunDirectory, find, refuse_existing, write_atomic
from dnntrain.trained import Trained, load_best, spec_of

TOLERANCE: Final = 1e-4
SAMPLES: Final = 256
"""What was written is checked on at most so many samples."""
OPSETS: Final = (18, 23)
"""The lowest and the highest that PyTorch's exporter writes."""


@dataclass(frozen=True)
class Exported:
    """A file that was written, and how it was checked.

    Attributes:
        path: of the file.
        run: name of the run directory.
        epoch: the epoch whose weights these are.
        format: onnx, torch or safetensors.
        bytes: size of the file.
        opset: of ONNX; None for other formats.
        preprocessing: whether the file takes raw samples.
        folded: batch normalizations that became part of the layer before them; None unless that was asked for.
        shape: of one input.
        output: what it gives: `logits`, or `values` for numbers.
        samples: on how many it was checked.
        source: where they are from: `test`, `valid`, `train` or `random`.
        difference: the largest one between its outputs and the network's.
        remark: why the run's own samples could not be used; None where they were.
    """

    path: Path
    run: str
    epoch: int
    format: str
    bytes: int
    opset: int | None
    preprocessing: bool
    folded: int | None
    shape: tuple[int, ...]
    output: str
    samples: int
    source: str
    difference: float
    remark: str | None


def export(
    run: str | Path,
    /,
    *,
    format: str = "onnx",
    output: str | Path | None = None,
    preprocessing: bool = False,
    fuse: bool = False,
    opset: int | None = None,
    force: bool = False,
    runs: str | Path = "runs",
) -> Exported:
    """Write the network of a run, with its best weights, into one file for elsewhere.

    Inputs and outputs are float32 with any number of samples; outputs are logits, before softmax or sigmoid. What was
    written is read back and must agree with the network to 1e-4 (of the largest output where that is above 1), on
    samples of the run's own data where it can be opened, one alone and several at once; else there is no file.

    Args:
        run: a path, a name, a unique prefix, or `last`.
        format: onnx, torch (an exported program, for `torch.export.load`) or safetensors (weights under their names).
        output: the file; named after the run in the current folder unless given.
        preprocessing: include it, so that the file takes samples as the data set holds them.
        fuse: fold batch normalization into the layer before it.
        opset: of ONNX; what PyTorch thinks best unless given.
        force: write over a file that is there.
        runs: where runs are looked for.

    Raises:
        UsageError: there is no such format, a package is missing, or the file is there already.
        ExportError: the network cannot be written in this format, or does not compute the same there.
        StoreError: the run cannot be read, or the file not written.
    """
    _check_request(format, opset)
    directory = find(str(run), Path(runs))
    path = Path(output) if output is not None else Path(f"{directory.name}{FORMATS[format].suffix}")
    refuse_existing(path, force=force)
    trained = _trained(directory)
    samples = _samples(trained)
    model, folded = fold_batch_norm(trained.model) if fuse else (trained.model, None)
    about = _about(trained, directory, preprocessing, folded)
    network, inputs = _network(trained, model, samples, about)
    written, difference = _checked(FORMATS[format], network, opset, trained, samples.raw, inputs)
    write_atomic(path, lambda file: file.write(written.content))
    return Exported(
        path=path,
        run=directory.name,
        epoch=trained.epoch,
        format=format,
        bytes=len(written.content),
        opset=written.opset,
        preprocessing=preprocessing,
        folded=folded,
        shape=tuple(inputs.shape[1:]),
        output=network.output,
        samples=len(inputs),
        source=samples.source,
        difference=difference,
        remark=samples.remark,
    )


def _check_request(format: str, opset: int | None) -> None:
    if format not in FORMATS:
        raise UsageError(f"there is no format '{format}'; {suggest(format, FORMATS)}")
    if opset is not None and format != "onnx":
        raise UsageError(f"--opset is for --format onnx, not {format}")
    if opset is not None and not OPSETS[0] <= opset <= OPSETS[1]:
        raise UsageError(f"PyTorch writes ONNX for the opsets {OPSETS[0]} to {OPSETS[1]}, not {opset}")
    check_packages(format)


def _trained(directory: RunDirectory) -> Trained:
    """Return the network of a run on the CPU.

    Raises:
        ExportError: its weights are not finite, so that nothing could be checked.
    """
    trained = load_best(directory, spec_of(directory, "cpu"), torch.device("cpu")).requires_grad_(False)
    for name, tensor in trained.state_dict().items():
        if not tensor.isfinite().all():
            raise ExportError(f"{directory.name}: weights of {name} are not finite, so there is nothing to export")
    return trained


def _steps(trained: Trained, model: nn.Module, raw: Tensor) -> OrderedDict[str, nn.Module]:
    """Return what raw samples go through as floats, the network, which may be folded, last."""
    if trained.resize is None:
        return OrderedDict(prepare=trained.prepare, model=model)
    _, standardize = trained.prepare.children()
    # Between resizing and standardizing, the run's own pictures are bytes where its data holds bytes.
    resize = Resize(trained.resize.size, whole=not raw.is_floating_point())
    return OrderedDict(resize=resize, prepare=standardize, model=model)


def _network(trained: Trained, model: nn.Module, samples: _Samples, about: dict[str, Any]) -> tuple[Network, Tensor]:
    """Return what is to be written, of the network that may be folded, and the inputs that it takes for raw samples."""
    if about["preprocessing"]:
        _check_size(trained, samples)
        whole: nn.Module = nn.Sequential(_steps(trained, model, samples.raw))
        inputs = samples.raw.float()
        tensors = {name.removeprefix("model."): tensor for name, tensor in whole.state_dict().items()}
    else:
        whole, inputs, tensors = model, trained.prepare(samples.raw), model.state_dict()
    output = "values" if trained.kind == "values" else "logits"
    about = {**about, "shape": tuple(inputs.shape[1:])}
    return Network(whole, inputs[:3].contiguous(), output, tensors, about), inputs


def _about(trained: Trained, directory: RunDirectory, preprocessing: bool, folded: int | None) -> dict[str, Any]:
    return {
        "dnntrain": metadata.version("dnntrain"),
        "run": directory.name,
        "epoch": trained.epoch,
        "classes": trained.classes,
        "outputs": trained.kind,
        "preprocessing": preprocessing,
        "resize": None if trained.resize is None else trained.resize.size,
        "folded": folded or 0,
    }


class _Samples(NamedTuple):
    """Raw samples to check with, as the data set holds them; where they are from, and why not from the run's data."""

    raw: Tensor
    source: str
    remark: str | None


def _samples(trained: Trained) -> _Samples:
    try:
        data = build.open_data(trained.spec)
    except DnntrainError as error:
        return _Samples(_random(trained), "random", " ".join(str(error).split()))
    if data.shape != trained.shape:
        reason = f"samples of the data have shape {data.shape} by now, and the network was trained on {trained.shape}"
        return _Samples(_random(trained), "random", reason)
    name = next(each for each in ("test", "valid", "train") if getattr(data.parts, each) is not None)
    part = getattr(data.parts, name)
    rows = part.index[np.linspace(0, len(part) - 1, min(SAMPLES, len(part))).astype(int)]
    found = torch.from_numpy(part.x[rows])
    # A program is traced with several samples, so that nothing in it takes their number for 1.
    return _Samples(found if len(found) > 2 else found.repeat(3, *(1 for _ in trained.shape)), name, None)


def _check_size(trained: Trained, samples: _Samples) -> None:
    """Make sure that the size of raw pictures is known."""
    if trained.resize is not None and samples.remark is not None:
        raise ExportError(
            "with data.resize, --preprocessing makes a file for pictures of the size that the run's data has, and the "
            f"data cannot be used: {samples.remark}; bring it back, or leave out --preprocessing"
        )


def _random(trained: Trained) -> Tensor:
    draws = torch.Generator().manual_seed(0)
    shape = (SAMPLES, *trained.shape)
    if tokens := vocabulary(trained.spec):
        return torch.randint(tokens, shape, generator=draws).float()
    if len(trained.shape) == 3:
        return torch.rand(shape, generator=draws) * trained.full_scale
    return torch.randn(shape, generator=draws)


@torch.no_grad()
def _checked(
    format: Format, network: Network, opset: int | None, trained: Trained, raw: Tensor, inputs: Tensor
) -> tuple[Written, float]:
    """Write a network, and return the largest difference to what it computes for batches of three sizes.

    Raises:
        ExportError: it cannot be written, or the difference is too large.
    """
    written = format.make(network, opset)
    expected = torch.cat([trained(batch) for batch in _batches(raw)])
    computed = torch.cat([_computed(written.compute, batch) for batch in _batches(inputs)])
    if computed.shape != expected.shape:
        raise ExportError(f"what was written gives {tuple(computed.shape)} outputs, not {tuple(expected.shape)}")
    difference = float((computed - expected).abs().max())
    allowed = TOLERANCE * max(1.0, float(expected.abs().max()))
    # A difference that is no number is not allowed either.
    if not difference <= allowed:
        raise ExportError(
            f"what was written does not compute the same: outputs differ by up to {difference:.3g}, and "
            f"{allowed:.3g} is allowed; no file was made"
        )
    return written, difference


def _batches(inputs: Tensor) -> Iterator[Tensor]:
    """Cut inputs into one sample, two, and all others."""
    yield inputs[:1]
    yield inputs[1:3]
    if len(inputs) > 3:
        yield inputs[3:]


def _computed(compute: Callable[[Tensor], Tensor], batch: Tensor) -> Tensor:
    try:
        return compute(batch)
    except (RuntimeError, ValueError) as error:
        raise ExportError(
            f"what was written does not take {len(batch)} samples, though it should take any number: {error}"
        ) from error
