from __future__ import annotations

import hashlib
import pickle
import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.error import URLError

import numpy as np
import pytest
import torchvision.datasets

from dnntrain.errors import DataError
from dnntrain.parts.datasets import Arrays, Decoded, datasets

Open = Callable[..., Arrays]
IDX = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")


def write_idx(path: Path, array: np.ndarray) -> None:
    header = bytes((0, 0, 8, array.ndim)) + np.array(array.shape, dtype=">u4").tobytes()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(header + array.astype(np.uint8).tobytes())


@pytest.fixture
def pictures() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    arrays = [rng.integers(0, 256, (30, 28, 28)), rng.permutation(30) % 10, rng.integers(0, 256, (10, 28, 28))]
    return dict(zip(IDX, [*arrays, np.arange(10)], strict=True))


@pytest.fixture
def root(tmp_path: Path, pictures: dict[str, np.ndarray]) -> Path:
    """A folder with tiny versions of both idx sets."""
    for name in ("MNIST", "FashionMNIST"):
        for file, array in pictures.items():
            write_idx(tmp_path / "root" / name / "raw" / file, array)
    return tmp_path / "root"


@pytest.fixture
def cifar(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, np.ndarray]:
    """A tiny CIFAR-10 in its own format, with the checksums that torchvision then expects."""
    base = tmp_path / "root" / "cifar-10-batches-py"
    base.mkdir(parents=True)
    rng = np.random.default_rng(0)
    rows = rng.integers(0, 256, (18, 3072), dtype=np.uint8)
    names = [*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"]
    sums = {}
    for i, name in enumerate(names):
        content = {"data": rows[3 * i : 3 * i + 3], "labels": [i, i + 1, i + 2]}
        (base / name).write_bytes(pickle.dumps(content))
    (base / "batches.meta").write_bytes(pickle.dumps({"label_names": [f"class{i}" for i in range(10)]}))
    for name in (*names, "batches.meta"):
        sums[name] = hashlib.md5((base / name).read_bytes(), usedforsecurity=False).hexdigest()
    dataset = torchvision.datasets.CIFAR10
    monkeypatch.setattr(dataset, "train_list", [[name, sums[name]] for name in names[:5]])
    monkeypatch.setattr(dataset, "test_list", [["test_batch", sums["test_batch"]]])
    monkeypatch.setattr(dataset, "meta", {**dataset.meta, "md5": sums["batches.meta"]})
    return tmp_path / "root", rows


def refuse_network(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    asked: list[str] = []

    def refuse(url: str, *_: Any, **__: Any) -> None:
        asked.append(url)
        raise URLError("Temporary failure in name resolution")

    monkeypatch.setattr("torchvision.datasets.mnist.download_and_extract_archive", refuse)
    monkeypatch.setattr("torchvision.datasets.cifar.download_and_extract_archive", refuse)
    return asked


@pytest.mark.parametrize("name", ["mnist", "fashion_mnist"])
def test_reads_torchvisions_layout_without_archives_or_network(
    name: str, root: Path, pictures: dict[str, np.ndarray], opened: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = refuse_network(monkeypatch)
    arrays = opened(name, root=root)
    assert arrays.x_train.shape == (30, 1, 28, 28) and arrays.x_train.dtype == np.uint8
    assert np.array_equal(arrays.x_train[:, 0], pictures[IDX[0]])
    assert np.array_equal(arrays.y_train, pictures[IDX[1]]) and arrays.y_train.dtype == np.int64
    assert arrays.x_test is not None and np.array_equal(arrays.x_test[:, 0], pictures[IDX[2]])
    assert arrays.y_test is not None and np.array_equal(arrays.y_test, pictures[IDX[3]])
    assert (arrays.layout, arrays.full_scale) == ("pictures", 255.0)
    assert arrays.classes is not None and len(arrays.classes) == 10
    assert arrays.classes[0] == {"mnist": "0", "fashion_mnist": "T-shirt/top"}[name]
    assert asked == []


def test_the_default_root_is_dnntrain_data(root: Path, opened: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DNNTRAIN_DATA", str(root))
    assert len(opened("mnist").y_train) == 30


def test_cifar10_is_read_channels_first(cifar: tuple[Path, np.ndarray], opened: Open) -> None:
    root, rows = cifar
    arrays = opened("cifar10", root=root)
    assert np.array_equal(arrays.x_train, rows[:15].reshape(-1, 3, 32, 32))
    assert arrays.x_test is not None and np.array_equal(arrays.x_test, rows[15:].reshape(-1, 3, 32, 32))
    assert arrays.y_train.tolist() == [0, 1, 2, 1, 2, 3, 2, 3, 4, 3, 4, 5, 4, 5, 6]
    assert arrays.y_train.dtype == np.int64 and arrays.classes == tuple(f"class{i}" for i in range(10))


@pytest.mark.parametrize("name", ["data_batch_3", "test_batch", "batches.meta"])
def test_a_damaged_pickle_is_named_and_never_read(name: str, cifar: tuple[Path, np.ndarray], opened: Open) -> None:
    root, _ = cifar
    file = root / "cifar-10-batches-py" / name
    file.write_bytes(pickle.dumps("anything else"))
    with pytest.raises(DataError, match=f"{name} is damaged"):
        opened("cifar10", root=root)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda content: content[:-1], r"7,855 bytes, its header promises 7,856|23,535 bytes, its header promises"),
        (lambda content: b"", "does not start like an IDX file"),
        (lambda content: content[:9], "does not start like an IDX file"),
        (lambda content: bytes(len(content)), "does not start like an IDX file"),
        (lambda content: b"\x1f\x8b" + content[2:], "does not start like an IDX file"),
        (lambda content: content[:2] + b"\x0d" + content[3:], "does not start like an IDX file"),
    ],
)
@pytest.mark.parametrize("file", [IDX[0], IDX[2]])
def test_a_damaged_idx_file_is_named(
    file: str, change: Callable[[bytes], bytes], said: str, root: Path, opened: Open
) -> None:
    path = root / "MNIST" / "raw" / file
    path.write_bytes(change(path.read_bytes()))
    with pytest.raises(DataError, match=said) as raised:
        opened("mnist", root=root)
    assert str(path) in str(raised.value)


def test_labels_must_fit_the_pictures(root: Path, opened: Open) -> None:
    labels = root / "MNIST" / "raw" / IDX[1]
    write_idx(labels, np.arange(29) % 10)
    with pytest.raises(DataError, match="not pictures and their labels"):
        opened("mnist", root=root)
    write_idx(labels, np.arange(30))
    with pytest.raises(DataError, match="holds the label 29, but MNIST has the classes 0 to 9"):
        opened("mnist", root=root)


@pytest.mark.parametrize("name", [entry.name for entry in datasets if entry.traits["downloads"]])
def test_a_failed_download_says_what_to_do_and_leaves_nothing(
    name: str, tmp_path: Path, opened: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = refuse_network(monkeypatch)
    with pytest.raises(DataError) as raised:
        opened(name, root=tmp_path / "data")
    assert asked
    message = str(raised.value)
    titles = {"cifar10": "CIFAR-10", "cifar100": "CIFAR-100", "mnist": "MNIST", "fashion_mnist": "Fashion-MNIST"}
    assert message.startswith(f"{titles[name]} could not be downloaded to {tmp_path / 'data'}: ")
    assert "name resolution" in message and "put the files there" in message
    assert {"cifar10": "data_batch_1", "cifar100": "cifar-100-python/train"}.get(name, "MNIST/raw/") in message
    assert "http" not in message
    assert list((tmp_path / "data").iterdir()) == []


def test_a_root_that_cannot_be_written_is_a_failed_download(tmp_path: Path, opened: Open) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(DataError, match="CIFAR-10 could not be downloaded"):
        opened("cifar10", root=tmp_path / "file")


def fake_unpacking(pictures: dict[str, np.ndarray], fail_after: int, seen: list[list[str]]) -> Callable[..., None]:
    """Stand in for torchvision's download: write each file, and fail halfway through one of them."""
    done: list[str] = []

    def unpack(url: str, download_root: str, filename: str, md5: str) -> None:
        print("progress on stdout")
        seen.append(sorted(path.name for path in Path(download_root).iterdir()))
        name = filename.removesuffix(".gz")
        write_idx(Path(download_root) / name, pictures[name])
        done.append(name)
        if len(done) > fail_after:
            path = Path(download_root) / name
            path.write_bytes(path.read_bytes()[:100])
            raise KeyboardInterrupt

    return unpack


def test_a_download_appears_whole(
    tmp_path: Path,
    pictures: dict[str, np.ndarray],
    opened: Open,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr("torchvision.datasets.mnist.download_and_extract_archive", fake_unpacking(pictures, 9, []))
    arrays = opened("mnist", root=tmp_path / "data")
    assert np.array_equal(arrays.y_train, pictures[IDX[1]])
    assert sorted(path.name for path in (tmp_path / "data" / "MNIST" / "raw").iterdir()) == sorted(IDX)
    assert [path.name for path in (tmp_path / "data").iterdir()] == ["MNIST"]
    assert capfd.readouterr().out == ""
    refuse_network(monkeypatch)
    shutil.rmtree(tmp_path / "cache")
    assert opened("mnist", root=tmp_path / "data").fingerprint == arrays.fingerprint


@pytest.mark.parametrize("files", range(4))
def test_an_interrupted_download_is_not_taken_for_a_whole_one(
    files: int, tmp_path: Path, pictures: dict[str, np.ndarray], opened: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    patched = "torchvision.datasets.mnist.download_and_extract_archive"
    monkeypatch.setattr(patched, fake_unpacking(pictures, files, []))
    with pytest.raises(KeyboardInterrupt):
        opened("mnist", root=tmp_path / "data")
    assert list((tmp_path / "data").iterdir()) == []
    monkeypatch.setattr(patched, fake_unpacking(pictures, 9, []))
    assert np.array_equal(opened("mnist", root=tmp_path / "data").y_train, pictures[IDX[1]])


def test_archives_that_the_user_put_there_are_offered_to_torchvision(
    tmp_path: Path, pictures: dict[str, np.ndarray], opened: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    raw = tmp_path / "data" / "MNIST" / "raw"
    raw.mkdir(parents=True)
    (raw / f"{IDX[0]}.gz").write_bytes(b"the user's")
    seen: list[list[str]] = []
    monkeypatch.setattr("torchvision.datasets.mnist.download_and_extract_archive", fake_unpacking(pictures, 9, seen))
    opened("mnist", root=tmp_path / "data")
    assert seen[0] == [f"{IDX[0]}.gz"]
    assert (raw / f"{IDX[0]}.gz").read_bytes() == b"the user's"


def test_a_cifar_archive_beside_is_unpacked_without_network(
    cifar: tuple[Path, np.ndarray], opened: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    root, rows = cifar
    archive = root / "cifar-10-python.tar.gz"
    with tarfile.open(archive, "w:gz") as tar:
        tar.add(root / "cifar-10-batches-py", "cifar-10-batches-py")
    shutil.rmtree(root / "cifar-10-batches-py")
    checksum = hashlib.md5(archive.read_bytes(), usedforsecurity=False).hexdigest()
    monkeypatch.setattr(torchvision.datasets.CIFAR10, "tgz_md5", checksum)
    arrays = opened("cifar10", root=root)
    assert np.array_equal(arrays.x_train, rows[:15].reshape(-1, 3, 32, 32))


@pytest.mark.parametrize("name", [entry.name for entry in datasets if entry.traits["downloads"]])
def test_the_files_looked_for_are_those_that_torchvision_makes(name: str) -> None:
    from dnntrain.parts.datasets import public

    known = {"cifar10": public._CIFAR10, "cifar100": public._CIFAR100, "mnist": public._MNIST}
    ours = known.get(name, public._FASHION_MNIST)
    theirs: Any = getattr(torchvision.datasets, ours.torchvision)
    if hasattr(theirs, "resources"):
        archives = [f"{ours.torchvision}/raw/{file}" for file, _ in theirs.resources]
        files = [file.removesuffix(".gz") for file in archives]
    else:
        archives = [theirs.filename]
        lists = [*theirs.train_list, *theirs.test_list, (theirs.meta["filename"], "")]
        files = [f"{theirs.base_folder}/{file}" for file, _ in lists]
    assert list(ours.files) == files and list(ours.archives) == archives


@pytest.mark.data
def test_real_mnist(sample_data: Path, decoded: Callable[..., Decoded]) -> None:
    mnist = decoded("mnist", root=sample_data)
    assert mnist.x_train.shape == (60000, 1, 28, 28)
    assert mnist.x_test is not None and mnist.x_test.shape == (10000, 1, 28, 28)
    assert mnist.y_train[:5].tolist() == [5, 0, 4, 1, 9]
    assert mnist.x_train.mean() / 255 == pytest.approx(0.1307, abs=1e-4)


@pytest.mark.data
def test_a_slice_of_fashion_mnist(sample_data: Path, decoded: Callable[..., Decoded]) -> None:
    fashion = decoded("fashion_mnist", root=sample_data)
    assert len(fashion.x_train) == 3000 and fashion.x_test is not None and len(fashion.x_test) == 614
    assert fashion.y_train[0] == 9 and fashion.classes is not None and fashion.classes[9] == "Ankle boot"
