"""A broken file, and what is said of it."""

from __future__ import annotations

from collections.abc import Sequence

DATA = "data: {dataset: digits}\n"
MODEL = "model: {architecture: {name: mlp, hidden: [10]}}\n"
MINIMAL = DATA + MODEL
WITH = "model: {architecture: {name: mlp, hidden: [10]}, "  # the same, to be continued


class Broken:
    """A broken file.

    Args:
        name: what is wrong with it.
        text: the file, which is called f.yaml.
        says: for each mistake that must be told, `LINE:COLUMN: ` and how the message starts. The name of the file
            stands before where it is another one; the `--set` of the command line is one.
        settings: what the command line sets.
    """

    def __init__(self, name: str, text: str | bytes, *says: str, settings: Sequence[str] = ()) -> None:
        self.name = name
        self.text = text
        self.says = says
        self.settings = settings
