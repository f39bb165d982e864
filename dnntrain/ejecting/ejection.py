"""From a run to a script that repeats it without dnntrain."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from dnntrain import build
from dnntrain import spec as specs
from dnntrain.ejecting.whole import Facts, objections, script_of
from dnntrain.errors import ExportError, visible
from dnntrain.resuming import unlike
from dnntrain.spec import Spec
from dnntrain.spec.schema import RetrySpec
from dnntrain.store import RunDirectory, find, refuse_existing, write_atomic

_REPEATED: Final = re.compile(r"early stopping: |training diverged: |.* is not finite$")
"""The reasons for which a script stops as the run did."""


@dataclass(frozen=True)
class Ejected:
    """A script that was written.

    Attributes:
        path: of the file.
        run: name of the run directory.
        lines: how many it has.
    """

    path: Path
    run: str
    lines: int


def eject(
    run: str | Path, /, *, output: str | Path | None = None, force: bool = False, runs: str | Path = "runs"
) -> Ejected:
    """Write a run's experiment as one Python script for PyTorch alone, which repeats its figures to the last bit.

    Args:
        run: a path, a name, a unique prefix, or `last`.
        output: the file; named after the run in the current folder unless given.
        force: write over a file that is there.
        runs: where runs are looked for.

    Raises:
        UsageError: the file is there already.
        ExportError: something about the run cannot be repeated by a script.
        DataError: its data cannot be used, or is not what it was trained on.
        StoreError: the run cannot be read, or the file not written.
        SpecError: the layers that it reused cannot be read.
    """
    directory = find(str(run), Path(runs))
    path = Path(output) if output is not None else Path(f"{directory.name}.py")
    refuse_existing(path, force=force)
    environment, summary = directory.environment(), directory.summary()
    source = str(directory.path / directory.SPEC)
    spec = specs.loads(directory.spec_text(), source=source, folder=directory.path)
    _refuse([*objections(spec), *_unlike(directory, spec, environment, summary)], directory)
    data = build.open_data(spec)
    if environment.get("data", {}).get("fingerprint") != data.arrays.fingerprint:
        raise ExportError(
            f"the data is not what {directory.name} was trained on, so that no script could repeat it; bring it back, "
            f"or train on what is there: dnntrain run {directory.path / directory.SPEC}"
        )
    _check_reused(directory, spec, environment)
    facts = Facts(
        directory.name,
        script=path.name,
        threads=environment["threads"],
        test=summary.get("test") is not None,
        cached=bool(environment.get("step_strategy", {}).get("cached")),
        versions=_versions(environment),
    )
    text = script_of(spec, data, facts)
    write_atomic(path, lambda file: file.write(text.encode()))
    return Ejected(path, directory.name, text.count("\n"))


def _refuse(found: list[str], directory: RunDirectory) -> None:
    if found:
        listed = "".join(f"\n    {each}" for each in found)
        raise ExportError(
            f"{directory.name} cannot be ejected, since no script is written for:{listed}\n"
            "docs/models.md lists what can be; dnntrain export writes the trained network for elsewhere"
        )


def _check_reused(directory: RunDirectory, spec: Spec, environment: Mapping[str, Any]) -> None:
    """Look whether the layers that a run took over lie where they lay.

    Raises:
        ExportError: they do not.
        SpecError: their file cannot be read.
    """
    if spec.model.reuse is not None and environment["reused"] != build.digest(spec):
        raise ExportError(
            f"{spec.model.reuse.from_} does not hold the layers any more that {directory.name} reused, so that no "
            f"script could repeat it; bring them back, or train with what is there: "
            f"dnntrain run {directory.path / directory.SPEC}"
        )


def _versions(environment: Mapping[str, Any]) -> dict[str, str]:
    packages = environment.get("packages", {})
    found = {
        "dnntrain": packages.get("dnntrain"),
        "python": environment.get("python"),
        "torch": environment.get("torch_build"),
        "numpy": packages.get("numpy"),
    }
    return {name: str(version) for name, version in found.items()}


def _unlike(
    directory: RunDirectory, spec: Spec, environment: Mapping[str, Any], summary: Mapping[str, Any]
) -> list[str]:
    """Return what the run did that its experiment, on a CPU, would not do again."""
    found = []
    if environment.get("device") != "cpu":
        found.append(f"a run on {environment.get('device')}: only those on the CPU are repeated to the last bit")
    elif environment.get("precision") != "fp32":
        found.append(f"training.precision: {environment.get('precision')}")
    if not isinstance(environment.get("threads"), int):
        found.append("a run that does not say how many threads it had")
    if spec.model.reuse is not None and "reused" not in environment:
        found.append("model.reuse: a run that does not say what it reused, as dnntrain did not write that down then")
    if environment.get("step_strategy", {}).get("compiled"):
        found.append("training.compile: true")
    resumed = environment.get("resumed", [])
    if any(each.get("identity") != environment.get("identity") for each in resumed):
        found.append("an experiment that was changed while it was trained, or went on under other versions")
    found += dict.fromkeys(remark for each in resumed for remark in unlike(environment, each))
    if summary.get("best", {}).get("epoch") is None:
        there = {"average": spec.training.average is not None, "stages": bool(spec.training.stages)}
        found += [f"training.{key}: no epoch of the run is the best" for key, wanted in there.items() if wanted]
    status = directory.status(summary)
    if status in ("running", "interrupted"):
        found.append(f"a run that has not come to its end ({status}): dnntrain resume brings it there")
    if isinstance(spec.training.on_divergence, RetrySpec) and (directory.path / directory.DIVERGENCE).exists():
        found.append("a training that diverged and went back")
    reason = str(summary.get("stop_reason"))
    if "time limit" in reason:
        found.append("training.max_time: the run was ended by it")
    elif status == "stopped" and not _REPEATED.match(reason):
        found.append(f"a run that was stopped from outside its experiment: {visible(reason)}")
    return found
