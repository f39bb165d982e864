from __future__ import annotations

import io

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.console import Console

from dnntrain.cli.tables import Cell, Table, wrapped

LINES = st.text(st.characters(codec="utf-8", exclude_categories=("C", "Zl", "Zp", "Mn", "Me")), max_size=60)


def table() -> Table:
    made = Table("group", ">seeds", ">valid/loss", "~beside the baseline", title="quality")
    made.add("swish", "3", "1.507", "baseline")
    made.add("batch norm", "12", "1.409", "better by 0.0978 (95 % interval 0.04 to 0.15, p 0.01, paired by 3 seeds)")
    return made


def test_what_fits_is_set_in_columns() -> None:
    assert table().text() == (
        "quality\n"
        "group       seeds  valid/loss  beside the baseline\n"
        "swish           3       1.507  baseline\n"
        "batch norm     12       1.409  better by 0.0978 (95 % interval 0.04 to 0.15, p 0.01, paired by 3 seeds)\n"
    )


def test_sentences_are_wrapped_in_their_column_while_there_is_room() -> None:
    assert table().text(75).splitlines()[3:] == [
        "batch norm     12       1.409  better by 0.0978 (95 % interval 0.04 to",
        "                               0.15, p 0.01, paired by 3 seeds)",
    ]


def test_sentences_stand_below_their_row_where_there_is_none() -> None:
    assert table().text(50).splitlines()[1:] == [
        "group       seeds  valid/loss",
        "swish           3       1.507",
        "    baseline",
        "batch norm     12       1.409",
        "    better by 0.0978 (95 % interval 0.04 to 0.15,",
        "    p 0.01, paired by 3 seeds)",
    ]


def test_names_of_numbers_are_wrapped_before_texts() -> None:
    made = Table("key", ">epochs to valid/loss 1.5", "value")
    made.add("model.activation", "12", "swish")
    assert made.text(40).splitlines() == [
        "key                     epochs to  value",
        "                   valid/loss 1.5",
        "model.activation               12  swish",
    ]
    assert made.text(36).splitlines() == [
        "key                 epochs to  value",
        "                   valid/loss",
        "                          1.5",
        "model.activation           12  swish",
    ]
    assert made.text(31).splitlines() == [
        "key            epochs to  value",
        "              valid/loss",
        "                     1.5",
        "model.                12  swish",
        "activation",
    ]


def test_columns_that_do_not_fit_go_on_below() -> None:
    made = Table("key", ">first", ">second", ">third")
    made.add("a", "1111111111", "2222222222", "3333333333")
    made.add("b", "1", "2", "3")
    assert made.text(27) == (
        "key       first      second\n"
        "a    1111111111  2222222222\n"
        "b             1           2\n"
        "\n"
        "key       third\n"
        "a    3333333333\n"
        "b             3\n"
    )


def test_a_row_has_a_cell_for_each_column() -> None:
    with pytest.raises(ValueError, match="1 cells for 4 columns"):
        table().add("alone")


def test_markdown_keeps_every_cell_in_its_column() -> None:
    made = Table("a|b", ">c", title="t")
    made.add("x|y", "1")
    assert made.markdown() == "### t\n\n| a\\|b | c |\n| --- | --: |\n| x\\|y | 1 |\n"


def test_nothing_in_a_cell_has_an_effect() -> None:
    out = io.StringIO()
    made = Table("[bold]name")
    made.add("[red]x[/red] :smile: \x1b[31mred\nline")
    made.print(Console(file=out, force_terminal=True, color_system="standard", width=80))
    assert "[red]x[/red] :smile: \\x1b[31mred\\nline" in out.getvalue()
    assert "[bold]name" in out.getvalue()


def test_styles_are_for_terminals_with_colour() -> None:
    made = Table("verdict")
    made.add(Cell("better", "green"))
    for color, expected in (("standard", "\x1b[32mbetter\x1b[0m\n"), (None, "better\n")):
        out = io.StringIO()
        made.print(Console(file=out, force_terminal=True, color_system=color, width=80))
        assert out.getvalue().endswith(expected)


@given(LINES, st.integers(1, 30))
@example("a-very-long.name_of/something with words", 7)
@example("漢字漢字漢字", 3)
def test_wrapping_loses_nothing_but_spaces(text: str, width: int) -> None:
    lines = wrapped(text, width)
    assert "".join("".join(lines).split()) == "".join(text.split())
    widest = max(2, width)  # of a character alone
    assert all(cell_len(line) <= max(width, widest) for line in lines)
    if len(lines) > 1:
        assert not any(line != line.rstrip() for line in lines[:-1])


@given(st.lists(st.lists(st.text("ab 漢.", max_size=30), min_size=4, max_size=4), max_size=4), st.integers(30, 200))
def test_every_word_is_shown_within_the_width(rows: list[list[str]], width: int) -> None:
    made = Table("one", ">two", "three", "~four")
    for row in rows:
        made.add(row[0], str(len(row[1])), row[2], row[3])
    text = made.text(width)
    assert all(cell_len(line) <= width for line in text.splitlines())
    shown = sorted("".join(text.split()))
    for letter in "ab漢":
        told = sum(cell.count(letter) for row in rows for cell in (row[0], row[2], row[3]))
        assert shown.count(letter) >= told
