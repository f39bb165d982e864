"""The command predict: what a trained network says of pictures and arrays, as a table, CSV or JSON."""

from __future__ import annotations

import csv
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from enum import StrEnum
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, BinaryIO, Final, TextIO

import typer

from dnntrain.cli.output import (
    Device,
    Json,
    McSamples,
    Plugin,
    Run,
    RunsDir,
    as_json,
    console,
    load_plugins,
    print_json,
    user_errors,
)
from dnntrain.cli.tables import Table
from dnntrain.errors import DataError, UsageError, visible
from dnntrain.store import write_atomic
from dnntrain.units import count

if TYPE_CHECKING:
    from dnntrain.trained import Prediction

STDIN: Final = Path("-")
TABLE_ROWS: Final = 1000
"""Rows that are laid out, and printed, together."""


class Format(StrEnum):
    """How predictions are written."""

    TABLE = "table"
    CSV = "csv"
    JSONL = "jsonl"


def predict(
    run: Run,
    inputs: Annotated[
        list[Path],
        typer.Argument(help="Pictures, folders of pictures, .npy or .npz files; - for a list of them on stdin."),
    ],
    mc_samples: McSamples = None,
    batch_size: Annotated[int, typer.Option(min=1, metavar="N", help="Samples that are predicted at once.")] = 256,
    format_: Annotated[
        Format | None, typer.Option("--format", help="table, csv, or jsonl: JSON, one object a line.")
    ] = None,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", metavar="FILE", help="Write a .csv or .jsonl file.")
    ] = None,
    skip_errors: Annotated[
        bool, typer.Option("--skip-errors", help="Go on where an input cannot be read; name it, and exit with 1.")
    ] = False,
    device: Device = None,
    runs_dir: RunsDir = Path("runs"),
    plugin: Plugin = None,
    json: Json = False,
) -> None:
    """Predict classes and probabilities, or numbers, with the best checkpoint of a run."""
    with user_errors():
        chosen = _format(format_, output, json=json)
        load_plugins(plugin)
        from dnntrain import trained

        skipped = _Skipped()
        made = trained.predictions(
            run,
            _paths(inputs),
            mc_samples=mc_samples,
            batch_size=batch_size,
            device=device,
            runs=runs_dir,
            skip=skipped if skip_errors else None,
        )
        counted = _Counted(made)
        if json:
            _print_json(counted)
        elif output is not None:
            _write_file(chosen, counted, output)
        else:
            _WRITERS[chosen](counted, sys.stdout)
        if skipped.count:
            print(f"{count(skipped.count, 'input')} could not be predicted, {counted.count:,} could", file=sys.stderr)
            raise typer.Exit(1)
        if not counted.count:
            places = ", ".join("the list on stdin" if path == STDIN else str(path) for path in inputs)
            raise DataError(f"there is nothing to predict in {places}")
        if output is not None:
            print(visible(f"wrote {count(counted.count, 'prediction')} to {output}", keep=""), file=sys.stderr)


class _Skipped:
    """Names each input that cannot be predicted, and counts them."""

    def __init__(self) -> None:
        self.count = 0

    def __call__(self, error: DataError) -> None:
        self.count += 1
        print(error, file=sys.stderr)


class _Counted:
    """Counts what is iterated over."""

    def __init__(self, made: Iterable[Prediction]) -> None:
        self._made = made
        self.count = 0

    def __iter__(self) -> Iterator[Prediction]:
        for each in self._made:
            self.count += 1
            yield each


