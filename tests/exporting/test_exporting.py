"""A run's network as a file: what it computes, what it says of itself, and when there is none."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from safetensors import safe_open
from torch import Tensor

import dnntrain
from dnntrain import build
from dnntrain.errors import DnntrainError, ExportError, StoreError, UsageError
from dnntrain.exporting import TOLERANCE, export, fold_batch_norm
from dnntrain.exporting import formats as formats_module

SPEC = {
    "name": "tiny",
    "data": {"dataset": "digits", "limit": 200},
    "model": {"architecture": {"name": "cnn", "widths": [4, 6]}, "normalization": "batch"},
    "training": {"epochs": 1, "device": "cpu", "threads": 1},
}
# A process to which dnntrain is unknown reads the program, and what it says of itself.
ALONE = """
import json, sys
class Nowhere:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] == "dnntrain":
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Nowhere())
import torch
files = {"dnntrain.json": ""}
program = torch.export.load(sys.argv[1], extra_files=files).module()
x = torch.load(sys.argv[2])
torch.save([program(x), program(x[:1])], sys.argv[3])
print(json.dumps([json.loads(files["dnntrain.json"])["classes"], "dnntrain" in sys.modules]))
"""


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return dnntrain.train(SPEC, runs=tmp_path_factory.mktemp("runs")).path


@pytest.fixture(scope="module")
def trained(run: Path) -> dnntrain.Trained:
    return dnntrain.load(run).requires_grad_(False)


@pytest.fixture(scope="module")
def raw(trained: dnntrain.Trained) -> Tensor:
    """The whole test part, as the data set holds it."""
    part = build.open_data(trained.spec).parts.test
    assert part is not None
    return torch.from_numpy(part.x[part.index].astype(np.float32))


@pytest.mark.parametrize("whole", [False, True], ids=["prepared", "raw"])
def test_onnx_agrees_on_the_whole_test_part(
    run: Path, trained: dnntrain.Trained, raw: Tensor, whole: bool, tmp_path: Path
) -> None:
    made = export(run, output=tmp_path / "m.onnx", preprocessing=whole, fuse=whole)
    assert (made.format, made.folded, made.source, made.samples) == ("onnx", 2 if whole else None, "test", 256)
    assert made.bytes == made.path.stat().st_size
    session = onnxruntime.InferenceSession(str(made.path), providers=["CPUExecutionProvider"])
    x = raw if whole else trained.prepare(raw)
    for samples in (x, x[:1]):
        (logits,) = session.run(["logits"], {"input": samples.numpy()})
        assert (torch.from_numpy(logits) - trained(raw[: len(samples)])).abs().max() < TOLERANCE
    proto = onnx.load(str(made.path))
    about = {entry.key: entry.value for entry in proto.metadata_props}
    assert json.loads(about["classes"]) == list("0123456789")
    assert (about["run"], about["preprocessing"]) == (run.name, json.dumps(whole))
    assert proto.opset_import[0].version == made.opset
    assert [node for node in proto.graph.node if node.op_type == "BatchNormalization"] == [] or not whole


def test_a_program_of_torch_needs_no_dnntrain(
    run: Path, trained: dnntrain.Trained, raw: Tensor, tmp_path: Path
) -> None:
    made = export(run, format="torch", output=tmp_path / "m.pt2", preprocessing=True, fuse=True)
    torch.save(raw, tmp_path / "x.pt")
    files = [str(tmp_path / name) for name in ("m.pt2", "x.pt", "y.pt")]
    done = subprocess.run(
        [sys.executable, "-c", ALONE, *files], capture_output=True, text=True, check=False, cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == [list("0123456789"), False]
    for logits in torch.load(tmp_path / "y.pt"):
        assert (logits - trained(raw[: len(logits)])).abs().max() < TOLERANCE
    assert (made.opset, made.folded) == (None, 2)


@pytest.fixture(scope="module")
def resized(tmp_path_factory: pytest.TempPathFactory) -> Path:
    spec = {
        "data": {"dataset": "digits", "limit": 100, "resize": [10, 12], "standardize": "channel"},
        "model": {"architecture": {"name": "mlp", "hidden": [4]}},
        "training": SPEC["training"],
    }
    return dnntrain.train(spec, runs=tmp_path_factory.mktemp("runs")).path


@pytest.mark.parametrize("format_", ["onnx", "torch", "safetensors"])
def test_resizing_is_part_of_the_preprocessing(resized: Path, format_: str, raw: Tensor, tmp_path: Path) -> None:
    """Pictures go in as floats of the data's size, and are brought to the network's as the run's own bytes are."""
    made = export(resized, format=format_, output=tmp_path / "m", preprocessing=True)
    assert (made.shape, made.source) == ((1, 8, 8), "test")
    expected = dnntrain.load(resized).requires_grad_(False)(raw.to(torch.uint8))
    if format_ == "safetensors":
        with safe_open(made.path, "pt") as file:
            about = file.metadata()
            assert {"prepare.scale", "prepare.shift"} < set(file.keys())
        assert (json.loads(about["shape"]), json.loads(about["resize"])) == ([1, 8, 8], [10, 12])
    elif format_ == "onnx":
        session = onnxruntime.InferenceSession(str(made.path), providers=["CPUExecutionProvider"])
        (logits,) = session.run(["logits"], {"input": raw.numpy()})
        assert (torch.from_numpy(logits) - expected).abs().max() < TOLERANCE
    else:
        logits = torch.export.load(made.path).module()(raw)
        assert (logits - expected).abs().max() < TOLERANCE


