"""From events to plain values: tree, anchors, aliases, merge keys, marks.

The tree is built from the event stream, not by PyYAML's constructor, so that nesting and aliases can be limited and
every value keeps its place.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from yaml.events import (
    AliasEvent,
    CollectionEndEvent,
    CollectionStartEvent,
    DocumentStartEvent,
    MappingStartEvent,
    NodeEvent,
    ScalarEvent,
)

from dnntrain.errors import Mark, Problem, SpecError
from dnntrain.yamltext.core import resolve
from dnntrain.yamltext.page import Page
from dnntrain.yamltext.syntax import events, span

MAX_DEPTH: Final = 50
MAX_EXPANDED: Final = 10_000

KeyPath = tuple[str | int, ...]

_MERGE: Final = "<<"
_SURROGATE: Final = re.compile("[\ud800-\udfff]")
_PROPERTY: Final = re.compile(r"[&!]\S*(?:\s+(?:#[^\n]*\n\s*)*|$)")
_TAG: Final = re.compile(r"!(?:<[^>\s]*>|[^\s,\[\]{}]*)")


class Text(str):
    """A string read from a file.

    Attributes:
        folder: the folder of that file, where a relative path written in it starts.
    """

    folder: Path

    def __new__(cls, text: str = "", folder: Path = Path()) -> Text:
        """Make a text; the program's own strings start at the current folder."""
        made = super().__new__(cls, text)
        made.folder = folder
        return made


@dataclass(frozen=True)
class Marks:
    """Where a value stands, and its key if it has one."""

    value: Mark
    key: Mark | None


@dataclass(frozen=True)
class Document:
    """What a YAML text says.

    Attributes:
        value: mappings, lists, `Text`, numbers, booleans and None.
        marks: the place of every node by its keys from the root, which is `()`. A value that came by an alias is
            marked at the alias, and what lies inside it, or came by a merge key, where it was written.
        problems: the mistakes that did not stop the reader. `value` is its best guess then.
    """

    value: Any
    marks: dict[KeyPath, Marks]
    problems: tuple[Problem, ...]


def read(text: str | bytes, /, *, source: str, folder: Path) -> Document:
    """Read one YAML document of any kind; an empty text is None.

    Args:
        text: the file's content.
        source: the name to print in messages, usually the path as the user gave it.
        folder: where relative paths in this text start.

    Raises:
        SpecError: the text cannot be read as YAML, nests too deeply or is too big.
    """
    composer = _Composer(Page.decode(text, source))
    root = composer.compose()
    builder = _Builder(folder)
    value = builder.build(root, (), None)
    return Document(value, builder.marks, tuple(composer.problems))


@dataclass
class _Scalar:
    value: Any
    written: str
    mark: Mark
    merges: bool = False


@dataclass
class _Sequence:
    items: list[_Node]
    mark: Mark


@dataclass
class _Entry:
    key: Mark
    node: _Node
    merge: Mark | None = None


@dataclass
class _Mapping:
    entries: dict[str, _Entry]
    mark: Mark


@dataclass
class _Alias:
    target: _Scalar | _Sequence | _Mapping
    mark: Mark


_Node = _Scalar | _Sequence | _Mapping | _Alias


@dataclass
class _Open:
    """A collection whose end has not come yet; in a mapping, keys and values take turns."""

    event: CollectionStartEvent
    children: list[_Node] = field(default_factory=list)


class _Budget:
    """Counts the values that aliases and merge keys bring in again, and refuses too many of them."""

    def __init__(self) -> None:
        self._spent = 0

    def spend(self, count: int, mark: Mark) -> None:
        self._spent += count
        if self._spent > MAX_EXPANDED:
            message = f"aliases repeat more than {MAX_EXPANDED:,} values"
            raise SpecError([Problem(message, mark, "write the values out, or nest fewer aliases")])