def _format(given: Format | None, output: Path | None, *, json: bool) -> Format:
    """Return how to write, as the options say together.

    Raises:
        UsageError: they contradict each other, or the file is there already.
    """
    if json and (given is not None or output is not None):
        raise UsageError("--json prints one list on stdout; for a file, or line by line, write --format jsonl instead")
    if output is None:
        return given or Format.TABLE
    known = {".csv": Format.CSV, ".jsonl": Format.JSONL}
    of_name = known.get(output.suffix.lower())
    if given is Format.TABLE or (given or of_name) is None:
        raise UsageError(f"{output} must end in .csv or .jsonl, or say --format csv or --format jsonl")
    if given is not None and of_name is not None and given is not of_name:
        raise UsageError(f"{output} ends as {of_name}, but --format says {given}")
    if os.path.lexists(output):
        raise UsageError(f"{output} is there already; remove it, or name another file")
    return given or known[output.suffix.lower()]


def _paths(inputs: Iterable[Path]) -> Iterator[Path]:
    """Yield the inputs, and in the place of `-` the paths on stdin as they come in, one a line."""
    for path in inputs:
        if path != STDIN:
            yield path
            continue
        for line in sys.stdin.buffer:
            if line.strip():
                yield Path(os.fsdecode(line.rstrip(b"\r\n")))


def _print_json(made: Iterable[Prediction]) -> None:
    from dataclasses import asdict

    print_json([asdict(each) for each in made])


def _write_file(format_: Format, made: Iterable[Prediction], output: Path) -> None:
    """Write predictions into a file, as they are made; it is there once it is whole."""

    def write(file: BinaryIO) -> None:
        import io

        text = io.TextIOWrapper(file, encoding="utf-8", newline="")
        try:
            _WRITERS[format_](made, text)
        finally:
            # Else the file would be closed with its wrapper, and could not be synced.
            text.flush()
            text.detach()

    write_atomic(output, write)


def _write_jsonl(made: Iterable[Prediction], file: TextIO) -> None:
    from dataclasses import asdict

    for each in made:
        file.write(as_json(asdict(each)) + "\n")


def _write_csv(made: Iterable[Prediction], file: TextIO) -> None:
    """Write a row for each sample; names of files and classes with control characters as escapes."""
    writer = csv.writer(file, lineterminator="\n")
    for number, each in enumerate(made):
        if number == 0:
            kind = "value" if each.label is None else "probability"
            beside = [] if each.spread is None else [f"spread {name}" for name in each.spread]
            doubts = [name for name in ("entropy", "mutual_information") if getattr(each, name) is not None]
            labels = [] if each.label is None else ["label"]
            header = ["name", *labels, *(f"{kind} {name}" for name in each.values), *beside, *doubts]
            writer.writerow(visible(name, keep="") for name in header)
        cells: list[Any] = [visible(each.name, keep="")]
        cells += [] if each.label is None else [visible(each.label, keep="")]
        cells += [*each.values.values(), *(each.spread or {}).values()]
        cells += [value for value in (each.entropy, each.mutual_information) if value is not None]
        writer.writerow(cells)


def _write_table(made: Iterable[Prediction], file: TextIO) -> None:
    """Print tables of many rows each: the columns of one are laid out together."""
    remaining = iter(made)
    while some := list(islice(remaining, TABLE_ROWS)):
        sampled = some[0].spread is not None
        doubts = sampled and some[0].entropy is not None
        rows = Table("input", "prediction", *([">spread"] * sampled), *([">entropy", ">mutual information"] * doubts))
        for each in some:
            name = each.label or next(iter(each.values))
            said = f"{each.label}  {100 * each.values[name]:.1f} %" if each.label else _numbers(each.values)
            cells = [each.name, said]
            if each.spread is not None:
                cells.append(f"{100 * each.spread[name]:.1f} %" if each.label else _numbers(each.spread))
            cells += [f"{value:.3f}" for value in (each.entropy, each.mutual_information) if value is not None]
            rows.add(*cells)
        rows.print(console())
        file.flush()


def _numbers(values: dict[str, float]) -> str:
    return "  ".join(f"{value:.6g}" for value in values.values())


_WRITERS: Final[dict[Format, Callable[[Iterable[Prediction], TextIO], None]]] = {
    Format.TABLE: _write_table,
    Format.CSV: _write_csv,
    Format.JSONL: _write_jsonl,
}
