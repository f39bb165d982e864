"""Broken data: each file is told by its name, with exit code 1 or 2, and no run directory is left behind."""

from __future__ import annotations

import gzip
import io
import os
import struct
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest
from PIL import Image
from typer.testing import CliRunner, Result

from dnntrain.cli import app
from dnntrain.parts.datasets import decoding, tables

X = np.random.default_rng(0).normal(size=(20, 4)).astype(np.float32)
Y = np.arange(20) % 2
MODEL = "model: {architecture: {name: mlp, hidden: [4]}}\ntraining: {epochs: 1, device: cpu}\n"

Make = Callable[[Path], None]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def train(dataset: str, *arguments: str) -> Result:
    Path("c.yaml").write_text(f"data: {{dataset: {dataset}}}\n{MODEL}")
    return CliRunner().invoke(app, ["run", "c.yaml", *arguments])


def check_refused(result: Result, *said: str) -> None:
    """A broken file is explained once and plainly, and nothing has begun."""
    assert isinstance(result.exception, SystemExit), repr(result.exception)
    assert result.exit_code in (1, 2), result.output
    for words in said:
        assert words in result.stderr
    assert "Traceback" not in result.stderr
    assert len(result.stderr) < 1500
    assert len(result.stderr.splitlines()) <= 3
    assert not Path("runs").exists()


# NumPy archives.


def saved(**arrays: Any) -> Make:
    return lambda path: np.savez(path, **arrays)


def packed(**arrays: Any) -> bytes:
    stream = io.BytesIO()
    np.savez(stream, **arrays)
    return stream.getvalue()


def raw(content: bytes) -> Make:
    return lambda path: path.write_bytes(content) and None


def header(kind: str, shape: Any) -> bytes:
    """The beginning of an array in NumPy's own format, which may promise anything."""
    text = f"{{'descr': {kind!r}, 'fortran_order': False, 'shape': {shape!r}, }}".encode()
    text += b" " * (63 - (10 + len(text)) % 64) + b"\n"
    return b"\x93NUMPY\x01\0" + struct.pack("<H", len(text)) + text


def members(x: bytes, y: bytes = header("<i8", (3,))) -> Make:
    """An archive whose arrays are these bytes."""

    def make(path: Path) -> None:
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("x_train.npy", x)
            archive.writestr("y_train.npy", y)

    return make


def patched(local: int, central: int, value: int) -> Make:
    """A sound archive with one field of its headers changed, at these offsets from the headers' signatures."""

    def make(path: Path) -> None:
        content = bytearray(packed(x_train=X, y_train=Y))
        for signature, offset in ((b"PK\x03\x04", local), (b"PK\x01\x02", central)):
            at = content.find(signature)
            while at >= 0:
                content[at + offset] = value
                at = content.find(signature, at + 1)
        path.write_bytes(content)

    return make


def with_value(array: np.ndarray, place: Any, value: Any) -> np.ndarray:
    changed = array.copy()
    changed[place] = value
    return changed


PIXELS = np.zeros((20, 5, 5, 3))

