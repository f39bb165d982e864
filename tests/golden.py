"""Texts that tests know by heart; `DNNTRAIN_WRITE_GOLDEN=1 pytest ...` writes them anew, to be read before a commit."""

from __future__ import annotations

import os
from pathlib import Path


def check(path: Path, text: str) -> None:
    """Compare a text with the file that keeps it.

    Raises:
        AssertionError: it differs.
    """
    if os.environ.get("DNNTRAIN_WRITE_GOLDEN"):
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8")
    assert text == path.read_text(encoding="utf-8"), f"{path.name} differs: if it should, DNNTRAIN_WRITE_GOLDEN=1"
