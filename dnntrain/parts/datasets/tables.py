"""Tables: CSV and Parquet files with one row per sample and one column as the target.

Numeric columns become one float32 feature each. Columns of text, of true and false, and dictionary-encoded ones
become one feature per category of the training file, 1 where the row is of that category and 0 elsewhere.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import numpy as np
from pydantic import Field

from dnntrain.errors import DataError, suggest
from dnntrain.parts.datasets import sampling
from dnntrain.parts.datasets.base import Decoded, Source, datasets, require, stamps
from dnntrain.registry import Fraction, ReadPath

if TYPE_CHECKING:
    import pyarrow as pa

Task = Literal["auto", "classification", "regression"]
Missing = Literal["error", "drop"]
_Reader = Callable[[Path, "pa.Schema | None"], "pa.Table"]

_TEST_SEED = 0
# Integers with more distinct values than this, and more than one in ten rows, are hardly class labels.
_MANY_CLASSES = 50
# A column with more texts than this is a name or a number of each row, and one-hot it would fill the memory.
_MOST_CATEGORIES = 10_000


@datasets.register(
    "csv",
    equation="one row per sample, a header line, one column as the target",
    cite="RFC 4180",
    example={"name": "csv", "path": "table.csv", "target": "price"},
)
def csv(
    *,
    path: ReadPath,
    target: str,
    features: list[str] | None = None,
    task: Task = "auto",
    test: ReadPath | None = None,
    test_fraction: Fraction = 0.0,
    missing: Missing = "error",
    delimiter: Annotated[str, Field(min_length=1, max_length=1)] = ",",
) -> Source:
    """A text table with a header line. Text columns are one-hot encoded by the training file's categories.

    Args:
        path: the file with the training rows.
        target: the column to predict.
        features: the columns to predict from; all but the target if null.
        task: `auto` takes text and integers for classes, floats for a regression.
        test: a file of the same columns with the test rows.
        test_fraction: the part of the rows to set aside as test split, the same ones always; not with `test`.
        missing: what to do about a row that lacks a value: stop with an error, or drop the row.
        delimiter: the character between columns.
    """
    request = _Request("csv", path, target, features, task, test, test_fraction, missing)
    return _source(request, partial(_read_csv, delimiter))


@datasets.register(
    "parquet",
    equation="one row per sample, one column as the target",
    cite="Apache Parquet",
    example={"name": "parquet", "path": "table.parquet", "target": "price"},
)
def parquet(
    *,
    path: ReadPath,
    target: str,
    features: list[str] | None = None,
    task: Task = "auto",
    test: ReadPath | None = None,
    test_fraction: Fraction = 0.0,
    missing: Missing = "error",
) -> Source:
    """A Parquet table. Text columns are one-hot encoded by the training file's categories.

    Args:
        path: the file with the training rows.
        target: the column to predict.
        features: the columns to predict from; all but the target if null.
        task: `auto` takes text and integers for classes, floats for a regression.
        test: a file of the same columns with the test rows.
        test_fraction: the part of the rows to set aside as test split, the same ones always; not with `test`.
        missing: what to do about a row that lacks a value: stop with an error, or drop the row.
    """
    request = _Request("parquet", path, target, features, task, test, test_fraction, missing)
    return _source(request, _read_parquet)


@dataclass(frozen=True)
class _Request:
    """What the file asked for; the options of `csv` and `parquet` by the same names."""

    dataset: str
    path: Path
    target: str
    features: list[str] | None
    task: Task
    test: Path | None
    test_fraction: float
    missing: Missing


@dataclass(frozen=True)
class _Rows:
    """The complete rows of a file: its wanted columns, and the number of each row in the file, from 1."""

    path: Path
    table: pa.Table
    numbers: np.ndarray

    def __len__(self) -> int:
        return len(self.numbers)

    def numeric(self, name: str) -> np.ndarray:
        """Return a column of numbers as float32.

        Raises:
            DataError: the column holds something else, or a number that is not finite.
        """
        import pyarrow as pa

        column = self.table.column(name)
        if _is_categorical(column.type):
            raise DataError(f"{self.path}: column '{name}' holds {column.type}, where numbers are needed")
        values = column.cast(pa.float64(), safe=False).to_numpy()
        with np.errstate(over="ignore"):
            converted: np.ndarray = values.astype(np.float32)
        wrong = np.flatnonzero(~np.isfinite(converted))
        if len(wrong):
            raise DataError(
                f"{self.path}: column '{name}', row {self.numbers[wrong[0]]}: {values[wrong[0]]} "
                "is not a finite float32 number"
            )
        return converted

    def codes(self, name: str, categories: Sequence[str]) -> np.ndarray:
        """Return the place of each row's value among the categories, -1 where it is none of them."""
        import pyarrow as pa
        import pyarrow.compute as pc

        places = pc.index_in(_text(self.table.column(name)), value_set=pa.array(categories, pa.string()))
        codes: np.ndarray = pc.fill_null(places, -1).to_numpy()
        return codes.astype(np.int64)

    def categories(self, name: str) -> tuple[str, ...]:
        """Return the distinct values of a column, in their own order, as text."""
        column = _decoded(self.table.column(name))
        return tuple(str(value) for value in sorted(column.unique().to_pylist()))


