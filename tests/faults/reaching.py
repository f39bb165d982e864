"""How a broken file is tried: the whole way from its text to a network that is ready to be trained."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from dnntrain import build, spec
from dnntrain.errors import SpecError
from dnntrain.placement import place


def prepare(text: str | bytes, *settings: str, folder: Path) -> None:
    """Read a file that is called f.yaml, open its data and build everything, but train nothing."""
    made = spec.loads(text, source="f.yaml", folder=folder, overrides=settings)
    data = build.open_data(made)
    made = build.resolve(made, data)
    build.build(made, data, place(made))


def mistakes(text: str | bytes, *settings: str, folder: Path) -> list[str]:
    """Return what is wrong with a file, as `LINE:COLUMN: MESSAGE`; `--set:` or another file's name stands before."""
    try:
        prepare(text, *settings, folder=folder)
    except SpecError as error:
        for problem in error.problems:
            assert problem.mark is not None, f"not located: {problem.message}"
        told = [f"{problem.mark}: {problem.message}" for problem in error.problems]
        return [each.replace(f"{folder}{os.sep}", "").removeprefix("f.yaml:") for each in told]
    return []


def lay_out(folder: Path) -> None:
    """Make the files that broken files extend, and the data that they name."""
    np.savez(folder / "tokens.npz", x_train=(np.arange(240) % 17).reshape(40, 6), y_train=np.arange(40) % 2)
    (folder / "list.yaml").write_text("- a\n")
    (folder / "broken.yaml").write_text("a: [1\n")
    (folder / "lost.yaml").write_text("extends: nowhere.yaml\n")
    os.mkfifo(folder / "pipe")
