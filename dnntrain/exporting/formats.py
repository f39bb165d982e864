"""The forms that a network leaves in: ONNX, an exported program of PyTorch, and named tensors."""

from __future__ import annotations

import copy
import io
import json
import logging
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.util import find_spec
from typing import Any, Final

import torch
from torch import Tensor, nn

from dnntrain.errors import ExportError, UsageError, shorten

INPUT: Final = "input"
ABOUT_FILE: Final = "dnntrain.json"
"""What an exported program of PyTorch calls the file inside it that says what it is."""
ONNX_LIMIT: Final = 2**31 - 2**20
"""Bytes of weights that fit into one ONNX file, which protobuf limits to 2 GiB."""


@dataclass(frozen=True)
class Format:
    """A form to write a network in.

    Attributes:
        suffix: of its files.
        packages: that must be installed to write and to check it.
        make: writes it.
    """

    suffix: str
    packages: tuple[str, ...]
    make: Callable[[Network, int | None], Written]


@dataclass(frozen=True)
class Network:
    """What is written.

    Attributes:
        model: in evaluation mode, on the CPU.
        example: a batch of two inputs or more, float32.
        output: what to call what it gives: `logits` or `values`.
        tensors: its weights under the names that they shall have, in the order of its own.
        about: what else to say of it.
    """

    model: nn.Module
    example: Tensor
    output: str
    tensors: Mapping[str, Tensor]
    about: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Written:
    """A network as bytes.

    Attributes:
        content: of the file.
        compute: gives the outputs for a batch by what was written, read back.
        opset: of ONNX.
    """

    content: bytes
    compute: Callable[[Tensor], Tensor]
    opset: int | None = None


def _onnx(network: Network, opset: int | None) -> Written:
    import onnxruntime

    size = sum(each.nbytes for each in network.tensors.values())
    if size > ONNX_LIMIT:
        raise ExportError(
            f"the weights take {size:,} bytes, and an ONNX file holds less than 2 GiB; "
            "use --format torch or safetensors"
        )
    with _quiet(), _explained("ONNX"):
        program = torch.onnx.export(
            network.model,
            (network.example,),
            dynamo=True,
            dynamic_shapes=({0: torch.export.Dim("batch")},),
            input_names=[INPUT],
            output_names=[network.output],
            opset_version=opset,
            verbose=False,
        )
    if program is None:
        raise ExportError("PyTorch's exporter gave no ONNX model")
    proto: Any = program.model_proto
    reached = next(int(each.version) for each in proto.opset_import if each.domain in ("", "ai.onnx"))
    if opset is not None and reached != opset:
        raise ExportError(f"PyTorch writes this network for opset {reached}, and cannot convert it to opset {opset}")
    proto.producer_name = "dnntrain"
    for key, value in _texts(network.about).items():
        entry = proto.metadata_props.add()
        entry.key, entry.value = key, value
    content: bytes = proto.SerializeToString()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 3  # errors
    with _explained("ONNX"):
        session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])

    def compute(x: Tensor) -> Tensor:
        return torch.from_numpy(session.run(None, {INPUT: x.numpy()})[0])

    return Written(content, compute, reached)


def _program(network: Network, opset: int | None) -> Written:
    with _quiet(), _explained("an exported program"):
        program = torch.export.export(
            network.model, (network.example,), dynamic_shapes=({0: torch.export.Dim("batch")},), strict=False
        )
        file = io.BytesIO()
        torch.export.save(program, file, extra_files={ABOUT_FILE: json.dumps(network.about)})
        content = file.getvalue()
        loaded = torch.export.load(io.BytesIO(content)).module()

    def compute(x: Tensor) -> Tensor:
        outputs: Tensor = loaded(x)
        return outputs

    return Written(content, compute)


def _tensors(network: Network, opset: int | None) -> Written:
    from safetensors.torch import load, save

    # Tensors that share memory are refused, and those in another order of memory too.
    own = {name: tensor.detach().clone().contiguous() for name, tensor in network.tensors.items()}
    content: bytes = save(own, metadata={"format": "pt", **_texts(network.about)})
    read = load(content)
    again = copy.deepcopy(network.model)
    again.load_state_dict({key: read[name] for key, name in zip(again.state_dict(), network.tensors, strict=True)})
    return Written(content, again)


FORMATS: Final = {
    "onnx": Format(".onnx", ("onnx", "onnxscript", "onnxruntime"), _onnx),
    "torch": Format(".pt2", (), _program),
    "safetensors": Format(".safetensors", ("safetensors",), _tensors),
}


def check_packages(name: str) -> None:
    """Make sure that a format's packages are installed.

    Raises:
        UsageError: some are not.
    """
    missing = [package for package in FORMATS[name].packages if find_spec(package) is None]
    if missing:
        several = "are" if len(missing) > 1 else "is"
        raise UsageError(
            f"format {name} needs {' and '.join(missing)}, which {several} not installed: "
            "pip install 'dnntrain[formats]'"
        )


def _texts(about: Mapping[str, Any]) -> dict[str, str]:
    """Return what is said of a network as texts, which is all that these formats hold: JSON where it is none."""
    return {key: value if isinstance(value, str) else json.dumps(value) for key, value in about.items()}


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep the exporters' warnings to themselves: what they make is checked."""
    noisy = [logging.getLogger(name) for name in ("torch.onnx", "torch.export", "onnxscript", "onnx_ir")]
    levels = [each.level for each in noisy]
    for each in noisy:
        each.setLevel(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for each, level in zip(noisy, levels, strict=True):
            each.setLevel(level)


@contextmanager
def _explained(form: str) -> Iterator[None]:
    """Say in one message what an exporter cannot do; it raises RuntimeErrors and ValueErrors of many kinds."""
    try:
        yield
    except (RuntimeError, ValueError, NotImplementedError) as error:
        reason = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
        raise ExportError(f"this network cannot be written as {form}: {shorten(reason.strip(), 300)}") from error