def test_without_its_data_the_size_of_pictures_is_not_known(
    resized: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def gone(spec: Any) -> None:
        raise DnntrainError("there is no file x")

    monkeypatch.setattr(build, "open_data", gone)
    with pytest.raises(ExportError, match="cannot be used: there is no file x; bring it back, or leave out"):
        export(resized, format="safetensors", output=tmp_path / "m", preprocessing=True)
    made = export(resized, format="safetensors", output=tmp_path / "m")
    assert (made.source, made.shape) == ("random", (1, 10, 12))


def test_tensors_have_the_names_of_the_network(run: Path, trained: dnntrain.Trained, tmp_path: Path) -> None:
    made = export(run, format="safetensors", output=tmp_path / "m.safetensors")
    assert made.difference == 0.0
    with safe_open(made.path, "pt") as file:
        state = trained.model.state_dict()
        assert set(file.keys()) == set(state)
        assert all(torch.equal(file.get_tensor(name), tensor) for name, tensor in state.items())
        about = file.metadata()
    assert (about["format"], about["run"], about["dnntrain"]) == ("pt", run.name, dnntrain.__version__)
    assert json.loads(about["shape"]) == [1, 8, 8]
    export(run, format="safetensors", output=made.path, preprocessing=True, fuse=True, force=True)
    with safe_open(made.path, "pt") as file:
        folded = fold_batch_norm(trained.model).model.state_dict()
        assert set(file.keys()) == {*folded, "prepare.scale", "prepare.shift"}
        assert torch.equal(file.get_tensor("conv1.weight"), folded["conv1.weight"])
        assert torch.equal(file.get_tensor("prepare.shift"), trained.prepare.shift)


def test_it_is_named_after_the_run(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert export(run, format="safetensors").path == Path(f"{run.name}.safetensors")
    assert [path.name for path in tmp_path.iterdir()] == [f"{run.name}.safetensors"]


def test_nothing_is_written_over_unless_forced(run: Path, tmp_path: Path) -> None:
    path = tmp_path / "m.safetensors"
    path.write_text("mine")
    with pytest.raises(UsageError, match="is there already; name another file"):
        export(run, format="safetensors", output=path)
    assert path.read_text() == "mine"
    export(run, format="safetensors", output=path, force=True)
    assert path.read_bytes() != b"mine"
    link = tmp_path / "link"
    link.symlink_to("nowhere")
    with pytest.raises(UsageError, match="is there already"):
        export(run, format="safetensors", output=link)


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"format": "onix"}, "no format 'onix'; did you mean 'onnx'"),
    ({"format": "torch", "opset": 18}, "--opset is for --format onnx, not torch"),
    ({"opset": 9}, "opsets 18 to"),
    ({"output": "."}, "is a folder; name a file in it"),
]


