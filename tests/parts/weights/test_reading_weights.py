"""Whatever is wrong with a file of weights, it is one clear error."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from dnntrain.errors import DataError
from dnntrain.parts.weights import read_weights

STATE = {"dense1.weight": torch.randn(3, 4), "dense1.bias": torch.randn(3)}


def sample(folder: Path, ending: str) -> Path:
    """Write a small file of a format, without the framework that it comes from."""
    path = folder / f"w{ending}"
    if ending == ".pt":
        torch.save(STATE, path)
    elif ending == ".safetensors":
        pytest.importorskip("safetensors.torch").save_file(STATE, path)
    elif ending == ".onnx":
        onnx = pytest.importorskip("onnx")
        tensor = onnx.numpy_helper.from_array(STATE["dense1.weight"].numpy(), "w")
        graph = onnx.helper.make_graph([], "g", [], [], [tensor])
        onnx.save(onnx.helper.make_model(graph), path)
    else:
        written(path)
    return path


def written(path: Path) -> None:
    """Write a model of one dense layer as Keras does."""
    import io
    import json
    import zipfile

    h5py = pytest.importorskip("h5py")
    config = {"name": "dense", "activation": "linear", "use_bias": True}
    model = {"class_name": "Sequential", "config": {"layers": [{"class_name": "Dense", "config": config}]}}
    buffer = io.BytesIO()
    with h5py.File(path if path.suffix == ".h5" else buffer, "w") as file:
        if path.suffix == ".h5":
            file.attrs["model_config"] = json.dumps(model)
            group = file.create_group("model_weights/dense")
            group.attrs["weight_names"] = ["dense/kernel:0", "dense/bias:0"]
            group["dense/kernel:0"], group["dense/bias:0"] = STATE["dense1.weight"].T.numpy(), np.ones(3)
        else:
            file["layers/dense/vars/0"], file["layers/dense/vars/1"] = STATE["dense1.weight"].T.numpy(), np.ones(3)
    if path.suffix == ".keras":
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("config.json", json.dumps(model))
            archive.writestr("model.weights.h5", buffer.getvalue())


FORMATS = [".pt", ".safetensors", ".onnx", ".h5", ".keras"]
NAMES = {".onnx": {"dense1.weight": "w"}}


@pytest.mark.parametrize("ending", FORMATS)
def test_the_samples_are_read(ending: str, tmp_path: Path) -> None:
    read = read_weights(sample(tmp_path, ending), names=NAMES.get(ending))
    (name,) = [name for name in read.tensors if name.endswith("weight")]
    torch.testing.assert_close(read.tensors[name], STATE["dense1.weight"])


@pytest.mark.parametrize("ending", FORMATS)
def test_a_damaged_file_is_one_error_or_still_right(ending: str, tmp_path: Path) -> None:
    path = sample(tmp_path, ending)
    whole = path.read_bytes()
    draws = np.random.default_rng(0)
    cuts = [0, 1, 8, *draws.integers(9, len(whole), 25).tolist()]
    # HDF5's own library may loop forever on bytes that were exchanged; in a .keras file a checksum is in front of it.
    exchanged = [] if ending == ".h5" else [flipped(whole, draws) for _ in range(60)]
    for content in [*(whole[:cut] for cut in cuts), *exchanged, draws.bytes(300)]:
        path.write_bytes(content)
        try:
            read_weights(path, names=NAMES.get(ending))
        except DataError as error:
            assert str(path) in str(error)


def flipped(whole: bytes, draws: np.random.Generator) -> bytes:
    changed = bytearray(whole)
    for place in draws.integers(0, len(whole), 6):
        changed[place] = int(draws.integers(0, 256))
    return bytes(changed)


def test_an_unknown_ending_and_a_missing_file_are_told_apart(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"its name must end in \.h5, \.hdf5, \.keras"):
        read_weights(tmp_path / "w.bin")
    with pytest.raises(DataError, match="there is no file"):
        read_weights(tmp_path / "w.pt")
    (tmp_path / "d.pt").mkdir()
    with pytest.raises(DataError, match="there is no file"):
        read_weights(tmp_path / "d.pt")
