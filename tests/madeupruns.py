"""Run directories with figures of our choice."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from dnntrain.store import RunDirectory

START = datetime(2026, 1, 1, 12)
SPEC = {
    "data.dataset.name": "digits",
    "model.activation": "relu",
    "optimizer.name": "sgd",
    "optimizer.lr": 0.1,
    "training.epochs": 3,
    "training.monitor.metric": "valid/loss",
    "training.monitor.mode": "min",
}


def make_run(
    runs: Path,
    name: str = "run",
    *,
    seed: int = 0,
    losses: Sequence[float | None] = (3.0, 2.0, 1.0),
    spec: dict[str, Any] | None = None,
    status: str = "completed",
    test: dict[str, float] | None = None,
    tags: Sequence[str] = (),
    minutes: int = 0,
    seconds: float = 2.0,
) -> RunDirectory:
    """Leave a run directory whose epochs have these validation losses."""
    directory = RunDirectory.create(runs, name, now=START + timedelta(minutes=minutes))
    rows = [
        {"epoch": i, "valid/loss": loss, "valid/accuracy": None if loss is None else 1 - loss / 10, "seconds": seconds}
        | {"samples_per_second": 100.0}
        for i, loss in enumerate(losses, start=1)
    ]
    for row in rows:
        directory.append_metrics(row)
    directory.close()
    best = min((row for row in rows if row["valid/loss"] is not None), key=lambda row: row["valid/loss"], default=None)
    directory.write_summary(
        {
            "name": name,
            "status": status,
            "seed": seed,
            "stop_reason": None,
            "best": {"epoch": best["epoch"] if best else None, "metrics": best or {}},
            "last": {"epoch": len(rows), "metrics": rows[-1] if rows else {}},
            "test": test,
            "parameters": 1000,
            "epochs": len(rows),
            "seconds": seconds * len(rows),
            "samples_per_second": 100.0,
            "peak_memory": 5_000_000,
            "error": None,
            "spec": {"name": name, "seed": seed, **SPEC, **(spec or {})},
        }
    )
    directory.write_environment({"data": {"train": 100, "valid": 50}})
    if tags:
        directory.write_notes({"tags": list(tags)})
    return directory