ARCHIVES: list[tuple[str, Make, str]] = [
    ("an empty file", raw(b""), "not a NumPy archive"),
    ("a text", raw(b"x_train,y_train\n"), "not a NumPy archive"),
    ("cut short", raw(packed(x_train=X, y_train=Y)[:100]), "is damaged"),
    ("cut in the directory", raw(packed(x_train=X, y_train=Y)[:-30]), "is damaged"),
    ("a flipped bit", raw(packed(x_train=X, y_train=Y).replace(X[0].tobytes(), X[1].tobytes())), "x_train is damaged"),
    ("one array alone", raw(header("<f4", X.shape) + X.tobytes()), "holds one array without a name"),
    ("encrypted", patched(6, 8, 1), "is encrypted"),
    ("unknown compression", patched(8, 10, 99), "compression method is not supported"),
    ("members that are no arrays", members(b"hello"), "does not start like an array"),
    ("empty members", members(b""), "does not start like an array"),
    ("a header that promises a petabyte", members(header("<f4", (10**15,))), "not enough memory"),
    ("a header beyond numbers", members(header("<f4", (10**30,))), "x_train is damaged"),
    ("a header below zero", members(header("<f4", (-5, 3))), "x_train is damaged"),
    ("a header of brackets", members(b"\x93NUMPY\x01\0" + struct.pack("<H", 9000) + b"(" * 9000), "x_train is damaged"),
    ("an unknown type", members(header("zz", (3,))), "x_train is damaged"),
    ("values that are not there", members(header("<f4", (5, 4))), "x_train is damaged"),
    ("Python objects", saved(x_train=np.array([1, "a", None], dtype=object), y_train=Y), "holds Python objects"),
    ("texts", saved(x_train=X.astype(str), y_train=Y), "numbers are needed"),
    ("complex numbers", saved(x_train=X.astype(complex), y_train=Y), "numbers are needed"),
    ("no labels", saved(x_train=X), "has no array 'y_train'"),
    ("test labels alone", saved(x_train=X, y_train=Y, y_test=Y), "has no array 'x_test'"),
    ("no samples", saved(x_train=X[:0], y_train=Y[:0]), "x_train is empty"),
    ("fewer labels", saved(x_train=X, y_train=Y[:19]), "x_train has 20 samples, y_train 19"),
    ("one label", saved(x_train=X, y_train=np.float32(3)), "x_train has 20 samples, y_train 1"),
    ("one number", saved(x_train=np.float32(3), y_train=Y), "cannot be read as samples"),
    ("five axes", saved(x_train=np.zeros((20, 2, 2, 2, 2)), y_train=Y), "cannot be read as samples"),
    ("five channels", saved(x_train=np.zeros((20, 5, 5, 5)), y_train=Y), "does not hold pictures"),
    ("NaN pixels", saved(x_train=with_value(PIXELS, (3, 1, 2, 0), np.nan), y_train=Y), "nan at index (3, 0, 1, 2)"),
    (
        "infinite pixels",
        saved(x_train=with_value(PIXELS, (3, 1, 2, 0), np.inf), y_train=Y),
        "inf at index (3, 0, 1, 2)",
    ),
    ("numbers beyond float32", saved(x_train=X.astype(np.float64) * 1e300, y_train=Y), "finite float32 numbers"),
    ("NaN targets", saved(x_train=X, y_train=with_value(X[:, 0], 7, np.nan)), "y_train holds nan at index (7,)"),
    ("targets of three axes", saved(x_train=X, y_train=np.zeros((20, 2, 3))), "does not hold targets"),
    ("labels below zero", saved(x_train=X, y_train=Y - 1), "holds the label -1"),
    ("labels far out of range", saved(x_train=X, y_train=Y * 1000), "too far for class indices"),
    ("labels beyond int64", saved(x_train=X, y_train=np.full(20, 2**64 - 1, np.uint64)), "which is no class index"),
    ("one-hot labels", saved(x_train=X, y_train=np.eye(2)[Y]), "holds one-hot labels"),
    ("one-hot integers", saved(x_train=X, y_train=np.eye(2, dtype=int)[Y]), "one class index per sample"),
    ("unknown test labels", saved(x_train=X, y_train=Y, x_test=X, y_test=Y + 1), "y_test holds the label 2"),
    ("other test samples", saved(x_train=X, y_train=Y, x_test=X[:, :3], y_test=Y), "does not fit x_train"),
    ("test targets for classes", saved(x_train=X, y_train=Y, x_test=X, y_test=X[:, 0]), "y_test holds floats"),
]


@pytest.mark.parametrize(("make", "said"), [row[1:] for row in ARCHIVES], ids=[row[0] for row in ARCHIVES])
def test_a_broken_archive(make: Make, said: str, here: Path) -> None:
    make(here / "a.npz")
    check_refused(train("{name: npz, path: a.npz}"), "a.npz", said)


def test_one_class_alone_is_a_mistake_of_the_file(here: Path) -> None:
    np.savez("a.npz", x_train=X, y_train=Y * 0)
    check_refused(train("{name: npz, path: a.npz}"), "c.yaml:1:7: there is only one class")


