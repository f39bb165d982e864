"""Predictions as they are read: batch by batch, whatever cannot be read named."""

from __future__ import annotations

import math
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits

import dnntrain
from dnntrain.errors import DataError
from dnntrain.parts.datasets import inputs as inputs_module
from dnntrain.parts.datasets.decoding import memory
from dnntrain.parts.dropouts import mc_mode
from dnntrain.placement import place, settings
from dnntrain.trained import predictions

SPEC = {
    "name": "tiny",
    "data": {"dataset": "digits", "limit": 200},
    "model": {"architecture": {"name": "mlp", "hidden": [16]}, "dropout": {"name": "dropout", "rate": 0.5}},
    "training": {"epochs": 2, "device": "cpu", "threads": 1},
}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return dnntrain.train(SPEC, runs=tmp_path_factory.mktemp("runs")).path


@pytest.fixture
def some(tmp_path: Path) -> Path:
    path = tmp_path / "some.npy"
    np.save(path, load_digits().images[:10].astype(np.uint8))
    return path


@pytest.mark.parametrize("batch_size", [1, 3, 10, 64])
def test_batches_change_nothing(run: Path, some: Path, batch_size: int) -> None:
    made = dnntrain.predict(run, [some], batch_size=batch_size)
    with torch.inference_mode():
        expected = dnntrain.load(run)(torch.from_numpy(np.load(some))[:, None]).softmax(1)
    assert [each.name for each in made] == [f"{some}[{i}]" for i in range(10)]
    for each, row in zip(made, expected, strict=True):
        np.testing.assert_allclose(list(each.values.values()), row, rtol=1e-5, atol=1e-7)
        assert each.label == str(int(row.argmax()))


def test_no_more_is_read_than_is_asked_for(run: Path, some: Path) -> None:
    asked = []

    def paths() -> Iterator[Path]:
        for i in range(100):
            asked.append(i)
            yield some

    made = predictions(run, paths(), batch_size=15)
    next(made)
    assert len(asked) == 2
    made.close()


def test_a_large_array_is_not_read_into_memory(run: Path, tmp_path: Path) -> None:
    """A file of four times this machine's memory that is nearly all hole: its first samples come at once."""
    path = tmp_path / "large.npy"
    rows = 4 * memory() // 64
    with path.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, {"descr": "|u1", "fortran_order": False, "shape": (rows, 8, 8)})
        file.truncate(file.tell() + rows * 64)
    made = predictions(run, [path], batch_size=4)
    assert next(made).name == f"{path}[0]"
    made.close()


def test_what_cannot_be_read_is_skipped_and_told(run: Path, some: Path, tmp_path: Path) -> None:
    (tmp_path / "broken.png").write_bytes(b"no picture")
    (tmp_path / "empty").mkdir()
    bad = np.zeros((3, 8, 8), np.float32)
    bad[1, 2, 3] = np.nan
    np.save(tmp_path / "bad.npy", bad)
    told: list[str] = []
    files = [some, *(tmp_path / name for name in ("broken.png", "missing.png", "empty", "bad.npy")), some]
    made = list(predictions(run, files, batch_size=4, skip=lambda error: told.append(str(error))))
    assert len(made) == 10 + 2 + 10
    for message, name in zip(sorted(told), ["bad.npy", "broken.png", "missing.png", "empty"], strict=True):
        assert name in message
    assert "bad.npy[1]: what the network says of it is not finite, as the sample itself is not" in "\n".join(told)
    with pytest.raises(DataError, match=r"broken\.png cannot be read as a picture"):
        list(predictions(run, files))


def test_entropy_and_mutual_information_by_their_equations(run: Path, some: Path) -> None:
    made = dnntrain.predict(run, [some], mc_samples=7)
    trained = dnntrain.load(run)
    spec = trained.spec
    x = trained.prepare(torch.from_numpy(np.load(some))[:, None])
    with settings(spec, place(spec)), mc_mode(trained.model), torch.no_grad():
        passes = torch.stack([trained.model(x).softmax(1) for _ in range(7)]).double()
    for i, each in enumerate(made):
        mean = passes[:, i].mean(0)
        total = -sum(float(p) * math.log(p) for p in mean)
        own = [-sum(float(p) * math.log(p) for p in row) for row in passes[:, i]]
        assert each.entropy == pytest.approx(total, abs=1e-5)
        assert each.mutual_information == pytest.approx(total - sum(own) / 7, abs=1e-5)
        assert 0 < each.mutual_information < each.entropy < math.log(10)
    assert all(each.entropy is None for each in dnntrain.predict(run, [some]))


def test_one_logit_is_that_of_the_second_class(tmp_path: Path, some: Path) -> None:
    spec = {**SPEC, "data": {"dataset": "digits", "limit": 100, "classes": [3, 8]}, "loss": "binary_cross_entropy"}
    path = dnntrain.train(spec, runs=tmp_path).path
    with torch.inference_mode():
        second = dnntrain.load(path)(torch.from_numpy(np.load(some))[:, None]).sigmoid()[:, 0]
    assert second.min() < 0.5 < second.max()
    for each, share in zip(dnntrain.predict(path, [some]), second.tolist(), strict=True):
        assert each.values == pytest.approx({"3": 1 - share, "8": share}, abs=1e-6)
        assert each.label == ("8" if share > 0.5 else "3")
    for each in dnntrain.predict(path, [some], mc_samples=4):
        assert each.spread is not None
        assert each.spread["3"] == each.spread["8"] > 0


def test_pipes_and_links_to_nothing_among_pictures(run: Path, tmp_path: Path) -> None:
    folder = tmp_path / "pictures"
    folder.mkdir()
    os.mkfifo(folder / "a.png")
    (folder / "b.png").symlink_to("nowhere")
    told: list[str] = []

    def late(*_: object) -> None:
        raise TimeoutError("it waits for a pipe")

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(30)
    try:
        assert list(predictions(run, [folder], skip=lambda error: told.append(str(error)))) == []
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
    assert told == [f"{folder / name} is no file, or a link to none" for name in ("a.png", "b.png")]


def test_a_picture_of_16_bits_is_not_cut_off(run: Path, tmp_path: Path) -> None:
    from PIL import Image

    Image.fromarray(np.full((8, 8), 60_000, np.uint16)).save(tmp_path / "deep.png")
    with pytest.raises(DataError, match=r"deep\.png has more than 8 bits a channel"):
        dnntrain.predict(run, [tmp_path / "deep.png"])


def test_a_folder_that_may_not_be_read(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(folder: Path) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(inputs_module.os, "scandir", refuse)
    with pytest.raises(DataError, match="cannot read the folder .*: Permission denied"):
        dnntrain.predict(run, [tmp_path])
