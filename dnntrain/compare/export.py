"""The figures of many runs as one table, for spreadsheets and data frames elsewhere."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Final

from dnntrain.compare.records import Collection, differing
from dnntrain.errors import UsageError, visible
from dnntrain.store import write_atomic
from dnntrain.store.flat import text

ABOUT: Final = ("run", "name", "seed", "status", "tags")
"""The first columns: the run directory, the experiment's name and seed, the run's status, its tags by blanks."""


@dataclass(frozen=True)
class Table:
    """A row for each epoch of each run.

    Attributes:
        columns: `ABOUT`; the experiment's keys, as `spec.KEY`; then the figures, as metrics.jsonl names them.
        rows: in the order of the runs and the epochs; None where a run lacks something.
        remarks: what was left out, and why.
    """

    columns: tuple[str, ...]
    rows: list[dict[str, Any]]
    remarks: tuple[str, ...]


def metrics_table(found: Collection, *, spec: bool = False) -> Table:
    """Lay out the figures of runs, one row an epoch.

    Args:
        found: the runs.
        spec: every key of the experiments; otherwise those that do not have the same value in all.
    """
    configurations = [run.configuration for run in found.runs]
    keys = list(dict.fromkeys(key for each in configurations for key in each)) if spec else differing(configurations)
    rows, remarks = [], list(found.remarks)
    for run in found.runs:
        about = dict(zip(ABOUT, (run.id, run.summary["name"], run.seed, run.status, " ".join(run.tags)), strict=True))
        chosen = {f"spec.{key}": run.configuration.get(key) for key in keys}
        rows += [{**about, **chosen, **row} for row in run.rows]
        if not run.rows:
            remarks.append(f"left out: {run.id} has no epoch yet")
    measured = dict.fromkeys(name for row in rows for name in row)
    return Table(tuple(dict.fromkeys([*ABOUT, *(f"spec.{key}" for key in keys), *measured])), rows, tuple(remarks))


def as_csv(table: Table) -> str:
    """Write a table as CSV: a line of names, an empty cell for what is missing, lists and truth values as JSON.

    Control characters are written as escapes, as the text may go to a terminal.
    """
    made = io.StringIO()
    writer = csv.writer(made, lineterminator="\n")
    writer.writerow(map(visible, table.columns))
    writer.writerows([_cell(row.get(name)) for name in table.columns] for row in table.rows)
    return made.getvalue()


def write_csv(table: Table, path: Path) -> None:
    """Write a table as CSV in UTF-8.

    Raises:
        UsageError: the file is there already.
        StoreError: the file system refuses.
    """
    content = as_csv(table).encode()
    _write(path, lambda file: file.write(content))


def write_parquet(table: Table, path: Path) -> None:
    """Write a table as Parquet, with typed columns: whole numbers, numbers, truth values and texts.

    A column that has several kinds of values, or lists, is text: each value as JSON, texts as they are.

    Raises:
        UsageError: the file is there already.
        StoreError: the file system refuses.
    """
    import pyarrow
    from pyarrow import parquet

    columns = {name: _column([row.get(name) for row in table.rows]) for name in table.columns}
    made = pyarrow.table({name: pyarrow.array(values, kind()) for name, (values, kind) in columns.items()})
    _write(path, lambda file: parquet.write_table(made, file))


def _column(values: Sequence[Any]) -> tuple[list[Any], Any]:
    """Return the values of a column, and what makes the type that fits all of them."""
    import pyarrow

    kinds = {type(value) for value in values if value is not None}
    if kinds == {bool}:
        return list(values), pyarrow.bool_
    if kinds == {int} and all(abs(value) < 2**63 for value in values if value is not None):
        return list(values), pyarrow.int64
    if kinds <= {int, float}:
        return [None if value is None else float(value) for value in values], pyarrow.float64
    return [None if value is None else text(value) for value in values], pyarrow.string


def _cell(value: Any) -> Any:
    if value is None or (isinstance(value, int | float) and not isinstance(value, bool)):
        return value
    return visible(text(value))


def _write(path: Path, write: Callable[[BinaryIO], object]) -> None:
    if path.exists():
        raise UsageError(f"{path} is there already; remove it, or name another file")
    write_atomic(path, write)
