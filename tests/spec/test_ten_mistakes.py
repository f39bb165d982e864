"""One file with ten different mistakes, each located, all in one report."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from dnntrain import spec
from dnntrain.cli import app
from dnntrain.errors import SpecError

TEXT = """\
# Ten mistakes, no two of a kind.
name: ten
seed: !!int 3
sede: 4
data:
  batch_size: "32"
  validation: none
model:
  architecture: {name: mlp, hidden: [64, wide]}
  activation: sellu
  normalization: {name: batch, momentun: 0.1}
  dropout: {name: alpha, rate: -0.1}
training:
  epochs: 10
  epochs: 20
  monitor: valid/loss
"""

EXPECTED = [
    (3, 7, "tags are not used here: !!int"),
    (4, 1, "unknown key 'sede'"),
    (5, 1, "missing required key 'data.dataset'"),
    (6, 15, "'batch_size' must be a whole number, not the text '32'"),
    (9, 42, "entry 1 of 'hidden' must be a whole number, not the text 'wide'"),
    (10, 15, "unknown activation 'sellu'"),
    (11, 32, "unknown key 'momentun'"),
    (12, 32, "'rate' must be at least 0, not -0.1"),
    (15, 3, "key 'epochs' given twice"),
    (16, 12, "valid/loss is monitored, but data.validation is none"),
]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    file = tmp_path / "ten.yaml"
    file.write_text(TEXT)
    return file


def test_all_are_told_in_one_error_in_the_order_of_the_text(path: Path) -> None:
    with pytest.raises(SpecError) as caught:
        spec.load(path)
    found = [(each.mark.line, each.mark.column, each.message) for each in caught.value.problems if each.mark]
    assert found == EXPECTED
    assert caught.value.exit_code == 2
    for problem, line in zip(caught.value.problems, [3, 4, 5, 6, 9, 10, 11, 12, 15, 16], strict=True):
        assert problem.mark is not None
        assert problem.mark.text == TEXT.splitlines()[line - 1]
        assert problem.mark.source == str(path)
    assert str(caught.value).count("\n") == 10 * 3 - 1


def test_the_command_prints_them_on_stderr_and_exits_with_2(path: Path) -> None:
    done = CliRunner().invoke(app, ["validate", str(path)])
    assert done.exit_code == 2
    assert done.stdout == ""
    assert [line for line in done.stderr.splitlines() if line.startswith(str(path))] == [
        f"{path}:{line}:{column}: {message}" for line, column, message in EXPECTED
    ]


@pytest.mark.parametrize("left_out", range(len(TEXT.splitlines())))
def test_no_mistake_depends_on_another(left_out: int) -> None:
    """With any one line gone, what is left is told as before."""
    lines = TEXT.splitlines()
    told_before = {message for line, _, message in EXPECTED if line != left_out + 1}
    without = [*lines[:left_out], "#", *lines[left_out + 1 :]]
    with pytest.raises(SpecError) as caught:
        spec.loads("\n".join(without))
    told = {each.message for each in caught.value.problems}
    # Some lines hold a section together, or are one half of a combination or of a pair.
    section, half = lines[left_out].endswith(":"), left_out + 1 in (7, 14)
    assert told_before <= told or section or half
