"""Time `dnntrain compare` over many runs, as a whole command, beside a floor that does as little as can be done.

The floor is a Python process that imports NumPy and scipy.special, which the statistics need, and parses the same
files (summary, metrics and environment of each run) with the json module; it compares nothing and prints nothing. So
the ratio says what everything else costs: finding, checking and grouping the runs, the statistics, and the tables.

Rounds are interleaved, so that a noisy machine disturbs both alike; medians, and the median of the ratios round by
round, are printed, of the time on the clock and of the processor time in the user's mode, which other work disturbs
less.
"""

from __future__ import annotations

import argparse
import os
import random
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from unittest import mock

from dnntrain.store import RunDirectory

RUNS = 1000
EPOCHS = 20
SEEDS = 5
KEYS = 60

FLOOR = """
import json, os, sys
import numpy, scipy.special
for entry in os.scandir(sys.argv[1]):
    for name in ("summary.json", "environment.json"):
        with open(f"{entry.path}/{name}", "rb") as file:
            json.loads(file.read())
    with open(f"{entry.path}/metrics.jsonl", "rb") as file:
        [json.loads(line) for line in file.read().splitlines()]
"""


def make_runs(folder: Path, count: int) -> None:
    """Leave finished runs: configurations of five seeds each that differ in two keys of some sixty.

    Files are not synced meanwhile, which would take most of the time; what is read is the same.
    """
    noise = random.Random(0)
    with mock.patch("os.fsync"):
        for number in range(count):
            configuration, seed = divmod(number, SEEDS)
            make_run(folder, configuration, seed, noise)


def make_run(folder: Path, configuration: int, seed: int, noise: random.Random) -> None:
    """Leave one finished run whose loss falls towards what its configuration can reach."""
    started = datetime(2026, 1, 1) + timedelta(minutes=configuration * SEEDS + seed)
    directory = RunDirectory.create(folder, f"run_{configuration:03}", now=started)
    lowest = 0.5 + 0.2 * noise.random()
    rows = [row_of(epoch, lowest + 2.0 / epoch + 0.02 * noise.random()) for epoch in range(1, EPOCHS + 1)]
    for row in rows:
        directory.append_metrics(row)
    directory.close()
    best = min(rows, key=lambda row: row["valid/loss"])
    directory.write_environment({"device": "cpu", "threads": 2, "data": {"train": 45000, "valid": 5000, "test": 10000}})
    directory.write_summary(
        {
            "name": f"run_{configuration:03}",
            "status": "completed",
            "stop_reason": None,
            "seed": seed,
            "best": {"epoch": best["epoch"], "metrics": best},
            "last": {"epoch": EPOCHS, "metrics": rows[-1]},
            "test": {"test/loss": best["valid/loss"], "test/accuracy": best["valid/accuracy"]},
            "parameters": 500_000,
            "epochs": EPOCHS,
            "seconds": 20.0 * EPOCHS,
            "samples_per_second": 2500.0,
            "peak_memory": 900_000_000,
            "error": None,
            "spec": spec_of(configuration, seed),
        }
    )


def row_of(epoch: int, loss: float) -> dict[str, Any]:
    """Return the figures of an epoch, as a run has them."""
    return {
        "epoch": epoch,
        "step": epoch * 1407,
        "train/loss": loss * 0.9,
        "train/accuracy": 1 - loss / 5,
        "lr": 1e-3,
        "grad_norm": 1.0 / epoch,
        "samples_per_second": 2500.0,
        "valid/loss": loss,
        "valid/accuracy": 1 - loss / 4,
        "seconds": 20.0,
    }


def spec_of(configuration: int, seed: int) -> dict[str, Any]:
    """Return a flat experiment."""
    told = {
        "name": f"run_{configuration:03}",
        "seed": seed,
        "optimizer.name": ("adamw", "nadam", "sgd")[configuration % 3],
        "optimizer.lr": 1e-4 * (1 + configuration),
        "training.epochs": EPOCHS,
        "training.monitor.metric": "valid/loss",
        "training.monitor.mode": "min",
    }
    return told | {f"section{i % 8}.key{i}": (i, 0.1 * i, f"word{i}", None)[i % 4] for i in range(KEYS - len(told))}


def timed(command: list[str]) -> tuple[float, float]:
    """Run a command, and return its seconds on the clock and on the processor, the latter in the user's mode."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime
    started = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    seconds = time.perf_counter() - started
    return seconds, resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime - before


def main() -> None:
    """Make the runs, measure, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--runs", type=int, default=RUNS)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        make_runs(Path(folder), arguments.runs)
        ours = [sys.executable, "-c", "from dnntrain.cli import main; main()", "compare", folder]
        floor = [sys.executable, "-c", FLOOR, folder]
        timed(ours), timed(floor)
        rounds = [(timed(ours), timed(floor)) for _ in range(arguments.rounds)]
    machine = f"load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores"
    print(f"{arguments.runs} runs of {EPOCHS} epochs, {arguments.rounds} rounds, {machine}")
    print(f"{'seconds':20}{'dnntrain compare':>18}{'floor':>8}{'compare / floor':>17}")
    for place, name in enumerate(("on the clock", "user CPU")):
        pairs = [(mine[place], least[place]) for mine, least in rounds]
        mine, least = (statistics.median(column) for column in zip(*pairs, strict=True))
        ratio = statistics.median(one / other for one, other in pairs)
        print(f"{name:20}{mine:18.2f}{least:8.2f}{ratio:17.2f}")


if __name__ == "__main__":
    main()
