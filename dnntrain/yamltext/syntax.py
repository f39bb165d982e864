"""The parser's events, and its complaints in the words of someone who writes YAML."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

import yaml
from yaml.events import Event

from dnntrain.errors import Mark, Problem, SpecError
from dnntrain.yamltext.page import Page

_QUOTE: Final = "put the text in quotes if the sign belongs to it"
_LEFT_OVER: Final = ("something is left over after the value", "quote the whole value, or start a new line")

# What the parser says (its context, then its problem), what that means to the writer of the file, and how to mend it.
# `{line}` and `{column}` are those of the context: where the thing began that could not be finished.
_MEANINGS: Final = [
    (r"character '\\t' that", "a tab stands where only spaces may", "replace it by spaces"),
    (r"character ('.+'|\".+\") that", r"plain text cannot start with \1", _QUOTE),
    (r"block end>, but found '[?-]'", "a list and a mapping cannot share a column", "indent the one below its key"),
    (r"block end>, but found ':'", "a key is missing before this ':'", "write 'key: value'"),
    (r"block end>, but found '([,\]}])'", r"a stray '\1'", "remove it, or quote the text"),
    (r"block end>", "this does not line up with what stands above", "start it in column {column}, like line {line}"),
    (r"expected ',' or '(.)', but", r"a ',' or '\1' is missing before this", "the bracket was opened in line {line}"),
    (r"double-quoted", r"'\\' starts an unknown escape", r"write '\\', or use single quotes"),
    (r"node content", "a value is missing before this", "remove this sign, or write the value; quote it if it is text"),
    (r"sequence entries", "a list cannot start here", "start it on the next line, or write [a, b]"),
    (r"mapping keys", "'?' has a meaning of its own here", _QUOTE),
    (r"scanning a block scalar", "a text block starts on the line after its '|' or '>'", _QUOTE),
    (r"directive|incompatible|stream end>", "this is not a directive of YAML", "remove the line, or quote the text"),
    (r"tag", "tags are not used here", "write the plain value"),
    (r"document start>", *_LEFT_OVER),
]
_GLUED: Final = re.compile(r"\s*(?:- )?(['\"]?[\w.-]+['\"]?):([^\s/\\:].*)")


def events(page: Page) -> Iterator[Event]:
    """Yield the parser's events.

    Raises:
        SpecError: the text is not YAML.
    """
    loader = yaml.SafeLoader(page.text)
    try:
        while loader.check_event():
            yield loader.get_event()  # type: ignore[no-untyped-call]
    except yaml.MarkedYAMLError as error:
        raise SpecError([_explain(page, error)]) from None
    except (ValueError, OverflowError):
        # PyYAML hands any number to chr() and int(), and lets them complain.
        at = loader.get_mark().index
        raise page.error("this number is too large here", at, at + 1, "characters end at \\U0010FFFF") from None
    finally:
        loader.dispose()


def span(event: Event) -> tuple[int, int]:
    """Return where an event starts and ends, counted in characters from 0."""
    start, end = event.start_mark, event.end_mark
    return (0 if start is None else start.index, 0 if end is None else end.index)


def _explain(page: Page, error: yaml.MarkedYAMLError) -> Problem:
    said = f"{error.context or ''}: {error.problem or ''}"
    begun = error.context_mark or error.problem_mark
    stopped = error.problem_mark or error.context_mark
    since = page.mark(begun.index if begun else 0, len(page.text))
    here = page.mark(stopped.index, stopped.index + 1) if stopped else since
    opening = since.text[since.column - 1 : since.column]
    first_on_its_line = not here.text[: here.column - 1].strip()
    if "scanning a quoted scalar" in said:
        return Problem("this quote is never closed", since, f"end the text with {opening}")
    if "but got '<stream end>'" in said:
        return Problem("this bracket is never closed", since, f"add the missing '{']' if opening == '[' else '}'}'")
    if "scanning an a" in said:
        return Problem(f"'{opening}' starts an alias or an anchor, and its name is missing", since, _QUOTE)
    if "could not find expected ':'" in said:
        return _glued(since) or Problem("a ':' is missing here", since, "write 'key: value'")
    if "mapping values" in said:
        return _unexpected_colon(page, here)
    if "block end>" in said and not first_on_its_line:
        return Problem(_LEFT_OVER[0], here, _LEFT_OVER[1])
    if "document start>', but found '<block" in said and first_on_its_line:
        hint = "start all keys in one column, and end a key with ':'"
        return Problem("this does not line up with what stands above", here, hint)
    for pattern, message, hint in _MEANINGS:
        found = re.search(pattern, said)
        if found:
            return Problem(found.expand(message), here, hint.format(line=since.line, column=since.column))
    return Problem(error.problem or "this cannot be read as YAML", here)


def _glued(line: Mark) -> Problem | None:
    """Find `key:value` in a line where `key: value` must have been meant."""
    found = _GLUED.fullmatch(line.text)
    if found is None:
        return None
    start, end = found.start(1), len(line.text.rstrip())
    mark = Mark(line.source, line.line, start + 1, end - start, line.text)
    return Problem("a space is missing after the colon", mark, f"write '{found[1]}: {found[2].rstrip()}'")


def _unexpected_colon(page: Page, here: Mark) -> Problem:
    """Explain a ':' that would start a mapping in the middle of a plain text."""
    if ":" in here.text[: here.column - 1]:
        hint = "start a new line, or quote the text if the ':' is part of it"
        return Problem("a second key on the same line", here, hint)
    above = page.line_above(here.line)
    if above is None:
        return Problem("a key is missing before this ':'", here, "write 'key: value'")
    hint = f"mend the indentation, or end line {above.line} with ':'"
    message = f"this line goes on with the text of line {above.line}, so it cannot hold a key"
    return _glued(above) or Problem(message, here, hint)
