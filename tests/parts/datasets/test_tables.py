from __future__ import annotations

import csv
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyarrow import parquet

from dnntrain.errors import DataError
from dnntrain.parts.datasets import Decoded, datasets

Decode = Callable[..., Decoded]

HOUSES = """size,rooms,town,garden,price
50.5,2,Ulm,true,100.5
80,3,Bonn,false,200.25
120.25,5,Ulm,false,400
30,1,"Aix, la",true,90.5
"""


@pytest.fixture
def table(tmp_path: Path) -> Callable[..., Path]:
    def write(text: str, name: str = "table.csv") -> Path:
        path = tmp_path / name
        path.write_text(text, encoding="utf-8")
        return path

    return write


def test_numbers_and_categories_become_features(table: Callable[..., Path], decoded: Decode) -> None:
    data = decoded("csv", path=table(HOUSES), target="price")
    assert data.feature_names == (
        "size",
        "rooms",
        "town=Aix, la",
        "town=Bonn",
        "town=Ulm",
        "garden=false",
        "garden=true",
    )
    assert data.x_train.tolist() == [
        [50.5, 2, 0, 0, 1, 0, 1],
        [80, 3, 0, 1, 0, 1, 0],
        [120.25, 5, 0, 0, 1, 1, 0],
        [30, 1, 1, 0, 0, 0, 1],
    ]
    assert data.x_train.dtype == data.y_train.dtype == np.float32
    assert data.y_train.tolist() == [100.5, 200.25, 400, 90.5]
    assert data.classes is None and data.x_test is None and (data.layout, data.full_scale) == ("features", 1.0)


def test_features_chooses_columns_in_its_order(table: Callable[..., Path], decoded: Decode) -> None:
    data = decoded("csv", path=table(HOUSES), target="price", features=["rooms", "size"])
    assert data.feature_names == ("rooms", "size")
    assert data.x_train[1].tolist() == [3, 80]


@pytest.mark.parametrize(
    ("values", "task", "classes", "y"),
    [
        (["b", "a", "b"], "auto", ("a", "b"), [1, 0, 1]),
        (["10", "9", "10"], "auto", ("9", "10"), [1, 0, 1]),
        (["-1", "1", "1"], "auto", ("-1", "1"), [0, 1, 1]),
        (["true", "false", "true"], "auto", ("false", "true"), [1, 0, 1]),
        (["1.5", "2", "3"], "auto", None, [1.5, 2, 3]),
        (["1", "2", "3"], "regression", None, [1, 2, 3]),
        (["1.0", "2.0", "1.0"], "classification", ("1", "2"), [0, 1, 0]),
    ],
)
def test_the_target_decides_the_task(
    values: list[str], task: str, classes: Any, y: list[float], table: Callable[..., Path], decoded: Decode
) -> None:
    path = table("x,t\n" + "".join(f"{i},{value}\n" for i, value in enumerate(values)))
    data = decoded("csv", path=path, target="t", task=task)
    assert data.classes == classes and data.y_train.tolist() == y
    assert data.y_train.dtype == (np.float32 if classes is None else np.int64)


def test_many_integers_need_a_task(table: Callable[..., Path], decoded: Decode) -> None:
    path = table("x,price\n" + "".join(f"{i},{1000 + i}\n" for i in range(60)))
    with pytest.raises(DataError, match="holds 60 different integers in 60 rows; say 'task: regression' or"):
        decoded("csv", path=path, target="price")
    assert decoded("csv", path=path, target="price", task="regression").classes is None
    assert len(decoded("csv", path=path, target="price", task="classification").classes or ()) == 60


def test_a_test_file_is_encoded_by_the_training_file(table: Callable[..., Path], decoded: Decode) -> None:
    train = table("town,kind,n\nUlm,a,1\n007,b,2\n")
    test = table("extra,n,kind,town\n0,5,b,7\n0,6,a,007\n", "test.csv")
    data = decoded("csv", path=train, target="kind", test=test)
    assert data.feature_names == ("town=007", "town=Ulm", "n")
    assert data.x_test is not None and data.x_test.tolist() == [[0, 0, 5], [1, 0, 6]]
    assert data.y_test is not None and data.y_test.tolist() == [1, 0]


def test_the_test_file_must_fit(table: Callable[..., Path], decoded: Decode) -> None:
    train = table("n,kind\n1,a\n2,b\n")
    for text, said in (
        ("n,kind\n1,c\n", r"test\.csv: column 'kind', row 1: the class 'c' is not in the training file; .*known: a, b"),
        ("n,sort\n1,a\n", r"test\.csv has no target column 'kind'"),
        ("m,kind\n1,a\n", r"test\.csv has no column 'n'; .*known: kind, m"),
        ("n,kind\nx,a\n", r"test\.csv: column 'n' holds string, where numbers are needed"),
        ("n,kind\n", r"test\.csv has no rows"),
    ):
        with pytest.raises(DataError, match=said):
            decoded("csv", path=train, target="kind", test=table(text, "test.csv"))


