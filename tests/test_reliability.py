"""The page of promises names the tests that hold them; they must be there."""

from __future__ import annotations

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "reliability.md"


def named() -> list[tuple[str, str]]:
    return re.findall(r"`(tests/[a-z0-9_/]+\.py)::(test_[a-z0-9_]+)`", PAGE.read_text())


def test_each_named_test_exists() -> None:
    assert len(named()) > 30
    for file, name in named():
        tree = ast.parse((ROOT / file).read_text())
        assert name in [node.name for node in tree.body if isinstance(node, ast.FunctionDef)], f"{file}::{name}"


def test_each_promise_is_held_by_a_test() -> None:
    promises = re.split(r"^- ", PAGE.read_text().split("## The last soak")[0], flags=re.M)[1:]
    assert len(promises) > 20
    for promise in promises:
        assert re.search(r"::test_", promise), promise