def test_an_archive_that_unpacks_to_more_than_the_memory(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    np.savez_compressed("a.npz", x_train=np.zeros((100_000, 4), np.float32), y_train=Y)
    assert Path("a.npz").stat().st_size < 10_000
    monkeypatch.setattr(decoding, "memory", lambda: 1_000_000)
    check_refused(train("{name: npz, path: a.npz}"), "a.npz: x_train is damaged: it unpacks to 1,600,128 bytes")


def test_pictures_that_leave_instance_normalization_one_position(here: Path) -> None:
    """Only the signal itself shows how small it becomes; that must not take a training to find out."""
    np.savez("a.npz", x_train=np.arange(20 * 16, dtype=np.float32).reshape(20, 4, 4, 1), y_train=Y)
    network = ["--set", "model.architecture={name: resnet, depth: 8}", "--set", "model.normalization=instance"]
    check_refused(train("{name: npz, path: a.npz}", *network), "--set:2:21:", "a feature map of one position")


# Folders of pictures.


def picture(path: Path, mode: str = "RGB", size: tuple[int, int] = (5, 5)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, size).save(path)


def bomb(path: Path) -> None:
    """A PNG of a few bytes that says it holds 40,000 million pixels."""
    data = struct.pack(">IIBBBBB", 200_000, 200_000, 8, 0, 0, 0, 0)
    chunk = struct.pack(">I", len(data)) + b"IHDR" + data + struct.pack(">I", zlib.crc32(b"IHDR" + data))
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk)


def cut(path: Path) -> None:
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (50, 50, 3), dtype=np.uint8)).save(path)
    path.write_bytes(path.read_bytes()[:400])


PICTURES: list[tuple[str, str, Make, str]] = [
    ("a text named .jpg", "b.jpg", lambda path: path.write_text("no picture") and None, "cannot be read as a picture"),
    ("an empty file", "b.png", lambda path: path.write_bytes(b"") and None, "cannot be read as a picture"),
    ("cut short", "b.png", cut, "cannot be read as a picture"),
    ("a cut JPEG", "b.jpg", cut, "cannot be read as a picture"),
    ("sixteen bits", "b.png", lambda path: picture(path, "I;16"), "more than 8 bits per value"),
    ("float pixels", "b.tif", lambda path: picture(path, "F"), "more than 8 bits per value"),
    ("another size", "b.png", lambda path: picture(path, size=(5, 6)), "pictures must be of one size"),
    ("a bomb", "b.png", bomb, "cannot be read as a picture"),
    ("no numbers in a header", "b.ppm", lambda path: path.write_bytes(b"P6 x y 255\n") and None, "cannot be read"),
]


@pytest.mark.parametrize(("name", "make", "said"), [row[1:] for row in PICTURES], ids=[row[0] for row in PICTURES])
def test_a_broken_picture(name: str, make: Make, said: str, here: Path) -> None:
    picture(here / "p" / "cats" / "a.png")
    picture(here / "p" / "dogs" / "a.png")
    make(here / "p" / "dogs" / name)
    check_refused(train("{name: image_folder, path: p}"), f"dogs/{name}", said)


def test_pictures_of_many_kinds_are_read_all_the_same(here: Path) -> None:
    for i, (mode, end) in enumerate([("RGB", "png"), ("L", "png"), ("CMYK", "jpg"), ("P", "gif"), ("1", "bmp")] * 4):
        picture(here / "p" / "cats" / f"{i}.{end}", mode)
        picture(here / "p" / "dogs" / f"{i}.{end}", mode)
    result = train("{name: image_folder, path: p}", "-q")
    assert result.exit_code == 0, result.stderr


def folders(*names: str) -> Make:
    def make(path: Path) -> None:
        for name in names:
            (path / name).mkdir(parents=True)

    return make


def unknown_test_class(path: Path) -> None:
    picture(path / "train" / "cats" / "a.png")
    picture(path / "test" / "dogs" / "a.png")


FOLDERS: list[tuple[str, Make, str]] = [
    ("nothing at all", lambda path: None, "there is no folder"),
    ("a file", lambda path: path.write_text("") and None, "is a file; a folder is needed"),
    ("an empty folder", folders("."), "holds no class folders"),
    ("empty classes", folders("cats", "dogs"), "cats holds no pictures"),
    ("an empty split", folders("train"), "holds no class folders"),
    ("a folder named like a picture", folders("cats/a.png"), "cats holds no pictures"),
    ("a class of the test split alone", unknown_test_class, "dogs is a class that"),
    ("a link to itself", lambda path: path.symlink_to(path), "there is no folder"),
]


@pytest.mark.parametrize(("make", "said"), [row[1:] for row in FOLDERS], ids=[row[0] for row in FOLDERS])
def test_a_broken_folder(make: Make, said: str, here: Path) -> None:
    make(here / "p")
    check_refused(train("{name: image_folder, path: p}"), str(here / "p"), said)


# Tables.