class _Composer:
    """Turns the event stream into a tree in which aliases are still links."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self.problems: list[Problem] = []
        self._budget = _Budget()
        self._open: list[_Open] = []
        self._anchors: dict[str, _Scalar | _Sequence | _Mapping | None] = {}

    def compose(self) -> _Node:
        root: _Node | None = None
        for event in events(self.page):
            node: _Node
            if isinstance(event, DocumentStartEvent):
                if root is not None:
                    message, hint = "a second document starts here", "keep one document: remove this line"
                    raise self.page.error(message, *span(event), hint)
                continue
            if isinstance(event, CollectionStartEvent):
                self._begin(event)
                continue
            if isinstance(event, AliasEvent):
                node = self._alias(event)
            elif isinstance(event, ScalarEvent):
                node = self._scalar(event)
            elif isinstance(event, CollectionEndEvent):
                node = self._end(event)
            else:
                continue
            if self._open:
                self._open[-1].children.append(node)
            else:
                root = node
        return _Scalar(None, "", self.page.mark(0, 0)) if root is None else root

    def _begin(self, event: CollectionStartEvent) -> None:
        if len(self._open) >= MAX_DEPTH:
            message = f"more than {MAX_DEPTH} levels of nesting"
            raise self.page.error(message, *span(event), "is a bracket left open?")
        self._refuse_tag(event)
        if event.anchor:
            self._anchors[event.anchor] = None
        self._open.append(_Open(event))

    def _end(self, end: CollectionEndEvent) -> _Sequence | _Mapping:
        opened = self._open.pop()
        event = opened.event
        # The parser starts a collection at its anchor, if it has one; its own first character is wanted.
        start, opened_by = span(event)
        if event.anchor or event.tag:
            start = opened_by if event.flow_style is False else opened_by - 1
        # The lines of a block collection hold its children, so only its first character stands for it.
        mark = self.page.mark(start, span(end)[1] if event.flow_style else start + 1)
        node: _Sequence | _Mapping
        if isinstance(event, MappingStartEvent):
            node = _Mapping(self._entries(opened.children), mark)
        else:
            node = _Sequence(opened.children, mark)
        if event.anchor:
            self._anchors[event.anchor] = node
        return node

    def _alias(self, event: AliasEvent) -> _Alias:
        start, end = span(event)
        if event.anchor not in self._anchors:
            hint = f"write '&{event.anchor}' before a value above, or quote the text if no alias is meant"
            raise self.page.error(f"unknown alias '*{event.anchor}'", start, end, hint)
        target = self._anchors[event.anchor]
        if target is None:
            hint = "an alias can only stand after the value that it names"
            raise self.page.error(f"'*{event.anchor}' would contain itself", start, end, hint)
        return _Alias(target, self.page.mark(start, end))

    def _scalar(self, event: ScalarEvent) -> _Scalar:
        self._refuse_tag(event)
        start, end = span(event)
        if event.anchor or event.tag:
            while start < end and (found := _PROPERTY.match(self.page.text, start, end)):
                start = found.end()
        mark = self.page.mark(start, end)
        plain = event.style is None
        node = _Scalar(self._resolve(event.value, mark) if plain else event.value, event.value, mark)
        node.merges = plain and event.value == _MERGE
        if isinstance(node.value, str) and _SURROGATE.search(node.value):
            node.value = node.written = self._join_surrogates(node.value, mark)
        if event.anchor:
            self._anchors[event.anchor] = node
        return node

    def _resolve(self, text: str, mark: Mark) -> None | bool | int | float | str:
        try:
            return resolve(text)
        except ValueError:
            self.problems.append(Problem("this integer has too many digits", mark, "quote it if it is text"))
            return text

    def _join_surrogates(self, text: str, mark: Mark) -> str:
        """Join the halves that JSON writes for a character beyond U+FFFF."""
        try:
            return text.encode("utf-16-le", errors="surrogatepass").decode("utf-16-le")
        except UnicodeDecodeError:
            hint = "write the character itself, or \\U and its eight digits"
            self.problems.append(Problem("this text holds half of a surrogate pair", mark, hint))
            return _SURROGATE.sub("\ufffd", text)

    def _refuse_tag(self, event: NodeEvent) -> None:
        if getattr(event, "tag", None) is None:
            return
        start, end = span(event)
        if found := _TAG.search(self.page.text, start):
            start, end = found.span()
        message = f"tags are not used here: {self.page.text[start:end]}"
        self.problems.append(Problem(message, self.page.mark(start, end), "write the plain value"))

    def _entries(self, children: list[_Node]) -> dict[str, _Entry]:
        entries: dict[str, _Entry] = {}
        merges: list[_Node] = []
        merge_key: Mark | None = None
        for key_node, node in zip(children[::2], children[1::2], strict=True):
            mark = key_node.mark
            key = key_node.target if isinstance(key_node, _Alias) else key_node
            if not isinstance(key, _Scalar):
                self.problems.append(Problem("a key must be text", mark, "use a single word as the key"))
            elif key.merges and merge_key is not None:
                hint = f"first in line {merge_key.line}; merge several with '<<: [*a, *b]'"
                self.problems.append(Problem("key '<<' given twice", mark, hint))
            elif key.merges:
                merge_key = mark
                merges = node.items if isinstance(node, _Sequence) else [node]
            elif key.written in entries:
                hint = f"first in line {entries[key.written].key.line}; remove one of them"
                self.problems.append(Problem(f"key '{key.written}' given twice", mark, hint))
            else:
                if not isinstance(key.value, str):
                    message = f"a key must be text, and {key.written or 'nothing'} is not"
                    hint = f'write "{key.written}" in quotes' if key.written else "write a word before the ':'"
                    self.problems.append(Problem(message, mark, hint))
                entries[key.written] = _Entry(mark, node)
        for source in merges:
            self._merge(entries, source)
        return entries

    def _merge(self, entries: dict[str, _Entry], source: _Node) -> None:
        mapping = source.target if isinstance(source, _Alias) else source
        if not isinstance(mapping, _Mapping):
            hint = "write '<<: *name' or '<<: [*a, *b]'"
            self.problems.append(Problem("'<<' takes a mapping, or a list of mappings", source.mark, hint))
            return
        self._budget.spend(len(mapping.entries), source.mark)
        for name, entry in mapping.entries.items():
            entries.setdefault(name, _Entry(entry.key, entry.node, merge=source.mark))


class _Builder:
    """Follows the aliases of a composed tree and makes plain values of it."""

    def __init__(self, folder: Path) -> None:
        self.marks: dict[KeyPath, Marks] = {}
        self._folder = folder
        self._budget = _Budget()

    def build(self, node: _Node, path: KeyPath, key: Mark | None, alias: Mark | None = None) -> Any:
        """Build one node and all below it; `alias` is where an alias or a merge key has led here."""
        self.marks[path] = Marks(node.mark, key)
        if isinstance(node, _Alias):
            alias = alias or node.mark
            node = node.target
        if alias is not None:
            self._budget.spend(1, alias)
        if isinstance(node, _Scalar):
            return Text(node.value, self._folder) if isinstance(node.value, str) else node.value
        if len(path) >= MAX_DEPTH:
            problem = Problem(f"more than {MAX_DEPTH} levels of nesting", alias or node.mark, "nest fewer aliases")
            raise SpecError([problem])
        if isinstance(node, _Sequence):
            return [self.build(item, (*path, i), None, alias) for i, item in enumerate(node.items)]
        return {
            name: self.build(entry.node, (*path, name), entry.key, alias or entry.merge)
            for name, entry in node.entries.items()
        }
