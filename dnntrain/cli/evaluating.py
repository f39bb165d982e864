"""The command evaluate: a trained network measured, and where it is wrong."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer
from rich.console import Console

from dnntrain.cli.output import (
    Device,
    Json,
    McSamples,
    Plugin,
    Run,
    RunsDir,
    console,
    figures,
    load_plugins,
    print_json,
    user_errors,
)
from dnntrain.cli.tables import Table
from dnntrain.errors import UsageError, visible

if TYPE_CHECKING:
    from dnntrain.trained import Evaluation
    from dnntrain.trained.figures import Calibration, ClassFigures, Classified, Residuals

MATRIX_CLASSES: Final = 20
"""With more classes than these, the confusion matrix is no table that one can read."""
CONFUSIONS: Final = 15
"""So many pairs of classes are named instead."""
BAR: Final = 20
BESIDE_BAR: Final = 55
"""Columns that the rest of the reliability table takes."""


def evaluate(
    run: Run,
    split: Annotated[str, typer.Option(help="train, valid or test.")] = "test",
    worst: Annotated[int, typer.Option(min=0, metavar="N", help="Show the N samples with the highest loss.")] = 0,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", metavar="FILE", help="Draw them on a sheet: a .png file.")
    ] = None,
    mc_samples: McSamples = None,
    device: Device = None,
    runs_dir: RunsDir = Path("runs"),
    plugin: Plugin = None,
    json: Json = False,
) -> None:
    """Measure the best checkpoint of a run: metrics, each class, calibration, the worst samples."""
    with user_errors():
        if split not in ("train", "valid", "test"):
            raise typer.BadParameter(f"'{split}' is not train, valid or test", param_hint="--split")
        if output is not None and not worst:
            raise UsageError("--output is for the worst samples: say how many with --worst N")
        load_plugins(plugin)
        from dnntrain import trained
        from dnntrain.trained.sheet import check_sheet, write_sheet

        if output is not None:
            check_sheet(output, worst)
        made = trained.assess(run, split=split, worst=worst, mc_samples=mc_samples, device=device, runs=runs_dir)
        if json:
            print_json(_as_json(made))
        else:
            _show(made)
        if output is not None:
            # At last, so that what was measured is there even if the sheet cannot be.
            sys.stdout.flush()
            write_sheet(made, output)
            print(visible(f"wrote {len(made.worst)} samples to {output}", keep=""), file=sys.stderr)


def _as_json(made: Evaluation) -> dict[str, Any]:
    from dataclasses import asdict

    found: dict[str, Any] = {**made.metrics, "samples": made.samples}
    if made.classified is not None:
        found |= asdict(made.classified)
    if made.residuals:
        found["residuals"] = [asdict(each) for each in made.residuals]
    if made.worst:
        found["worst"] = [asdict(each) for each in made.worst]
    return found


def _show(made: Evaluation) -> None:
    scalars = {name: value for name, value in made.metrics.items() if not isinstance(value, list)}
    out = console()
    out.print(f"{made.split}:   {figures(scalars, made.split)}   ({made.samples:,} samples)", markup=False)
    if made.classified is not None:
        _show_classes(made.classified, out)
        _show_confusion(made.classified, out)
        _show_calibration(made.classified.calibration, out)
    if made.residuals:
        _show_residuals(made.residuals, out)
    if made.worst:
        _show_worst(made, out)


def _show_classes(found: Classified, out: Console) -> None:
    rows = Table("class", ">precision", ">recall", ">F1", ">samples")
    for each in (*found.classes, found.macro, found.weighted):
        rows.add(*_class_cells(each))
    out.print()
    rows.print(out)


def _class_cells(row: ClassFigures) -> tuple[str, ...]:
    rates = ("-" if rate is None else f"{100 * rate:.2f} %" for rate in (row.precision, row.recall, row.f1))
    return row.name, *rates, f"{row.support:,}"


def _show_confusion(found: Classified, out: Console) -> None:
    names = [each.name for each in found.classes]
    out.print("\nconfusion:", markup=False)
    if len(names) <= MATRIX_CLASSES:
        rows = Table("true \\ predicted", *(f">{name}" for name in names))
        for name, counts in zip(names, found.confusion, strict=True):
            rows.add(name, *(str(count) if count else "." for count in counts))
        rows.print(out)
        return
    pairs = [
        (count, i, j) for i, counts in enumerate(found.confusion) for j, count in enumerate(counts) if i != j and count
    ]
    pairs.sort(key=lambda pair: (-pair[0], pair[1:]))
    rows = Table("true", "predicted", ">samples")
    for count, i, j in pairs[:CONFUSIONS]:
        rows.add(names[i], names[j], f"{count:,}")
    rows.print(out)
    if len(pairs) > CONFUSIONS:
        out.print(f"and {len(pairs) - CONFUSIONS:,} other pairs; --json has the whole matrix", markup=False)


def _show_calibration(found: Calibration, out: Console) -> None:
    out.print(
        f"\ncalibration:   expected error {100 * found.error:.2f} %   negative log likelihood {found.nll:#.4g}   "
        f"Brier score {found.brier:#.4g}",
        markup=False,
    )
    out.print("share of right answers (#) and where it should be (|):", markup=False)
    rows = Table("probability", ">samples", ">mean", ">right", ">gap", "")
    width = max(5, min(BAR, out.width - BESIDE_BAR))
    for each in found.bins:
        if each.confidence is None or each.accuracy is None:
            continue
        rows.add(
            f"{each.low:.3f} to {each.high:.3f}",
            f"{each.samples:,}",
            f"{100 * each.confidence:.1f} %",
            f"{100 * each.accuracy:.1f} %",
            f"{100 * (each.accuracy - each.confidence):+.1f}",
            _bar(each.accuracy, each.confidence, width),
        )
    rows.print(out)


def _bar(share: float, mark: float, width: int) -> str:
    filled, at = round(share * width), min(width - 1, int(mark * width))
    return "".join("|" if i == at else "#" if i < filled else "." for i in range(width))


def _show_residuals(found: tuple[Residuals, ...], out: Console) -> None:
    out.print("\nresiduals, predicted - true:", markup=False)
    heads = (">mean", ">deviation", ">mean size", ">root mean square", ">half within", ">90 % within", ">99 % within")
    rows = Table("output", *heads, ">largest")
    for each in found:
        numbers = (each.mean, each.deviation, each.mae, each.rmse, *each.quantiles, each.largest)
        rows.add(str(each.output), *(f"{number:.4g}" for number in numbers))
    rows.print(out)


def _show_worst(made: Evaluation, out: Console) -> None:
    out.print(f"\nthe {len(made.worst)} samples with the highest loss:", markup=False)
    if made.classified is None:
        rows = Table(">row", ">loss", "true", "predicted")
        for each in made.worst:
            rows.add(str(each.row), f"{each.loss:#.4g}", _numbers(each.target), _numbers(each.predicted))
    else:
        rows = Table(">row", ">loss", "true", ">probability", "predicted", ">probability")
        for each in made.worst:
            rows.add(
                str(each.row),
                f"{each.loss:#.4g}",
                _numbers(each.target),
                _percent(each.target_probability),
                _numbers(each.predicted),
                _percent(each.probability),
            )
    rows.print(out)


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:.1f} %"


def _numbers(value: str | list[float]) -> str:
    return value if isinstance(value, str) else "  ".join(f"{each:.6g}" for each in value)