@pytest.mark.parametrize(("options", "message"), WRONG, ids=[message[:12] for _, message in WRONG])
def test_a_request_that_cannot_be(options: dict[str, Any], message: str, run: Path) -> None:
    with pytest.raises(UsageError, match=message):
        export(run, **options)


def test_a_missing_package_is_named_with_what_brings_it(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(formats_module, "find_spec", lambda name: None if name.startswith("onnx") else object())
    with pytest.raises(UsageError, match=r"onnx and onnxscript and onnxruntime, .* pip install 'dnntrain\[formats\]'"):
        export(run)


def test_no_file_where_it_computes_something_else(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    right = formats_module.FORMATS["safetensors"]

    def off(by: float, last: int = 0) -> Any:
        def make(network: Any, opset: int | None) -> Any:
            written = right.make(network, opset)

            def compute(x: Tensor) -> Tensor:
                if len(x) == 1 and last:
                    raise RuntimeError("batch is not 1")
                return written.compute(x) + by

            return replace(written, compute=compute)

        return replace(right, make=make)

    path = tmp_path / "m"
    for by in (1.0, float("nan")):
        monkeypatch.setitem(formats_module.FORMATS, "safetensors", off(by))
        with pytest.raises(ExportError, match="does not compute the same: outputs differ by up to (1|nan)"):
            export(run, format="safetensors", output=path)
    monkeypatch.setitem(formats_module.FORMATS, "safetensors", off(0.0, 1))
    with pytest.raises(ExportError, match="does not take 1 samples, though it should take any number: batch is not 1"):
        export(run, format="safetensors", output=path)
    assert list(tmp_path.iterdir()) == []


def test_an_exporter_that_fails_is_told_in_one_line(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*args: Any, **kwargs: Any) -> None:
        raise RuntimeError("\n\x1b[31mConstraints violated\x1b[0m\nand much more")

    monkeypatch.setattr(torch.export, "export", fails)
    with pytest.raises(ExportError, match=r"^this network cannot be written as an exported program: \S*Constraints"):
        export(run, format="torch", output=tmp_path / "m")


def copied(run: Path, folder: Path) -> Path:
    import shutil

    return Path(shutil.copytree(run, folder / "copy"))


def test_weights_that_are_not_finite_are_not_exported(run: Path, tmp_path: Path) -> None:
    copy = copied(run, tmp_path)
    best = torch.load(copy / "checkpoints" / "best.pt", weights_only=True)
    best["model"]["conv1.weight"][0] = float("nan")
    torch.save(best, copy / "checkpoints" / "best.pt")
    with pytest.raises(ExportError, match=r"weights of model\.conv1\.weight are not finite"):
        export(copy, format="safetensors", output=tmp_path / "m")
    (copy / "checkpoints" / "best.pt").unlink()
    with pytest.raises(StoreError, match="no best checkpoint"):
        export(copy, format="safetensors", output=tmp_path / "m")


def test_where_it_cannot_be_written(run: Path, tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="cannot write .*No such file or directory"):
        export(run, format="safetensors", output=tmp_path / "nowhere" / "m")
    if os.getuid() == 0:
        return
    (tmp_path / "closed").mkdir(mode=0o500)
    with pytest.raises(StoreError, match="Permission denied"):
        export(run, format="safetensors", output=tmp_path / "closed" / "m")


def test_without_its_data_it_is_checked_on_random_inputs(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def gone(spec: Any) -> None:
        raise DnntrainError("there is no\n    file x")

    monkeypatch.setattr(build, "open_data", gone)
    made = export(run, format="safetensors", output=tmp_path / "m")
    assert (made.source, made.remark, made.samples) == ("random", "there is no file x", 256)


def test_numbers_are_values(tmp_path: Path) -> None:
    spec = {**SPEC, "data": {"dataset": "diabetes"}, "model": {"architecture": {"name": "mlp", "hidden": [4]}}}
    run = dnntrain.train(spec, runs=tmp_path).path
    made = export(run, format="torch", output=tmp_path / "m.pt2", preprocessing=True)
    assert (made.output, made.shape) == ("values", (10,))
