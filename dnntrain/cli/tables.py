"""Tables in text that stay readable however narrow the terminal is."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Final, NamedTuple

from rich.cells import cell_len
from rich.console import Console
from rich.text import Text

from dnntrain.errors import visible

_GAP: Final = "  "
_INDENT: Final = "    "
_NARROWEST: Final = 12
"""No column of text is wrapped to less than this."""
_READABLE: Final = 40
"""A sentence in a narrower column is set below its row instead."""

_BREAKS: Final = re.compile(r"[^\s._/,=-]*[\s._/,=-]*")


class Cell(NamedTuple):
    """A cell with a style of its own, in Rich's words."""

    text: str
    style: str = ""


class _Column(NamedTuple):
    name: str
    right: bool
    prose: bool


_Part = tuple[str, str]
_Line = list[_Part]


class Table:
    """Rows under named columns.

    Where the rows do not fit a width, in this order: the last column, if it holds sentences, is wrapped in its place;
    it is set below each row; columns of text and long names of columns are wrapped; the columns are set in parts, one
    below the other, each with the first column at its front. Numbers are never broken.

    Control characters in cells are shown and have no effect, and markup is not read.

    Args:
        columns: their names; one that starts with '>' is set flush right, and '~', for the last one, holds sentences.
        title: stands above.
    """

    def __init__(self, *columns: str, title: str | None = None) -> None:
        self._columns = [
            _Column(visible(name[1:] if name[:1] in (">", "~") else name, keep=""), name[:1] == ">", name[:1] == "~")
            for name in columns
        ]
        self._title = title
        self._rows: list[list[Cell]] = []

    def add(self, *cells: str | Cell) -> None:
        """Add a row: a text or a `Cell` for each column.

        Raises:
            ValueError: there are more or fewer cells than columns.
        """
        if len(cells) != len(self._columns):
            raise ValueError(f"{len(cells)} cells for {len(self._columns)} columns")
        styled = (cell if isinstance(cell, Cell) else Cell(cell) for cell in cells)
        self._rows.append([Cell(visible(cell.text, keep=""), cell.style) for cell in styled])

    def __len__(self) -> int:
        """How many rows there are."""
        return len(self._rows)

    def print(self, out: Console) -> None:
        """Print the table as wide as a console is; where lines are never wrapped, as wide as it needs."""
        # One text for the whole: Rich takes longer for each thing that it prints than for what is in it.
        text = Text()
        for line in self._lines(None if out.soft_wrap else out.width):
            for part, style in line:
                text.append(part, style)
            text.append("\n")
        out.print(text, end="", soft_wrap=True)

    def text(self, width: int | None = None) -> str:
        """Return the table without any style.

        Args:
            width: of the longest line; as wide as it needs for None.
        """
        return "".join(f"{''.join(part for part, _ in line)}\n" for line in self._lines(width))

    def markdown(self) -> str:
        """Return the table as Markdown, under its title."""
        heads = [as_markdown(column.name) for column in self._columns]
        rules = ["--:" if column.right else "---" for column in self._columns]
        cells = [[as_markdown(cell.text) for cell in row] for row in self._rows]
        title = "" if self._title is None else f"### {self._title}\n\n"
        return title + "".join(f"| {' | '.join(row)} |\n" for row in (heads, rules, *cells))

    def _lines(self, width: int | None) -> Iterator[_Line]:
        if self._title is not None:
            yield [(self._title, "bold")]
        for line in self._body(width):
            # A style may underline, so that the spaces of a line's end are not to be printed.
            while line and not line[-1][0].rstrip():
                line.pop()
            yield [*line[:-1], (line[-1][0].rstrip(), line[-1][1])] if line else []

    def _body(self, width: int | None) -> Iterator[_Line]:
        every = range(len(self._columns))
        natural = {column: max(map(_width, self._texts(column))) for column in every}
        if width is None or _total(natural.values()) <= width:
            yield from self._grid(natural)
            return
        prose = self._columns[-1].prose
        left = {column: natural[column] for column in every[: -1 if prose else None]}
        if prose and (room := width - _total([*left.values(), 0])) >= _READABLE:
            yield from self._grid({**left, every[-1]: room})
            return
        parts = self._parts(left, width)
        for part in parts:
            if part is not parts[0]:
                yield []
            yield from self._grid(part, below=width if prose and part is parts[-1] else None)

    def _texts(self, column: int) -> Iterator[str]:
        yield self._columns[column].name
        yield from (row[column].text for row in self._rows)

    def _parts(self, widths: Mapping[int, int], width: int) -> list[dict[int, int]]:
        """Set columns beside each other as far as they fit, the first one at the front of each part."""
        first, *others = widths
        if (fitted := self._fitted(widths, width)) is not None or not others:
            return [fitted or dict(widths)]
        names = {first: min(widths[first], max(width // 3, _NARROWEST))}
        parts = [names]
        for column in others:
            more = {**parts[-1], column: widths[column]}
            if _total(more.values()) > width and (fitted := self._fitted(more, width)) is None and len(parts[-1]) > 1:
                parts.append({**names, column: widths[column]})
            else:
                parts[-1] = more
        return [self._fitted(part, width) or part for part in parts]

    def _fitted(self, widths: Mapping[int, int], width: int) -> dict[int, int] | None:
        """Narrow the widest columns until all fit; None if they cannot."""
        fitted = dict(widths)
        lowest = {column: self._lowest(column) for column in fitted}
        while _total(fitted.values()) > width:
            # Names of columns of numbers first: they are read once.
            wide = [(self._columns[c].right, fitted[c], c) for c in fitted if fitted[c] > lowest[c]]
            widest = max(wide)[-1] if wide else None
            if widest is None:
                return None
            fitted[widest] -= 1
        return fitted

    def _lowest(self, column: int) -> int:
        """Return how narrow a column may be: numbers are never broken, nor are the words of their names."""
        if not self._columns[column].right:
            return _NARROWEST
        name, *cells = self._texts(column)
        return max(map(_width, [*name.split(), *cells]))

    def _grid(self, widths: Mapping[int, int], *, below: int | None = None) -> Iterator[_Line]:
        """Yield a head and the rows; `below`: the last column stands below the others, in lines of this width."""
        yield from self._aligned([Cell(column.name, "bold") for column in self._columns], widths)
        for row in self._rows:
            yield from self._aligned(row, widths)
            if below is not None:
                for text in wrapped(row[-1].text, below - len(_INDENT)):
                    yield [(_INDENT, ""), (text, row[-1].style)]

    def _aligned(self, cells: Sequence[Cell], widths: Mapping[int, int]) -> Iterator[_Line]:
        """Yield the lines of one row, its cells wrapped to their columns."""
        texts = {column: wrapped(cells[column].text, width) for column, width in widths.items()}
        for number in range(max(map(len, texts.values()))):
            line: _Line = []
            for column, width in widths.items():
                text = texts[column][number] if number < len(texts[column]) else ""
                space = " " * (width - _width(text))
                right = self._columns[column].right
                line += [(space, ""), (text, cells[column].style)] if right else [(text, cells[column].style)]
                line.append((_GAP if right else space + _GAP, ""))
            yield line


def prose(out: Console, text: str) -> None:
    """Print a paragraph in lines as wide as a console is; control characters are shown and have no effect."""
    lines = [visible(text, keep="")] if out.soft_wrap else wrapped(visible(text, keep=""), out.width)
    out.print(Text("\n".join(lines)), soft_wrap=True)


def as_markdown(text: str) -> str:
    """Write a text so that Markdown shows it: it ends no cell and is no HTML."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace("|", "\\|")


def wrapped(text: str, width: int) -> list[str]:
    """Break a text into lines: after spaces, and where that is not enough, after dots and the like, or anywhere.

    Args:
        text: one line.
        width: of the longest line, in cells of the terminal; at least 1.
    """
    if _width(text) <= width:
        return [text]
    lines, line = [], ""
    for word in re.findall(r"\s*\S+", text):
        if _width(line + word) <= width:
            line += word
            continue
        word = word.lstrip()
        if line and _width(word) <= width:
            lines.append(line)
            line = word
            continue
        start = f"{line} " if line else ""
        for piece in _BREAKS.findall(word):
            while _width(start + piece) > width:
                if start.strip():
                    lines.append(start.rstrip())
                    start = ""
                else:
                    head = _first(piece, width)
                    lines.append(head)
                    piece = piece[len(head) :]
            start += piece
        line = start
    return [*lines, line] if line else lines


def _first(text: str, width: int) -> str:
    """Return as much of a text's beginning as fits, but a character at least."""
    taken = 1
    while taken < len(text) and _width(text[: taken + 1]) <= width:
        taken += 1
    return text[:taken]


def _width(text: str) -> int:
    return len(text) if text.isascii() else cell_len(text)


def _total(widths: Collection[int]) -> int:
    return sum(widths) + len(_GAP) * (len(widths) - 1)
