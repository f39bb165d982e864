"""Initializers of ONNX, by name and the right way round."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from dnntrain.errors import DataError
from dnntrain.parts.weights import read_weights

onnx = pytest.importorskip("onnx")
W = np.arange(12, dtype=np.float32).reshape(4, 3)  # (in, out) of a layer from 4 to 3


def saved(path: Path, nodes: list[Any], arrays: dict[str, np.ndarray]) -> Path:
    initializers = [onnx.numpy_helper.from_array(array, name) for name, array in arrays.items()]
    x = onnx.helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, ["n", 4])
    y = onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, ["n", 3])
    onnx.save(onnx.helper.make_model(onnx.helper.make_graph(nodes, "g", [x], [y], initializers)), path)
    return path


def node(kind: str, inputs: list[str], output: str = "y", **attributes: Any) -> Any:
    return onnx.helper.make_node(kind, inputs, [output], **attributes)


CASES = {
    "gemm": ([node("Gemm", ["x", "w"])], W),
    "gemm transposed": ([node("Gemm", ["x", "w"], transB=1)], W.T),
    "matmul": ([node("MatMul", ["x", "w"])], W),
    "matmul of a transposed one": ([node("Transpose", ["w"], "t", perm=[1, 0]), node("MatMul", ["x", "t"])], W.T),
}


@pytest.mark.parametrize("case", CASES)
def test_matrices_come_out_as_ours(case: str, tmp_path: Path) -> None:
    nodes, held = CASES[case]
    path = saved(tmp_path / "m.onnx", nodes, {"w": np.ascontiguousarray(held), "b": np.ones(3, np.float32)})
    read = read_weights(path, names={"output.weight": "w", "output.bias": "b"})
    assert torch.equal(read.tensors["output.weight"], torch.from_numpy(W.T.copy()))
    assert torch.equal(read.tensors["output.bias"], torch.ones(3))


def test_kernels_of_convolutions_stay(tmp_path: Path) -> None:
    kernel = np.random.default_rng(0).normal(size=(5, 2, 3, 3)).astype(np.float32)
    path = saved(tmp_path / "m.onnx", [node("Conv", ["x", "k"])], {"k": kernel})
    np.testing.assert_array_equal(read_weights(path, names={"conv1.weight": "k"}).tensors["conv1.weight"], kernel)


def test_names_are_needed_and_the_error_says_what_there_is(tmp_path: Path) -> None:
    path = saved(tmp_path / "m.onnx", [node("Gemm", ["x", "w"])], {"w": W})
    with pytest.raises(DataError, match="`names` must say .*\n    it holds: w"):
        read_weights(path)