@dataclass(frozen=True)
class _Encoder:
    """How columns become features: by their categories, or None for a number."""

    columns: dict[str, tuple[str, ...] | None]

    @classmethod
    def fit(cls, rows: _Rows, names: Sequence[str]) -> _Encoder:
        types = {name: rows.table.schema.field(name).type for name in names}
        found = {name: rows.categories(name) if _is_categorical(types[name]) else None for name in names}
        for name, categories in found.items():
            if categories is not None and len(categories) > _MOST_CATEGORIES:
                raise DataError(
                    f"{rows.path}: column '{name}' holds {len(categories):,} different texts, each of which would be "
                    f"a feature; the limit is {_MOST_CATEGORIES:,}. Name the other columns in 'features'"
                )
        return cls(found)

    @property
    def names(self) -> tuple[str, ...]:
        named = []
        for name, categories in self.columns.items():
            named += [name] if categories is None else [f"{name}={category}" for category in categories]
        return tuple(named)

    def encode(self, rows: _Rows) -> np.ndarray:
        x = np.zeros((len(rows), len(self.names)), dtype=np.float32)
        start = 0
        for name, categories in self.columns.items():
            if categories is None:
                x[:, start] = rows.numeric(name)
                start += 1
            else:
                codes = rows.codes(name, categories)
                known = np.flatnonzero(codes >= 0)
                x[known, start + codes[known]] = 1.0
                start += len(categories)
        return x


def _source(request: _Request, read: _Reader) -> Source:
    if request.test is not None and request.test_fraction:
        raise DataError(f"{request.dataset}: 'test' and 'test_fraction' both ask for a test split; give one of them")
    files = [request.path] if request.test is None else [request.path, request.test]
    for file in files:
        require(file, dataset=request.dataset, kind="file")
    return Source(load=partial(_decode, request, read), key={"files": stamps(files)})


def _decode(request: _Request, read: _Reader) -> Decoded:
    try:
        return _tabulated(request, read)
    except UnicodeDecodeError as error:
        # Arrow looks at names and texts no sooner than they are wanted.
        files = " or ".join(str(path) for path in (request.path, request.test) if path is not None)
        raise DataError(f"{request.dataset}: {files} holds text that is not UTF-8: {error}") from error


def _tabulated(request: _Request, read: _Reader) -> Decoded:
    target = request.target
    train = _rows(read, request.path, None, target, request.features, request.missing)
    names = [name for name in train.table.column_names if name != target]
    encoder = _Encoder.fit(train, names)
    x, classes = encoder.encode(train), _classes(train, target, request.task)
    y = _target(train, target, classes)
    if request.test is not None:
        # The test file must have the training file's columns, and may have others.
        rows = _rows(read, request.test, train.table.schema, target, names, request.missing)
        return _decoded_table(x, y, encoder.encode(rows), _target(rows, target, classes), classes, encoder.names)
    if request.test_fraction:
        aside = _set_aside(request.path, y, request.test_fraction, stratify=classes is not None)
        return _decoded_table(x[~aside], y[~aside], x[aside], y[aside], classes, encoder.names)
    return _decoded_table(x, y, None, None, classes, encoder.names)