TABLES: list[tuple[str, bytes, str, str]] = [
    ("an empty file", b"", "", "cannot be read"),
    ("a header alone", b"a,t\n", "", "has no rows"),
    ("a row too long", b"a,t\n1,2,3\n", "", "Expected 2 columns, got 3"),
    ("a quote left open", b'a,t\n"x,1\n', "", "cannot be read"),
    ("latin-1 values", b"a,t\n\xe9,1\n", "", "neither a number nor text in UTF-8"),
    ("latin-1 names", b"\xe9,t\n1,1\n", "", "text that is not UTF-8"),
    ("UTF-16", "a,t\n1,0\n2,1\n".encode("utf-16"), "", "a.csv"),
    ("every byte", bytes(range(256)) * 10, "", "cannot be read"),
    ("a missing value", b"a,t\n1,0\n,1\n", "", "column 'a', row 2 (not counting the header) has no value"),
    ("NaN", b"a,t\n1,0\nnan,1\n", "", "column 'a', row 2"),
    ("infinity", b"a,t\n1,0\ninf,1\n", "", "inf is not a finite float32 number"),
    ("no target", b"a,b\n1,2\n", "", "has no target column 't'"),
    ("the target alone", b"t\n1\n2\n", "", "no columns to predict 't' from"),
    ("a name given twice", b"a,a,t\n1,1,1\n", "", "'a' is there twice"),
    ("dates", b"a,t\n2020-01-01,1\n", "", "holds date32"),
    ("one class", b"a,t\n" + b"1,7\n" * 30, "", "there is only one class"),
    ("fractions for classes", b"a,t\n1,0.5\n2,1\n", ", task: classification", "holds fractions"),
    ("a delimiter beyond ASCII", b"a,t\n1,1\n", ", delimiter: \u00e9", "cannot be read"),
    ("a delimiter that ends lines", b"a,t\n1,1\n", ', delimiter: "\\n"', "cannot be read"),
]


@pytest.mark.parametrize(("content", "options", "said"), [row[1:] for row in TABLES], ids=[row[0] for row in TABLES])
def test_a_broken_table(content: bytes, options: str, said: str, here: Path) -> None:
    (here / "a.csv").write_bytes(content)
    result = train(f"{{name: csv, path: a.csv, target: t{options}}}")
    check_refused(result, said, "c.yaml" if "one class" in said else "a.csv")


def test_a_column_of_names_does_not_fill_the_memory(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tables, "_MOST_CATEGORIES", 10)
    Path("a.csv").write_text("who,t\n" + "".join(f"person {i},{i % 2}\n" for i in range(11)))
    check_refused(train("{name: csv, path: a.csv, target: t}"), "a.csv: column 'who' holds 11 different texts")


COLUMNS: list[tuple[str, Any, str]] = [
    ("lists", [[1], [2]], "holds list"),
    ("bytes", [b"x", b"\xff"], "holds binary"),
    ("records", [{"x": 1}] * 2, "holds struct"),
    ("times", pa.array([1, 2], pa.timestamp("s")), "holds timestamp"),
    ("nothing", pa.nulls(2), "has no value"),
    ("a missing category", pa.array(["x", None]).dictionary_encode(), "column 'a', row 2"),
]


@pytest.mark.parametrize(("column", "said"), [row[1:] for row in COLUMNS], ids=[row[0] for row in COLUMNS])
def test_a_broken_parquet_column(column: Any, said: str, here: Path) -> None:
    pa.parquet.write_table(pa.table({"a": column, "t": [0, 1]}), "a.parquet")
    check_refused(train("{name: parquet, path: a.parquet, target: t}"), "a.parquet", said)


@pytest.mark.parametrize("content", [b"", b"PAR1hello", b"PAR1" * 100], ids=["empty", "no footer", "magic alone"])
def test_a_broken_parquet_file(content: bytes, here: Path) -> None:
    Path("a.parquet").write_bytes(content)
    check_refused(train("{name: parquet, path: a.parquet, target: t}"), "a.parquet", "cannot be read")


# The layouts of torchvision.

IDX = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")
IMAGES = bytes((0, 0, 8, 3)) + struct.pack(">III", 20, 2, 2) + bytes(80)
LABELS = bytes((0, 0, 8, 1)) + struct.pack(">I", 20) + bytes(i % 10 for i in range(20))