def test_test_fraction_sets_the_same_rows_aside(table: Callable[..., Path], decoded: Decode) -> None:
    path = table("x,t\n" + "".join(f"{i},{'ab'[i % 4 == 0]}\n" for i in range(40)))
    data = decoded("csv", path=path, target="t", test_fraction=0.25)
    assert data.x_test is not None and data.y_test is not None
    assert np.bincount(data.y_test).tolist() == [7, 3] or np.bincount(data.y_test).tolist() == [8, 2]
    rows = np.concatenate([data.x_train, data.x_test])[:, 0]
    assert sorted(rows.tolist()) == list(range(40))
    assert np.all(np.diff(data.x_train[:, 0]) > 0), "the order of the file stays"
    again = decoded("csv", path=path, target="t", test_fraction=0.25)
    assert again.x_test is not None and np.array_equal(again.x_test, data.x_test)
    with pytest.raises(DataError, match=r"test_fraction 0\.01 of 40 rows leaves nothing to test"):
        decoded("csv", path=path, target="t", test_fraction=0.01)
    with pytest.raises(DataError, match="'test' and 'test_fraction' both ask"):
        decoded("csv", path=path, target="t", test_fraction=0.25, test=path)


def test_test_fraction_of_a_regression_is_random(table: Callable[..., Path], decoded: Decode) -> None:
    path = table("x,t\n" + "".join(f"{i},{i}.5\n" for i in range(40)))
    data = decoded("csv", path=path, target="t", test_fraction=0.25)
    assert data.x_test is not None and len(data.x_test) == 10
    assert set(data.x_test[:, 0]) != set(range(10)) and set(data.x_test[:, 0]) != set(range(30, 40))


@pytest.mark.parametrize("lacking", ["", "NA", "nan", '""'])
def test_missing_values_are_named_or_dropped(lacking: str, table: Callable[..., Path], decoded: Decode) -> None:
    path = table(f"a,b,t\n1,x,0\n2,{lacking},1\n{lacking},y,1\n4,x,0\n")
    with pytest.raises(DataError, match=r"column 'a', row 3 \(not counting the header\) has no value"):
        decoded("csv", path=path, target="t")
    data = decoded("csv", path=path, target="t", missing="drop")
    assert data.x_train[:, 0].tolist() == [1, 4] and data.y_train.tolist() == [0, 0]
    assert data.feature_names == ("a", "b=x")


def test_columns_that_are_not_used_may_lack_values(table: Callable[..., Path], decoded: Decode) -> None:
    data = decoded("csv", path=table("a,b,t\n1,,0\n2,x,1\n"), target="t", features=["a"])
    assert len(data.x_train) == 2


@pytest.mark.parametrize(
    ("text", "options", "said"),
    [
        ("", {}, "cannot be read: Empty CSV file"),
        ("a,t\n", {}, "has no rows"),
        ("a,t\n,1\n2,\n", {"missing": "drop"}, "each of the 2 rows lacks a value"),
        ("a,b\n1,2\n", {"target": "aa"}, r"has no target column 'aa'; did you mean 'a'\?"),
        ("a,t\n1,2\n", {"features": ["b"]}, "has no column 'b'; .*known: a, t"),
        ("a,t\n1,2\n", {"features": ["a", "t"]}, "column 't' in 'features' is the target"),
        ("a,t\n1,2\n", {"features": ["a", "a"]}, "column 'a' in 'features' is named twice"),
        ("a,t\n1,2\n", {"features": []}, "no columns to predict 't' from"),
        ("t\n1\n", {}, "no columns to predict 't' from"),
        ("a,a,t\n1,2,3\n", {}, "column name 'a' is there twice"),
        ("a,t\n1,2\n3\n", {}, r"cannot be read: .*Expected 2 columns, got 1"),
        ("a,t\n1,2\ninf,2\n", {}, "column 'a', row 2: inf is not a finite"),
        ("a,t\n1,2\n1e300,2\n", {}, r"column 'a', row 2: 1e\+300 is not a finite"),
        ("a,t\n1,2\n3,-inf\n", {"task": "regression"}, "column 't', row 2: -inf is not a finite"),
        ("a,t\n,0\ninf,2\n", {"missing": "drop"}, "column 'a', row 2: inf"),
        ("a,t\n1,0.5\n2,1\n", {"task": "classification"}, "'t' holds fractions, which cannot be classes"),
        ("a,t\n1,x\n2,y\n", {"task": "regression"}, "column 't' holds string, where numbers are needed"),
        ("a,t\n2024-01-31,1\n2024-02-01,1\n", {}, r"column 'a' holds date32.* leave it out by naming the others"),
    ],
)
def test_what_is_wrong_with_a_table_is_said(
    text: str, options: dict[str, Any], said: str, table: Callable[..., Path], decoded: Decode
) -> None:
    path = table(text)
    with pytest.raises(DataError, match=said) as raised:
        decoded("csv", path=path, **{"target": "t", **options})
    assert str(path) in str(raised.value)


