"""The page on techniques leaves none out, and every line of YAML on it is one that a file may hold."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from dnntrain import spec
from dnntrain.registry import Family, families

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs" / "techniques.md").read_text()
# Where samples come from is no technique.
TECHNIQUES = [family for family in families().values() if family.name != "dataset"]
HEADINGS = {"average": "Averages of the weights"}
CODE = re.compile(r"`([^`\n]+)`")


def section(family: Family) -> str:
    heading = HEADINGS.get(family.name, "Losses" if family.name == "loss" else f"{family.name.capitalize()}s")
    start = PAGE.index(f"\n## {heading}\n")
    end = PAGE.find("\n## ", start + 1)
    return PAGE[start : end if end > 0 else None]


def rows(family: Family) -> dict[str, list[str]]:
    """Return the cells of each technique's row, by the names in its first cell."""
    found = {}
    for line in section(family).splitlines():
        cells = [cell.strip() for cell in line.strip("| ").split(" | ")]
        if line.startswith("| `"):
            found |= dict.fromkeys(CODE.findall(cells[0]), cells[1:])
    return found


@pytest.mark.parametrize("family", TECHNIQUES, ids=lambda family: family.name)
def test_every_technique_has_a_row_with_what_it_solves_where_it_helps_and_where_not(family: Family) -> None:
    found = rows(family)
    assert set(found) == set(family.names())
    for name, cells in found.items():
        assert len(cells) == 3, name
        assert all(cells), name


@pytest.mark.parametrize("family", TECHNIQUES, ids=lambda family: family.name)
def test_every_family_has_a_line_of_yaml(family: Family) -> None:
    lines = [line for line in section(family).splitlines() if line.startswith("    ")]
    assert lines or family.name == "optimizer"


@pytest.mark.parametrize(
    "word",
    [
        "Gradient clipping",
        "Groups",
        "Monte Carlo dropout",
        "Accumulation",
        "Warm-up",
        "Weight decay",
        "Label smoothing",
    ],
)
def test_what_is_no_part_has_a_paragraph(word: str) -> None:
    assert re.search(rf"^\*\*{word}", PAGE, re.MULTILINE)


LINES = [
    line.strip() for line in PAGE.splitlines() if line.startswith("    ") and not line.strip().startswith("dnntrain")
]


@pytest.mark.parametrize("line", LINES)
def test_every_line_of_yaml_is_valid(line: str) -> None:
    tree: dict[str, Any] = {"data": {"dataset": "digits"}, "model": {"architecture": {"name": "mlp", "hidden": [8]}}}
    for key, value in yaml.safe_load(line).items():
        tree[key] = {**tree[key], **value} if key in tree else value
    spec.loads(yaml.safe_dump(tree))


INLINE = [(family, code) for family in TECHNIQUES for code in CODE.findall(section(family)) if code.startswith("{name")]


@pytest.mark.parametrize(("family", "code"), INLINE, ids=lambda value: str(getattr(value, "name", value)))
def test_every_part_that_is_written_out_can_be_chosen(family: Family, code: str) -> None:
    family.choose(yaml.safe_load(code))


def test_files_to_start_from_are_there_and_all_of_them_are_named() -> None:
    table = PAGE[: PAGE.index("\n## ")]
    assert set(re.findall(r"`(\w+\.yaml)`", table)) == {path.name for path in (ROOT / "configs").glob("*.yaml")}
