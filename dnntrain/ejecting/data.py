"""The data of an experiment: read, divided and standardized as dnntrain does it, with NumPy and little else."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from dnntrain.build import Data
from dnntrain.ejecting.resizing import define_resize, resizes
from dnntrain.ejecting.reuse import define_pretrained
from dnntrain.ejecting.script import Code, Script, fill, lines, listed, quoted
from dnntrain.parts.datasets import sampling
from dnntrain.parts.datasets.base import data_folder
from dnntrain.parts.transforms import rows_at_once
from dnntrain.spec import Spec
from dnntrain.spec.schema import Validation

_KEYS: Final = '''
def keys(count: int, seed: int, stream: int) -> np.ndarray:
    """Draw a number for each sample: in the order of these, samples are shuffled.

    Each purpose has a stream of its own: 2 is for validation, 3 for the test part.
    """
    return np.random.default_rng([seed, stream]).bit_generator.random_raw(count)
'''

_SHUFFLED: Final = '''
def shuffled(count: int, seed: int, stream: int) -> np.ndarray:
    """Return the numbers 0..count-1 in random order."""
    return np.argsort(keys(count, seed, stream), kind="stable")
'''

_STRATIFIED: Final = '''
def stratified(labels: np.ndarray, size: int, seed: int, stream: int) -> np.ndarray:
    """Choose so many samples at random, of each class its share."""
    _, classes, counts = np.unique(labels, return_inverse=True, return_counts=True)
    order = np.lexsort((keys(len(labels), seed, stream), classes))
    shares, remainders = np.divmod(counts * size, len(labels))
    shares[np.argsort(-remainders, kind="stable")[: size - shares.sum()]] += 1
    rank = np.arange(len(labels)) - (np.cumsum(counts) - counts)[classes[order]]
    return np.sort(order[rank < shares[classes[order]]])
'''

_FOLDS: Final = '''
def stratified_folds(
    labels: np.ndarray, folds: int, seed: int, stream: int
) -> np.ndarray:
    """Return the fold of each sample: they are dealt out class after class."""
    _, classes = np.unique(labels, return_inverse=True)
    order = np.lexsort((keys(len(labels), seed, stream), classes))
    fold_of = np.empty(len(labels), dtype=np.int64)
    fold_of[order] = np.arange(len(labels)) % folds
    return fold_of
'''

_READ: Final = '''
def read() -> tuple[np.ndarray, ...]:
    """Return $about."""
$body
'''

_DIGITS: Final = """
digits = load_digits()
x = digits.images.astype(np.uint8).reshape(-1, 1, 8, 8)
y = digits.target.astype(np.int64)
test = stratified(y, len(y) // 5, seed=0, stream=$stream)
"""

_DIABETES: Final = """
diabetes = load_diabetes(scaled=False)
x = diabetes.data.astype(np.float32)
y = diabetes.target.astype(np.float32)[:, np.newaxis]
test = np.sort(shuffled(len(y), seed=0, stream=$stream)[: len(y) // 5])
"""

_IDX: Final = '''
def read_pictures(name: str) -> tuple[np.ndarray, np.ndarray]:
    """Read pictures (N, 1, 28, 28) and labels of one part, behind their headers."""
    x = np.fromfile(FOLDER / f"{name}-images-idx3-ubyte", dtype=np.uint8, offset=16)
    y = np.fromfile(FOLDER / f"{name}-labels-idx1-ubyte", dtype=np.uint8, offset=8)
    return x.reshape(-1, 1, 28, 28), y.astype(np.int64)
'''

_CIFAR: Final = '''
def read_pictures(*, train: bool) -> tuple[np.ndarray, np.ndarray]:
    """Read the pictures (N, 3, 32, 32) and the labels of one part."""
    part = $name(FOLDER, train=train)
    x = np.ascontiguousarray(part.data.transpose(0, 3, 1, 2))
    return x, np.array(part.targets, dtype=np.int64)
'''


def _scikit(template: str, sampler: str) -> Callable[[Script, Spec, Data, bool], tuple[str, str]]:
    def write(script: Script, spec: Spec, data: Data, test: bool) -> tuple[str, str]:
        script.define(_KEYS)
        script.define(sampler)
        body = fill(template, stream=sampling.FIXED_TEST)
        kept = "np.delete(x, test, axis=0), np.delete(y, test, axis=0)"
        if not test:
            return f"{_form(data)} and targets, without the test part", f"{body}\nreturn {kept}"
        return (
            f"{_form(data)} and targets to train on, and those to test on",
            f"{body}\nreturn {kept}, x[test], y[test]",
        )

    return write


def _form(data: Data) -> str:
    kind = {"pictures": "pictures", "features": "samples", "sequences": "sequences"}[data.arrays.layout]
    return f"{kind} ({', '.join(map(str, ('N', *data.arrays.x_train.shape[1:])))})"


def _folder(spec: Spec) -> Path:
    root: Path | None = vars(spec.data.dataset.options)["root"]
    return root or data_folder()


def _idx(name: str) -> Callable[[Script, Spec, Data, bool], tuple[str, str]]:
    def write(script: Script, spec: Spec, data: Data, test: bool) -> tuple[str, str]:
        script.constants(FOLDER=_path(_folder(spec) / name / "raw"))
        script.define(_IDX)
        parts = 'return *read_pictures("train"), *read_pictures("t10k")' if test else 'return read_pictures("train")'
        return f"{_form(data)} and labels" + (", to train on and to test on" if test else ""), parts

    return write


def _cifar(name: str) -> Callable[[Script, Spec, Data, bool], tuple[str, str]]:
    def write(script: Script, spec: Spec, data: Data, test: bool) -> tuple[str, str]:
        script.constants(FOLDER=_path(_folder(spec)))
        script.define(fill(_CIFAR, name=name))
        both = "return *read_pictures(train=True), *read_pictures(train=False)"
        return (
            f"{_form(data)} and labels" + (", to train on and to test on" if test else ""),
            both if test else "return read_pictures(train=True)",
        )

    return write


def _npz(script: Script, spec: Spec, data: Data, test: bool) -> tuple[str, str]:
    path: Path = vars(spec.data.dataset.options)["path"]
    script.constants(ARCHIVE=_path(path))
    with np.load(path, allow_pickle=False) as archive:
        x, y = archive["x_train"], archive["y_train"]
    shape, dtype = data.arrays.x_train.shape, data.arrays.x_train.dtype
    change = ""
    if x.ndim == 3 and len(shape) == 4:
        # Not by np.newaxis, whose axis has no stride, so that PyTorch might lay batches out in another order.
        change = f".reshape(-1, 1, {x.shape[1]}, {x.shape[2]})"
    elif x.shape != shape:
        change = ".transpose(0, 3, 1, 2)"
    if y.ndim == 2 and y.shape[1] == 1 and y.dtype.kind != "f":
        flat = "[:, 0]"
    else:
        flat = "[:, np.newaxis]" if y.ndim == 1 and y.dtype.kind == "f" else ""
    kinds = f"np.{dtype}", "np.float32" if y.dtype.kind == "f" else "np.int64"
    parts = ["train", "test"] if test else ["train"]
    body = ["archive = np.load(ARCHIVE)"]
    for part in parts:
        body.append(f'x_{part} = archive["x_{part}"]{change}')
        body.append(f"x_{part} = np.ascontiguousarray(x_{part}, dtype={kinds[0]})")
        body.append(f'y_{part} = archive["y_{part}"]{flat}.astype({kinds[1]})')
    body.append("return " + ", ".join(f"x_{part}, y_{part}" for part in parts))
    return f"{_form(data)} and targets" + (", to train on and to test on" if test else ""), lines(body)


def _path(path: Path) -> Any:
    return Code(f"Path({quoted(str(path.absolute()))})")


DATASETS: Final[dict[str, Callable[[Script, Spec, Data, bool], tuple[str, str]]]] = {
    "digits": _scikit(_DIGITS, _STRATIFIED),
    "diabetes": _scikit(_DIABETES, _SHUFFLED),
    "mnist": _idx("MNIST"),
    "fashion_mnist": _idx("FashionMNIST"),
    "cifar10": _cifar("CIFAR10"),
    "cifar100": _cifar("CIFAR100"),
    "npz": _npz,
}
"""From the script, the experiment, its data and whether the test part is read, to what reading gives and its body."""

_LOAD: Final = '''
def load() -> list[tuple[Tensor, Tensor]]:
    """Return inputs and targets of the $parts."""
$body
'''


def define_data(script: Script, spec: Spec, data: Data, *, test: bool) -> None:
    """Define `load` and what standardizes."""
    script.heading("The data")
    about, body = DATASETS[spec.data.dataset.name](script, spec, data, test)
    script.define(fill(_READ, about=about, body=lines([body], 1)))
    relabelled = spec.data.classes is not None
    made = ["x, y, x_test, y_test = read()" if test else "x, y = read()"]
    if relabelled:
        script.constants(RELABELLED=_relabelled(data))
        script.define(_RELABEL)
        made += ["y = relabel(y)", "y_test = relabel(y_test)" if test else ""]
    rows = "np.flatnonzero(y >= 0)" if relabelled else "np.arange(len(y))"
    kept = _Rows("y[rows]", "len(rows)", "rows[{}]") if relabelled else _Rows("y", "len(y)", "{}")
    limit = "[:LIMIT]" if spec.data.limit is not None else ""
    if spec.data.limit is not None:
        script.constants(LIMIT=spec.data.limit)
    if isinstance(spec.data.validation, Validation):
        made += [f"rows = {rows}", *_set_aside(script, spec.data.validation, data, kept)]
        made.append(f"train = np.setdiff1d(rows, valid){limit}")
        parts = ["(x[train], y[train])", "(x[valid], y[valid])"]
        names = ["training", "validation"]
    else:
        made.append(f"train = {rows}{limit}")
        parts, names = ["(x[train], y[train])"], ["training"]
    if test:
        made.append("test = np.flatnonzero(y_test >= 0)" if relabelled else "")
        parts.append("(x_test[test], y_test[test])" if relabelled else "(x_test, y_test)")
        names.append("test")
    made.append(f"parts = [{', '.join(parts)}]")
    made.append("return [(torch.from_numpy(a), torch.from_numpy(b)) for a, b in parts]")
    script.define(fill(_LOAD, parts=f"{listed(names)} part{'s' if len(names) > 1 else ''}", body=lines(made, 1)))
    define_resize(script, data)
    _define_standardize(script, spec, data)


_RELABEL: Final = '''
def relabel(y: np.ndarray) -> np.ndarray:
    """Return the new numbers of the classes; -1 is for samples that are left out."""
    return np.array(RELABELLED)[y]
'''


def _relabelled(data: Data) -> list[int]:
    """Return the new number of each class of the data set, -1 where it is left out."""
    old, new = data.arrays.y_train, data.parts.train.y
    classes = len(data.arrays.classes or ())
    return [int(new[old == number][0]) if np.any(old == number) else -1 for number in range(classes)]


@dataclass(frozen=True)
class _Rows:
    """How the rows that are divided are called: their labels, their number, and some of them."""

    labels: str
    count: str
    some: str


def _set_aside(script: Script, validation: Validation, data: Data, rows: _Rows) -> list[str]:
    """Return the lines that choose the rows of the validation part."""
    size = len(data.parts.valid.index) if data.parts.valid else 0
    origin, seeded = validation.from_, f"seed={validation.seed}, stream={sampling.HOLDOUT}"
    if origin in ("random", "stratified"):
        script.define(_KEYS)
    if origin == "random":
        script.define(_SHUFFLED)
    if validation.folds is not None:
        return _fold(script, validation, seeded, rows)
    if origin == "stratified":
        script.define(_STRATIFIED)
    chosen = {
        "first": f"rows[:{size}]",
        "last": f"rows[-{size}:]",
        "random": rows.some.format(f"np.sort(shuffled({rows.count}, {seeded})[:{size}])"),
        "stratified": rows.some.format(f"stratified({rows.labels}, {size}, {seeded})"),
    }
    return [f"valid = {chosen[origin]}"]


def _fold(script: Script, validation: Validation, seeded: str, rows: _Rows) -> list[str]:
    folds = f"np.arange({rows.count}) * {validation.folds} // {rows.count}"
    if validation.from_ == "stratified":
        script.define(_FOLDS)
        folds = f"stratified_folds({rows.labels}, {validation.folds}, {seeded})"
    order = {"last": "fold_of = fold_of[::-1]", "random": f"fold_of = fold_of[shuffled({rows.count}, {seeded})]"}
    return [f"fold_of = {folds}", order.get(validation.from_, ""), f"valid = rows[fold_of == {validation.fold}]"]


_PLAIN: Final = '''
def standardize(x: Tensor) -> Tensor:
    """Return samples as the network sees them$scaled."""
    return x.float()$factor
'''

_STANDARDIZE: Final = '''
class Standardize:
    """Brings $what to mean 0 and deviation 1 over the training part.

    Args:
        x: the samples of the training part.
    """

    def __init__(self, x: Tensor) -> None:
$measure
        deviation = np.sqrt(variance$cast)
        # What is the same in all samples becomes 0.
        deviation[$zero] = 1.0
        scale = 1.0 / deviation
        self.scale = torch.tensor(scale, dtype=torch.float32)
        self.shift = torch.tensor(-mean * scale, dtype=torch.float32)

    def __call__(self, x: Tensor) -> Tensor:
        return torch.addcmul(self.shift, x.float(), self.scale)
'''

_BYTES: Final = """
samples = x.numpy()
count = $count
total = samples.sum(axis=$axes, dtype=np.int64)
squares = np.square(samples, dtype=np.uint16).sum(axis=$axes, dtype=np.int64)
$shape
mean = total / count
# In Python's whole numbers, which do not overflow.
total, squares = total.astype(object), squares.astype(object)
variance = (count * squares - total**2) / count**2
"""

_BY_CHANNEL: Final = "total, squares = total.reshape(-1, 1, 1), squares.reshape(-1, 1, 1)"

_FLOATS: Final = """
samples = x.numpy()
count = $count
origin = samples[0].astype(np.float64)$first
difference = samples.astype(np.float64) - origin
total = difference.sum(axis=$axes)$shape
squares = np.square(difference).sum(axis=$axes)$shape
mean = origin + total / count
variance = np.maximum(squares / count - np.square(total / count), 0.0)
"""

_MANY_FLOATS: Final = """
samples = x.numpy()
count = $count
origin = samples[0].astype(np.float64)$first
total, squares = np.zeros_like(origin), np.zeros_like(origin)
for start in range(0, len(samples), $rows):  # so that little memory is needed
    difference = samples[start : start + $rows].astype(np.float64) - origin
    total += difference.sum(axis=$axes)$shape
    squares += np.square(difference).sum(axis=$axes)$shape
mean = origin + total / count
variance = np.maximum(squares / count - np.square(total / count), 0.0)
"""


_RESIZED_BYTES: Final = """
total = squares = 0
for part in x.split(256):  # so that little memory is needed
    samples = resize(part).numpy()
    total += samples.sum(axis=$axes, dtype=np.int64)
    squares += np.square(samples, dtype=np.uint16).sum(axis=$axes, dtype=np.int64)
$shape
count = $count
mean = total / count
# In Python's whole numbers, which do not overflow.
total, squares = total.astype(object), squares.astype(object)
variance = (count * squares - total**2) / count**2
"""

_RESIZED_FLOATS: Final = """
origin = resize(x[:1]).numpy()[0].astype(np.float64)$first
total, squares = np.zeros_like(origin), np.zeros_like(origin)
for part in x.split($rows):  # so that little memory is needed
    difference = resize(part).numpy().astype(np.float64) - origin
    total += difference.sum(axis=$axes)$shape
    squares += np.square(difference).sum(axis=$axes)$shape
count = $count
mean = origin + total / count
variance = np.maximum(squares / count - np.square(total / count), 0.0)
"""


def _define_standardize(script: Script, spec: Spec, data: Data) -> None:
    mode = spec.data.standardize
    if mode == "pretrained":
        define_pretrained(script)
        return
    if mode in ("none", "unit"):
        scaled = f", from 0 to 1 for values up to {data.arrays.full_scale:g}" if mode == "unit" else ""
        factor = f" * (1.0 / {data.arrays.full_scale!r})" if mode == "unit" else ""
        script.define(fill(_PLAIN, scaled=scaled, factor=factor))
        return
    sequences, channels = data.arrays.layout == "sequences", mode == "channel"
    counted = data.arrays.x_train.dtype == np.uint8
    axes, shape, first, count = "0", "", "", "len(samples)"
    if channels:
        axes, first, count = "(0, 2, 3)", "[:, :1, :1]", "samples[:, 0].size"
        shape = _BY_CHANNEL if counted else ".reshape(origin.shape)"
    elif sequences:
        axes, first, count, shape = "(0, 1)", "[:1]", "samples[:, :, 0].size", ".reshape(origin.shape)"
    rows = rows_at_once(data.shape)
    few = len(data.parts.train) <= rows
    template = _BYTES if counted else _FLOATS if few else _MANY_FLOATS
    if resizes(data):
        template = _RESIZED_BYTES if counted else _RESIZED_FLOATS
        count = f"len(x) * {data.shape[1]} * {data.shape[2]}" if channels else "len(x)"
    measure = fill(template, axes=axes, shape=shape, first=first, count=count, rows=rows)
    what = "each channel" if channels else "each feature" if data.arrays.layout != "pictures" else "each pixel"
    script.define(
        fill(
            _STANDARDIZE,
            what=what,
            measure=lines(measure.splitlines(), 2),
            cast=".astype(np.float64)" if counted else "",
            zero="deviation == 0" if counted else "deviation < np.finfo(np.float32).tiny",
        )
    )
