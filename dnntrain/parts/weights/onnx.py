"""Initializers of an ONNX graph, turned to the orientation that layers have here."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dnntrain.errors import DataError
from dnntrain.parts.weights.base import Weights, library, reading


def read_onnx(path: Path) -> Weights:
    """Read the initializers of an ONNX graph by their own names.

    Matrices come out as (out, in), which is read from the nodes that use them: `Gemm` holds them so where `transB` is 1
    and as (in, out) where it is 0, `MatMul` of inputs with a matrix as (in, out). A `Transpose` in between is followed.
    Kernels of convolutions are (out, in, height, width) there as here.

    Raises:
        DataError: it is damaged, or its tensors lie in a file that is missing.
        UsageError: onnx is not installed.
    """
    onnx = library("onnx", path)
    decode_error = library("google.protobuf.message", path).DecodeError
    try:
        with reading(path, "an ONNX file"):
            graph = onnx.load(path).graph
            read = {each.name: _array(onnx, each) for each in graph.initializer}
    except (decode_error, onnx.checker.ValidationError) as error:
        raise DataError(f"{path} is damaged, or not an ONNX file: {error}") from error
    if not read:
        raise DataError(f"{path} is damaged, or not an ONNX file of a network: it holds no initializers")
    turned = _inputs_first(graph)
    return Weights({name: _oriented(array, name in turned) for name, array in read.items()}, str(path))


def _array(onnx: Any, tensor: Any) -> np.ndarray:
    return np.array(onnx.numpy_helper.to_array(tensor))


def _oriented(array: np.ndarray, turn: bool) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(array.T if turn and array.ndim == 2 else array))


def _inputs_first(graph: Any) -> set[str]:
    """Return the names of the matrices that a graph holds as (in, out)."""
    found: set[str] = set()
    transposed = {node.output[0]: node.input[0] for node in graph.node if node.op_type == "Transpose"}
    for node in graph.node:
        if node.op_type not in ("Gemm", "MatMul") or len(node.input) < 2:
            continue
        attributes = {each.name: each.i for each in node.attribute}
        first = node.op_type == "MatMul" or not attributes.get("transB", 0)
        matrix = node.input[1]
        if matrix in transposed:
            matrix, first = transposed[matrix], not first
        if first:
            found.add(matrix)
    return found
