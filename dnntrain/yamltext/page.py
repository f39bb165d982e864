"""A text as its reader sees it: characters, lines, and the places in it that messages point at."""

from __future__ import annotations

import bisect
import codecs
import re
from typing import Final

from dnntrain.errors import Mark, Problem, SpecError

MAX_CHARACTERS: Final = 1_000_000

# YAML 1.1 breaks lines at U+0085, U+2028 and U+2029 and YAML 1.2 does not, so they are refused unless escaped.
_UNPRINTABLE: Final = re.compile("[^\t\n -~\xa0-\u2027\u202a-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


class Page:
    """A text with its lines, and the name that messages print for it.

    Args:
        text: the content, with line feeds alone as line ends.
        source: the name, usually the path as the user gave it.
    """

    def __init__(self, text: str, source: str) -> None:
        self.text = text
        self.source = source
        self._lines = text.split("\n")
        self._starts = [0]
        for line in self._lines[:-1]:
            self._starts.append(self._starts[-1] + len(line) + 1)

    @classmethod
    def decode(cls, text: str | bytes, source: str) -> Page:
        """Make a page of a file's content: UTF-8, or UTF-16 with its byte order mark, and any line ends.

        Raises:
            SpecError: it has another encoding, characters that cannot be shown, or too many of them.
        """
        page = cls(_characters(text, source), source)
        if len(page.text) > MAX_CHARACTERS:
            message = f"this text has {len(page.text):,} characters; the limit is {MAX_CHARACTERS:,}"
            raise page.error(message, 0, 1, "an experiment file holds settings, not data")
        found = _UNPRINTABLE.search(page.text)
        if found:
            code = ord(found.group())
            hint = f'remove it, or write it as "\\u{code:04x}" in double quotes'
            raise page.error(f"the character U+{code:04X} cannot be shown", found.start(), found.end(), hint)
        return page

    def mark(self, start: int, end: int) -> Mark:
        """Mark the characters from `start` up to `end`, as far as they stand on the first line."""
        line = bisect.bisect_right(self._starts, start) - 1
        column = start - self._starts[line]
        shown = self._lines[line][column : end - self._starts[line]].rstrip()
        return Mark(self.source, line + 1, column + 1, max(1, len(shown)), self._lines[line])

    def line_above(self, line: int) -> Mark | None:
        """Mark the nearest line above that holds more than a comment."""
        for number in range(line - 1, 0, -1):
            text = self._lines[number - 1]
            if text.strip() and not text.lstrip().startswith("#"):
                return Mark(self.source, number, 1, len(text), text)
        return None

    def error(self, message: str, start: int, end: int, hint: str = "") -> SpecError:
        """Make the error that points at the characters from `start` up to `end`."""
        return SpecError([Problem(message, self.mark(start, end), hint)])


def _characters(text: str | bytes, source: str) -> str:
    if isinstance(text, bytes):
        utf16 = text.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
        text = _decoded(text, "utf-16" if utf16 else "utf-8", source)
    return text.removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n")


def _decoded(raw: bytes, encoding: str, source: str) -> str:
    try:
        return raw.decode(encoding)
    except UnicodeDecodeError as error:
        page = Page(raw.decode(encoding, errors="replace"), source)
        at = len(raw[: error.start].decode(encoding, errors="replace"))
        message = f"this byte is not {encoding.upper()}: 0x{raw[error.start]:02x}"
        raise page.error(message, at, at + 1, "save the file as UTF-8") from None
