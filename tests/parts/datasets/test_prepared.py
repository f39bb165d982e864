from __future__ import annotations

import errno
import json
import logging
import os
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from dnntrain.parts.datasets import Arrays, Decoded, Source, datasets, open_dataset, prepared
from dnntrain.parts.datasets.base import cache_folder, data_folder

Open = Callable[..., Arrays]


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    rng = np.random.default_rng(1)
    path = tmp_path / "data.npz"
    x = rng.integers(0, 256, (300, 40, 40, 3), dtype=np.uint8)
    np.savez(path, x_train=x, y_train=rng.permutation(300) % 10, x_test=x[:20], y_test=np.arange(20) % 10)
    return path


@pytest.fixture
def loads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Count how often anything is decoded."""
    made: list[str] = []
    for name in ("npz", "digits"):
        factory = datasets[name].factory

        def counting(*, _factory: Any = factory, _name: str = name, **options: Any) -> Source:
            source = _factory(**options)

            def load() -> Decoded:
                made.append(_name)
                return source.load()

            return replace(source, load=load)

        monkeypatch.setitem(datasets._entries, name, replace(datasets[name], factory=counting))
    return made


def only_folder(cache: Path) -> Path:
    folders = list((cache / "prepared").iterdir())
    assert len(folders) == 1, "nothing but the finished folder may stay"
    return folders[0]


def same(one: Arrays, other: Arrays) -> bool:
    return one.fingerprint == other.fingerprint == prepared.fingerprint(other) and all(
        np.array_equal(array, other.arrays()[name]) for name, array in one.arrays().items()
    )


def test_the_second_open_reads_the_cache(tmp_path: Path, archive: Path, opened: Open, loads: list[str]) -> None:
    first, second = opened("npz", path=archive), opened("npz", path=archive)
    assert loads == ["npz"]
    assert same(first, second)
    for name in ("layout", "classes", "full_scale", "grouped", "feature_names"):
        assert getattr(first, name) == getattr(second, name)
    assert {path.name for path in only_folder(tmp_path / "cache").iterdir()} == {
        *(f"{name}.npy" for name in first.arrays()),
        "meta.json",
    }


def test_arrays_are_mapped_and_torch_takes_them_without_a_warning(
    archive: Path, opened: Open, loads: list[str]
) -> None:
    for arrays in (opened("npz", path=archive), opened("npz", path=archive)):
        assert isinstance(arrays.x_train, np.memmap) and arrays.x_train.flags.c_contiguous
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            tensor = torch.from_numpy(arrays.x_train)
        tensor.zero_()
    assert opened("npz", path=archive).x_train.any()
    assert loads == ["npz"], "writing to the arrays must not reach the cache"


def test_a_changed_file_is_decoded_anew(archive: Path, opened: Open, loads: list[str]) -> None:
    before = opened("npz", path=archive)
    content = dict(np.load(archive))
    content["x_train"] = content["x_train"][::-1]
    np.savez(archive, **content)
    os.utime(archive, ns=(time.time_ns(), archive.stat().st_mtime_ns + 1))
    after = opened("npz", path=archive)
    assert loads == ["npz", "npz"]
    assert np.array_equal(after.x_train, before.x_train[::-1])
    assert after.fingerprint != before.fingerprint


def test_options_and_format_are_part_of_the_key(
    archive: Path, opened: Open, loads: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    opened("npz", path=archive)
    opened("npz", path=archive, layout="pictures")
    monkeypatch.setattr(prepared, "FORMAT", prepared.FORMAT + 1)
    opened("npz", path=archive)
    assert len(loads) == 3


def test_the_fingerprint_is_the_content_wherever_it_lies(tmp_path: Path, archive: Path, opened: Open) -> None:
    elsewhere = tmp_path / "elsewhere" / "other.npz"
    elsewhere.parent.mkdir()
    elsewhere.write_bytes(archive.read_bytes())
    assert opened("npz", path=elsewhere).fingerprint == opened("npz", path=archive).fingerprint


def test_the_fingerprint_sees_every_part_of_the_content() -> None:
    x, y = np.arange(8, dtype=np.float32).reshape(4, 2), np.array([0, 1, 0, 1])

    def decoded(**changed: Any) -> Decoded:
        values = {"x_train": x, "y_train": y, "x_test": None, "y_test": None, "classes": ("a", "b"), **changed}
        return Decoded(layout="features", **values)

    changes: list[dict[str, Any]] = [
        {},
        {"classes": ("a", "c")},
        {"classes": None},
        {"y_train": 1 - y},
        {"x_train": x.reshape(2, 4)},
        {"x_train": x.view(np.int32)},
        {"x_train": x + np.float32(1e-6)},
        {"x_test": x, "y_test": y},
    ]
    assert len({prepared.fingerprint(decoded(**change)) for change in changes}) == len(changes)
    assert prepared.fingerprint(decoded(x_train=np.asfortranarray(x))) == prepared.fingerprint(decoded())


def _truncate(path: Path) -> None:
    os.truncate(path, path.stat().st_size - 1)


def _zero(path: Path) -> None:
    path.write_bytes(bytes(path.stat().st_size))


def _zero_the_middle(path: Path) -> None:
    content = bytearray(path.read_bytes())
    third = len(content) // 3
    content[third : 2 * third] = bytes(third)
    path.write_bytes(content)


@pytest.mark.parametrize("name", ["x_train.npy", "y_train.npy", "x_test.npy", "meta.json"])
@pytest.mark.parametrize("tear", [Path.unlink, _truncate, _zero, _zero_the_middle])
def test_a_torn_cache_is_made_again(
    tmp_path: Path, archive: Path, opened: Open, loads: list[str], name: str, tear: Callable[[Path], None]
) -> None:
    first = opened("npz", path=archive)
    fresh = {name: np.array(array) for name, array in first.arrays().items()}
    tear(only_folder(tmp_path / "cache") / name)
    again = opened("npz", path=archive)
    assert len(loads) == 2
    assert all(np.array_equal(again.arrays()[name], array) for name, array in fresh.items())
    opened("npz", path=archive)
    assert len(loads) == 2, "the cache is whole again"
    only_folder(tmp_path / "cache")


@pytest.mark.parametrize("content", ["[]", "{}", '{"checks": 3}', '{"checks": {}, "described": {"classes": 1}}', "\0"])
def test_meta_that_means_nothing_counts_as_torn(tmp_path: Path, archive: Path, opened: Open, content: str) -> None:
    first = opened("npz", path=archive)
    (only_folder(tmp_path / "cache") / "meta.json").write_text(content)
    assert same(first, opened("npz", path=archive))


def test_meta_says_what_the_folder_is(tmp_path: Path, archive: Path, opened: Open) -> None:
    opened("npz", path=archive)
    key = json.loads((only_folder(tmp_path / "cache") / "meta.json").read_text())["key"]
    assert key["dataset"] == "npz" and key["options"]["path"] == str(archive)


def test_a_cache_that_cannot_be_made_costs_only_time(
    tmp_path: Path, archive: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_text("in the way")
    choice = datasets.choose({"name": "npz", "path": archive})
    with caplog.at_level(logging.WARNING, logger="dnntrain"):
        arrays = open_dataset(choice, cache=tmp_path / "file")
    assert not isinstance(arrays.x_train, np.memmap) and arrays.x_train.flags.writeable
    assert arrays.x_train.shape == (300, 3, 40, 40)
    assert "cannot be written" in caplog.text and str(tmp_path / "file") in caplog.text


def test_a_full_disk_leaves_nothing_behind(
    tmp_path: Path, archive: Path, opened: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    save, saved = np.save, []

    def fail(file: Any, array: np.ndarray, **options: Any) -> None:
        saved.append(array)
        if len(saved) == 3:
            raise OSError(errno.ENOSPC, "No space left on device")
        save(file, array, **options)

    monkeypatch.setattr(np, "save", fail)
    arrays = opened("npz", path=archive)
    assert len(saved) == 3 and arrays.y_train.shape == (300,)
    assert list((tmp_path / "cache" / "prepared").iterdir()) == []
    monkeypatch.setattr(np, "save", save)
    assert same(arrays, opened("npz", path=archive))


def test_whoever_comes_second_takes_the_copy_of_the_first(
    tmp_path: Path, archive: Path, opened: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = prepared._write
    overtaken: list[int] = []

    def slow(arrays: Arrays, key: Any, folder: Path) -> None:
        write(arrays, key, folder)
        if not overtaken:
            overtaken.append(0)
            opened("npz", path=archive)
            overtaken[0] = next((tmp_path / "cache" / "prepared").glob("[!.]*")).stat().st_ino

    monkeypatch.setattr(prepared, "_write", slow)
    arrays = opened("npz", path=archive)
    assert same(arrays, opened("npz", path=archive))
    assert isinstance(arrays.x_train, np.memmap)
    assert only_folder(tmp_path / "cache").stat().st_ino == overtaken[0]


def test_cache_and_data_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert cache_folder() == tmp_path / "user-cache"
    assert data_folder() == tmp_path / "user-data"
    open_dataset(datasets.choose("diabetes"))
    only_folder(tmp_path / "user-cache")
    monkeypatch.delenv("DNNTRAIN_CACHE")
    monkeypatch.delenv("DNNTRAIN_DATA")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert data_folder() == cache_folder() / "data"
    assert cache_folder().name == "dnntrain"


RACER = """
import sys, time
from pathlib import Path
from dnntrain.parts.datasets import datasets, open_dataset, prepared
cache, archive, me = Path(sys.argv[1]), sys.argv[2], Path(sys.argv[3])
choice = datasets.choose({"name": "npz", "path": archive})
me.touch()
while len(list(me.parent.iterdir())) < 2:
    time.sleep(0.0005)
