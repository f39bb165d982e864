"""The deep-network exercise on CIFAR-10: train every variant with every seed, and put what came out into results.md.

    python docs/exercise.py run --data cifar10.npz --runs-dir runs/exercise     # hours; goes on where it stopped
    python docs/exercise.py table --runs-dir runs/exercise                      # rewrites the table in results.md

Variants and seeds stand here, and were written down before the first run.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from pathlib import Path
from typing import Any, Final

import dnntrain
from dnntrain import spec
from dnntrain.store import RunDirectory, listing

HERE: Final = Path(__file__).parent
PAGE: Final = HERE / "results.md"
CONFIGS: Final = HERE.parent / "configs"
VARIANTS: Final = ("cifar_swish", "cifar_batchnorm", "cifar_selu", "cifar_alpha_dropout", "cifar_one_cycle")
SEEDS: Final = (42, 43, 44)
BEGIN, END = "<!-- exercise: begin -->", "<!-- exercise: end -->"


def main() -> None:
    """Run or tabulate."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["run", "table"])
    parser.add_argument("--data", type=Path, help="cifar10.npz; torchvision's CIFAR-10 unless given")
    parser.add_argument("--runs-dir", type=Path, default=HERE.parent / "runs" / "exercise")
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    if arguments.what == "run":
        run(arguments.data, arguments.runs_dir, arguments.threads)
    else:
        tabulate(arguments.runs_dir)


def run(data: Path | None, runs: Path, threads: int) -> None:
    """Train what is not there yet, seed by seed, so that every variant has its first seed early."""
    done = {(name, seed) for name, seed, _ in finished(runs)}
    for seed in SEEDS:
        for variant in VARIANTS:
            if (variant, seed) in done:
                continue
            overrides = [f"seed={seed}", f"training.threads={threads}"]
            if data is not None:
                overrides.append(f"data.dataset={{name: npz, path: {data.resolve()}}}")
            record = dnntrain.train(spec.load(CONFIGS / f"{variant}.yaml", overrides), runs=runs, test=True)
            print(variant, seed, record.status, record.path, flush=True)


def finished(runs: Path) -> list[tuple[str, int, RunDirectory]]:
    """Return name, seed and directory of every run that came to its end."""
    found = []
    for directory in listing(runs):
        summary = directory.summary()
        if directory.status() in ("completed", "stopped"):
            found.append((summary["name"], summary["seed"], directory))
    return found


def tabulate(runs: Path) -> None:
    """Rewrite the table between the marks of results.md."""
    rows = finished(runs)
    lines = [
        "| variant | seeds | best epoch | best valid loss | valid accuracy there | highest valid accuracy | "
        "test accuracy | s/epoch |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for variant in VARIANTS:
        ours = sorted((seed, directory) for name, seed, directory in rows if name == variant and seed in SEEDS)
        if ours:
            lines.append(line(variant, [directory for _, directory in ours]))
    text = PAGE.read_text(encoding="utf-8")
    before, _, rest = text.partition(BEGIN)
    _, found, after = rest.partition(END)
    if not found:
        sys.exit(f"{PAGE.name} lacks the lines {BEGIN} and {END}")
    PAGE.write_text(f"{before}{BEGIN}\n{chr(10).join(lines)}\n{END}{after}", encoding="utf-8")
    print(f"wrote {len(lines) - 2} rows into {PAGE.name}")


def line(variant: str, directories: list[RunDirectory]) -> str:
    """Return a row: one figure a seed, in the order of the seeds."""
    summaries = [directory.summary() for directory in directories]
    metrics = [directory.metrics() for directory in directories]
    best: list[dict[str, Any]] = [summary["best"]["metrics"] for summary in summaries]
    cells = [
        variant,
        " / ".join(str(summary["seed"]) for summary in summaries),
        " / ".join(str(row["epoch"]) for row in best),
        " / ".join(f"{row['valid/loss']:.3f}" for row in best),
        percent([row["valid/accuracy"] for row in best]),
        percent([max(row["valid/accuracy"] for row in each) for each in metrics]),
        percent([summary["test"]["test/accuracy"] for summary in summaries]),
        f"{statistics.median(row['seconds'] for each in metrics for row in each):.1f}",
    ]
    return "| " + " | ".join(cells) + " |"


def percent(shares: list[float]) -> str:
    """Write shares in percent."""
    return " / ".join(f"{100 * share:.1f}" for share in shares) + " %"


if __name__ == "__main__":
    main()