def test_text_that_is_not_utf8_is_refused(tmp_path: Path, decoded: Decode) -> None:
    path = tmp_path / "latin.csv"
    path.write_bytes("town,t\nKöln,1\nUlm,2\n".encode("latin-1"))
    with pytest.raises(DataError, match="column 'town' holds binary, which is neither a number nor text in UTF-8"):
        decoded("csv", path=path, target="t")


def test_line_breaks_in_long_files_are_part_of_their_values(table: Callable[..., Path], decoded: Decode) -> None:
    # The reader works in blocks of a megabyte, whose ends must not fall into a value.
    value = '"' + "line\n" * 50 + '"'
    data = decoded("csv", path=table("n,w,t\n" + f"1,{value},a\n" * 9000), target="t")
    assert data.x_train.shape == (9000, 2)


def test_constant_columns_and_other_delimiters_are_fine(table: Callable[..., Path], decoded: Decode) -> None:
    data = decoded("csv", path=table("a;b;t\n1;x;0\n1;x;1\n"), target="t", delimiter=";")
    assert data.x_train.tolist() == [[1, 1], [1, 1]]


@pytest.mark.parametrize("name", ["csv", "parquet"])
def test_missing_files_are_named(name: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=rf"{name}: there is no file .*none\n.*then at DNNTRAIN_DATA"):
        datasets.choose({"name": name, "path": tmp_path / "none", "target": "t"}).build()
    (tmp_path / "some").touch()
    with pytest.raises(DataError, match=rf"{name}: there is no file .*none"):
        datasets.choose({"name": name, "path": tmp_path / "some", "target": "t", "test": tmp_path / "none"}).build()


def test_a_parquet_table(tmp_path: Path, decoded: Decode) -> None:
    folder = tmp_path / "year=2024"
    folder.mkdir()
    path = folder / "table.parquet"
    columns: dict[str, Any] = {
        "half": pa.array([1.5, 2, 3], pa.float16()),
        "money": pa.array([1, 2, 3], pa.decimal128(9, 2)),
        "level": pa.array(["low", "high", "low"]).dictionary_encode(),
        "flag": pa.array([True, False, True]),
        "big": pa.array(["x", "y", "x"], pa.large_string()),
        "t": pa.array(["no", "yes", "no"]).dictionary_encode(),
    }
    parquet.write_table(pa.table(columns), path)
    data = decoded("parquet", path=path, target="t")
    assert data.feature_names == (
        *("half", "money", "level=high", "level=low"),
        *("flag=false", "flag=true", "big=x", "big=y"),
    )
    assert data.x_train[1].tolist() == [2, 2, 1, 0, 1, 0, 0, 1]
    assert data.classes == ("no", "yes") and data.y_train.tolist() == [0, 1, 0]


def test_parquet_takes_nan_for_a_missing_value(tmp_path: Path, decoded: Decode) -> None:
    path = tmp_path / "table.parquet"
    parquet.write_table(pa.table({"a": [1.0, float("nan"), None, 4.0], "t": [0, 1, 0, 1]}), path)
    with pytest.raises(DataError, match="column 'a', row 2"):
        decoded("parquet", path=path, target="t")
    assert decoded("parquet", path=path, target="t", missing="drop").x_train.tolist() == [[1], [4]]


@pytest.mark.parametrize("content", [b"", b"PAR1 and nothing more", b"a,t\n1,2\n"])
def test_a_damaged_parquet_file_is_named(content: bytes, tmp_path: Path, decoded: Decode) -> None:
    path = tmp_path / "table.parquet"
    path.write_bytes(content)
    with pytest.raises(DataError, match=f"parquet: {path} cannot be read"):
        decoded("parquet", path=path, target="t")


number = st.floats(width=32, allow_nan=False, allow_infinity=False)
word = st.text(alphabet="xyzäß ,;\"'\n\t=", max_size=4).map(lambda text: f"c{text}")
row = st.tuples(number, st.integers(-(2**24), 2**24), word, st.sampled_from(["p", "q", "r"]))


@settings(max_examples=60, deadline=None)
@given(st.lists(row, min_size=1, max_size=12), st.sampled_from([",", ";", "\t"]))
def test_what_is_written_is_read(rows: list[tuple[float, int, str, str]], delimiter: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "table.csv"
        with path.open("w", newline="", encoding="utf-8") as stream:
            writer = csv.writer(stream, delimiter=delimiter)
            writer.writerow(["f", "i", "w", "t"])
            writer.writerows(rows)
        value = {"name": "csv", "path": path, "target": "t", "delimiter": delimiter}
        data: Decoded = datasets.choose(value).build().load()
    words, kinds = sorted({row[2] for row in rows}), sorted({row[3] for row in rows})
    assert data.classes == tuple(kinds)
    assert data.feature_names == ("f", "i", *(f"w={word}" for word in words))
    for x, y, (f, i, w, t) in zip(data.x_train, data.y_train, rows, strict=True):
        assert x[:2].tolist() == [f, i]
        assert [words[j] for j in np.flatnonzero(x[2:])] == [w]
        assert kinds[y] == t