def _decoded_table(
    x: np.ndarray,
    y: np.ndarray,
    x_test: np.ndarray | None,
    y_test: np.ndarray | None,
    classes: tuple[str, ...] | None,
    names: tuple[str, ...],
) -> Decoded:
    return Decoded(
        x_train=x, y_train=y, x_test=x_test, y_test=y_test, layout="features", classes=classes, feature_names=names
    )


def _set_aside(path: Path, y: np.ndarray, fraction: float, *, stratify: bool) -> np.ndarray:
    """Choose the test rows, always the same ones for the same rows."""
    size = int(len(y) * fraction + 0.5)
    if not 0 < size < len(y):
        raise DataError(f"{path}: test_fraction {fraction} of {len(y)} rows leaves nothing to test or nothing to train")
    aside = np.zeros(len(y), dtype=bool)
    if stratify:
        aside[sampling.stratified(y, size, _TEST_SEED, sampling.FIXED_TEST)] = True
    else:
        aside[sampling.shuffled(len(y), _TEST_SEED, sampling.FIXED_TEST)[:size]] = True
    return aside


def _read_csv(delimiter: str, path: Path, like: pa.Schema | None) -> pa.Table:
    import pyarrow as pa
    from pyarrow import csv as arrow_csv

    # What is text in the training file is text here, even if every value in this file looks like a number.
    text = {field.name: pa.string() for field in like or () if pa.types.is_string(field.type)}
    try:
        return arrow_csv.read_csv(
            path,
            parse_options=arrow_csv.ParseOptions(delimiter=delimiter, newlines_in_values=True),
            convert_options=arrow_csv.ConvertOptions(strings_can_be_null=True, column_types=text),
        )
    except (OSError, ValueError, pa.ArrowException) as error:
        raise DataError(f"csv: {path} cannot be read: {error}") from error


def _read_parquet(path: Path, like: pa.Schema | None) -> pa.Table:
    import pyarrow as pa
    from pyarrow import parquet as arrow_parquet

    try:
        # As a stream, so that folders named like `year=2024` above the file do not become columns.
        with path.open("rb") as stream:
            return arrow_parquet.read_table(stream)
    except (OSError, ValueError, pa.ArrowException) as error:
        raise DataError(f"parquet: {path} cannot be read: {error}") from error


def _rows(
    read: _Reader, path: Path, like: pa.Schema | None, target: str, features: Sequence[str] | None, missing: Missing
) -> _Rows:
    """Read a file, take the wanted columns and see to missing values.

    Raises:
        DataError: the file cannot be read, lacks a column, or has no (complete) rows.
    """
    table = read(path, like)
    _check_names(path, table.column_names, target, features)
    names = list(features) if features is not None else [name for name in table.column_names if name != target]
    table = table.select([*names, target])
    if not table.num_rows:
        raise DataError(f"{path} has no rows")
    for field in table.schema:
        if not _is_known(field.type):
            raise DataError(
                f"{path}: column '{field.name}' holds {field.type}, which is neither a number nor text in UTF-8; "
                "convert it, or leave it out by naming the others in 'features'"
            )
    return _complete(path, table, missing)


def _check_names(path: Path, known: list[str], target: str, features: Sequence[str] | None) -> None:
    twice = sorted({name for name in known if known.count(name) > 1})
    if twice:
        raise DataError(f"{path}: the column name '{twice[0]}' is there twice")
    if target not in known:
        raise DataError(f"{path} has no target column '{target}'; {suggest(target, known)}")
    for name in features or ():
        if name not in known:
            raise DataError(f"{path} has no column '{name}'; {suggest(name, known)}")
        if name == target or list(features or ()).count(name) > 1:
            reason = "is the target" if name == target else "is named twice"
            raise DataError(f"{path}: the column '{name}' in 'features' {reason}")
    if features == [] or known == [target]:
        raise DataError(f"{path}: there are no columns to predict '{target}' from")