arrays = open_dataset(choice, cache=cache)
assert prepared.fingerprint(arrays) == arrays.fingerprint
print(arrays.fingerprint)
"""


@pytest.mark.process
def test_two_processes_may_prepare_the_same_data_at_once(tmp_path: Path, archive: Path, opened: Open) -> None:
    (tmp_path / "line").mkdir()
    racers = [
        subprocess.Popen(
            [sys.executable, "-c", RACER, str(tmp_path / "race"), str(archive), str(tmp_path / "line" / name)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for name in "ab"
    ]
    results = [racer.communicate(timeout=60) for racer in racers]
    expected = opened("npz", path=archive).fingerprint
    assert results == [(expected + "\n", "")] * 2
    only_folder(tmp_path / "race")


SECOND = """
import sys
from pathlib import Path
from dnntrain.parts.datasets import datasets, open_dataset
cached = [
    "digits",
    {"name": "fashion_mnist", "root": sys.argv[2]},
    {"name": "csv", "path": sys.argv[3], "target": "b"},
]
for value in cached:
    open_dataset(datasets.choose(value), cache=Path(sys.argv[1]))
print(sorted({"torch", "torchvision", "sklearn", "pyarrow", "PIL"} & set(sys.modules)))
"""


@pytest.mark.process
def test_the_second_open_imports_no_library(tmp_path: Path, opened: Open) -> None:
    table, raw = tmp_path / "table.csv", tmp_path / "FashionMNIST" / "raw"
    table.write_text("a,b\n1,x\n2,y\n")
    raw.mkdir(parents=True)
    for part in ("train", "t10k"):
        (raw / f"{part}-images-idx3-ubyte").write_bytes(bytes.fromhex("00000803 00000002 00000001 00000001 0105"))
        (raw / f"{part}-labels-idx1-ubyte").write_bytes(bytes.fromhex("00000801 00000002 0001"))
    opened("digits")
    opened("fashion_mnist", root=tmp_path)
    opened("csv", path=table, target="b")
    command = [sys.executable, "-c", SECOND, str(tmp_path / "cache"), str(tmp_path), str(table)]
    result = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (result.stdout, result.stderr) == ("[]\n", "")