IDX_FILES: list[tuple[str, int, bytes, str]] = [
    ("no pictures", 0, b"", "does not start like an IDX file"),
    ("a zipped file under the name of an unpacked one", 0, gzip.compress(IMAGES), "does not start like an IDX file"),
    ("cut pictures", 0, IMAGES[:-1], "95 bytes, its header promises 96"),
    ("sizes whose product overflows", 0, IMAGES[:4] + struct.pack(">III", 2**31, 2**31, 4), "its header promises"),
    ("a hundred axes", 0, bytes((0, 0, 8, 100)) + struct.pack(">I", 1) * 100 + b"x", "does not start like an IDX file"),
    ("fewer labels", 1, LABELS[:4] + struct.pack(">I", 19) + LABELS[9:], "not pictures and their labels"),
    ("a label out of range", 1, LABELS[:-1] + b"\x0b", "holds the label 11, but MNIST has the classes 0 to 9"),
    ("pictures for labels", 3, IMAGES, "not pictures and their labels"),
    ("test pictures of another size", 2, IMAGES[:4] + struct.pack(">III", 20, 1, 4) + bytes(80), "different sizes"),
]


def lay_out_mnist(root: Path) -> Path:
    raw_folder = root / "MNIST" / "raw"
    raw_folder.mkdir(parents=True)
    for name, content in zip(IDX, [IMAGES, LABELS, IMAGES, LABELS], strict=True):
        (raw_folder / name).write_bytes(content)
    return raw_folder


@pytest.mark.parametrize(
    ("number", "content", "said"), [row[1:] for row in IDX_FILES], ids=[row[0] for row in IDX_FILES]
)
def test_a_broken_idx_file(number: int, content: bytes, said: str, here: Path) -> None:
    file = lay_out_mnist(here / "m") / IDX[number]
    file.write_bytes(content)
    check_refused(train("{name: mnist, root: m}"), IDX[number], said)


def test_a_sound_idx_set_is_read(here: Path) -> None:
    lay_out_mnist(here / "m")
    assert train("{name: mnist, root: m}", "-q").exit_code == 0


@pytest.mark.parametrize(
    ("dataset", "archive", "content"),
    [
        ("mnist", "MNIST/raw/train-images-idx3-ubyte.gz", gzip.compress(bytes(50_000_000), 1)),
        ("mnist", "MNIST/raw/train-images-idx3-ubyte.gz", b"\x1f\x8bdamaged"),
        ("cifar10", "cifar-10-python.tar.gz", gzip.compress(bytes(50_000_000), 1)),
        ("cifar100", "cifar-100-python.tar.gz", b"no archive"),
    ],
    ids=["a gzip bomb", "a damaged gzip file", "a tar bomb", "a text named .tar.gz"],
)
def test_an_archive_that_is_not_the_original_is_never_unpacked(
    dataset: str, archive: str, content: bytes, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """torchvision knows the checksums; a false archive is left for one from the network, which is not there."""

    def refuse(*_: Any, **__: Any) -> None:
        raise OSError("no network here")

    monkeypatch.setattr("torchvision.datasets.utils.urllib.request.urlopen", refuse)
    path = here / "m" / archive
    path.parent.mkdir(parents=True)
    path.write_bytes(content)
    result = train(f"{{name: {dataset}, root: m}}")
    check_refused(result, "could not be downloaded", str(here / "m"))
    assert [each for each in (here / "m").rglob("*") if each.is_file()] == [path]
    assert path.read_bytes() == content


def test_a_pickle_that_is_not_the_original_is_never_read(here: Path) -> None:
    base = here / "m" / "cifar-10-batches-py"
    base.mkdir(parents=True)
    for name in (*(f"data_batch_{i}" for i in range(1, 6)), "test_batch", "batches.meta"):
        (base / name).write_bytes(b"cos\nsystem\n(S'touch harmed'\ntR.")
    check_refused(train("{name: cifar10, root: m}"), "data_batch_1 is damaged or not the original")
    assert not Path("harmed").exists()


@pytest.mark.parametrize("name", ["npz", "csv", "parquet"])
@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda path: None, "there is no file"),
        (Path.mkdir, "is a folder; a file is needed"),
        (os.mkfifo, "is a pipe or a device; a file is needed"),
        (lambda path: path.symlink_to(path), "there is no file"),
    ],
    ids=["missing", "folder", "pipe", "loop"],
)
def test_what_is_no_file(name: str, make: Make, said: str, here: Path) -> None:
    make(here / "a")
    target = "" if name == "npz" else ", target: t"
    check_refused(train(f"{{name: {name}, path: a{target}}}"), str(here / "a"), said)