def _complete(path: Path, table: pa.Table, missing: Missing) -> _Rows:
    import pyarrow as pa
    import pyarrow.compute as pc

    lacking = np.zeros(table.num_rows, dtype=bool)
    for name, column in zip(table.column_names, table.columns, strict=True):
        lacks = pc.is_null(column, nan_is_null=pa.types.is_floating(column.type)).to_numpy()
        if missing == "error" and lacks.any():
            raise DataError(
                f"{path}: column '{name}', row {lacks.argmax() + 1} (not counting the header) has no value; "
                "mend the file, or say 'missing: drop'"
            )
        lacking |= lacks
    kept = np.flatnonzero(~lacking)
    if not len(kept):
        raise DataError(f"{path}: each of the {table.num_rows} rows lacks a value, so that none is left")
    return _Rows(path, table.take(kept) if lacking.any() else table, kept + 1)


def _classes(rows: _Rows, target: str, task: Task) -> tuple[str, ...] | None:
    """Decide between classes and regression; return the sorted class names, or None for a regression."""
    import pyarrow as pa

    kind = rows.table.schema.field(target).type
    if task == "regression" or (task == "auto" and not _is_categorical(kind) and not pa.types.is_integer(kind)):
        return None
    if not _is_categorical(kind) and not pa.types.is_integer(kind):
        return _whole_numbers(rows, target).categories(target)
    classes = rows.categories(target)
    if task == "auto" and pa.types.is_integer(kind) and len(classes) > max(_MANY_CLASSES, len(rows) // 10):
        raise DataError(
            f"{rows.path}: the target '{target}' holds {len(classes)} different integers in {len(rows)} rows; "
            "say 'task: regression' or 'task: classification'"
        )
    return classes


def _target(rows: _Rows, target: str, classes: tuple[str, ...] | None) -> np.ndarray:
    import pyarrow as pa

    if classes is None:
        return rows.numeric(target)
    kind = rows.table.schema.field(target).type
    if pa.types.is_floating(kind) or pa.types.is_decimal(kind):
        rows = _whole_numbers(rows, target)
    codes = rows.codes(target, classes)
    unknown = np.flatnonzero(codes < 0)
    if len(unknown):
        value = str(_text(rows.table.column(target))[int(unknown[0])].as_py())
        raise DataError(
            f"{rows.path}: column '{target}', row {rows.numbers[unknown[0]]}: the class '{value}' is not "
            f"in the training file; {suggest(value, classes)}"
        )
    return codes


def _whole_numbers(rows: _Rows, target: str) -> _Rows:
    """Turn a float column that holds class labels into integers."""
    import pyarrow as pa

    place = rows.table.schema.get_field_index(target)
    try:
        column = rows.table.column(target).cast(pa.int64())
    except pa.ArrowInvalid as error:
        raise DataError(f"{rows.path}: the target '{target}' holds fractions, which cannot be classes") from error
    return _Rows(rows.path, rows.table.set_column(place, target, column), rows.numbers)


def _is_known(kind: pa.DataType) -> bool:
    import pyarrow as pa

    types = pa.types
    number = types.is_integer(kind) or types.is_floating(kind) or types.is_decimal(kind)
    return bool(number or types.is_null(kind) or _is_categorical(kind))


def _is_categorical(kind: pa.DataType) -> bool:
    import pyarrow as pa

    types = pa.types
    if types.is_dictionary(kind):
        return _is_known(kind.value_type)
    return bool(types.is_string(kind) or types.is_large_string(kind) or types.is_boolean(kind))


def _decoded(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Return a column without dictionary encoding, true and false as text."""
    import pyarrow as pa

    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    return column.cast(pa.string()) if pa.types.is_boolean(column.type) else column


def _text(column: pa.ChunkedArray) -> pa.ChunkedArray:
    import pyarrow as pa

    return _decoded(column).cast(pa.string())
