"""Values changed in the text of an experiment file; comments, order and layout of all else stay as they are."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from yaml.events import (
    AliasEvent,
    CollectionEndEvent,
    DocumentEndEvent,
    DocumentStartEvent,
    Event,
    MappingStartEvent,
    ScalarEvent,
    SequenceStartEvent,
    StreamEndEvent,
    StreamStartEvent,
)

from dnntrain import yamltext
from dnntrain.errors import Mark, SpecError, StoreError, UsageError
from dnntrain.spec.forms import flow
from dnntrain.spec.merge import from_tree, put, to_tree
from dnntrain.store import write_atomic
from dnntrain.yamltext.page import Page
from dnntrain.yamltext.syntax import events, span

_BOM = "\ufeff"


def set_value(text: str, key: str, value: Any, /, *, source: str = "<text>") -> str:
    """Return the text of an experiment file with one value set, as `--set` would set it.

    A value that is there is replaced; a key that is not is added at the end of its section; what was written in a short
    form is written out (`optimizer: adam` becomes `optimizer: {name: adam, lr: 0.01}`).

    Args:
        text: an experiment file.
        key: a dotted path, such as `optimizer.lr`; a number is an entry of a list.
        value: a plain value.
        source: what messages call the text.

    Raises:
        SpecError: the text cannot be read.
        UsageError: the value is not written in this text alone (it comes from a file that this one extends, from an
            anchor or a merge key), or there is no place for it.
    """
    body = text.removeprefix(_BOM)
    lines_end = "\r\n" if "\r\n" in body else "\n"
    editor = _Editor(body.replace("\r\n", "\n"), key, value, source)
    return text[: len(text) - len(body)] + editor.edited().replace("\n", lines_end)


def set_values_in_file(path: Path, values: Mapping[str, Any]) -> None:
    """Set values in an experiment file, each by its key; see `set_value`. All of them are set, or none.

    Raises:
        UsageError: the file cannot be read or written, or one of the values cannot be set.
    """
    try:
        with path.open(encoding="utf-8", newline="") as file:
            text = file.read()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"cannot read {path}: {error}") from error
    for key, value in values.items():
        text = set_value(text, key, value, source=str(path))
    try:
        write_atomic(path, lambda file: file.write(text.encode()))
    except StoreError as error:
        raise UsageError(str(error)) from error


@dataclass
class _Written:
    """A node of the text.

    Attributes:
        start: position of its first character.
        end: position after its last one; where nothing is written, the same as `start`.
        event: what begins it.
        children: entries of a list; in a mapping, keys and values in turns.
    """

    start: int
    end: int
    event: Event
    children: list[_Written] = field(default_factory=list)

    @property
    def is_flow(self) -> bool:
        """Whether it is a collection within brackets."""
        return bool(getattr(self.event, "flow_style", False))

    def entry(self, key: str) -> _Written | None:
        """Return the value of a key."""
        pairs = zip(self.children[::2], self.children[1::2], strict=True)
        return next((value for name, value in pairs if getattr(name.event, "value", None) == key), None)


class _Editor:
    """Changes one value of a text.

    Args:
        text: an experiment file, with line feeds alone as line ends.
        key: the dotted path.
        value: what to set.
        source: what messages call the text.
    """

    def __init__(self, text: str, key: str, value: Any, source: str) -> None:
        self._text = text
        self._key = key
        self._keys = key.split(".")
        self._value = value
        self._source = source
        self._page = Page(text, source)

    def edited(self) -> str:
        """Return the changed text."""
        if not all(self._keys):
            raise UsageError(f"'{self._key}' is no key; write it like optimizer.lr")
        document = yamltext.read(self._text, source=self._source, folder=Path())
        if document.problems:
            raise SpecError(document.problems)
        wanted = self._wanted(document)
        root = _tree(events(self._page), self._text)
        if root is None or root.start == root.end:
            head = self._text if not self._text or self._text.endswith("\n") else self._text + "\n"
            attempts = iter([f"{head}{self._keys[0]}: {flow(wanted[self._keys[0]])}\n"])
        else:
            attempts = self._attempts(root, document.value, wanted)
        for attempt in attempts:
            if self._says(attempt, wanted):
                return attempt
        raise UsageError(f"{self._source}: {self._key} cannot be changed here without touching more; edit it by hand")

    def _wanted(self, document: yamltext.Document) -> Any:
        """Return what the file is to say."""
        given = to_tree(yamltext.read(yamltext.dump(self._value), source=self._source, folder=Path()))
        mark = Mark(self._source, 1, 1, len(self._key), self._key)
        try:
            return from_tree(put(to_tree(document), self._keys, replace(given, key=mark)))[0]
        except SpecError as error:
            problem = error.problems[0]
            raise UsageError(f"{self._source}: cannot set {self._key}: {problem.message}; {problem.hint}") from None

    def _says(self, text: str, wanted: Any) -> bool:
        try:
            document = yamltext.read(text, source=self._source, folder=Path())
        except SpecError:
            return False
        return not document.problems and document.value == wanted

    def _attempts(self, root: _Written, there: Any, wanted: Any) -> Iterator[str]:
        """Yield texts that may say what is wanted, the least change first."""
        node, trail = root, [(root, wanted)]
        for depth, key in enumerate(self._keys):
            self._refuse_shared(node, depth)
            below = self._below(node, key, wanted)
            if below is None:
                break
            node, there, wanted = below, _inside(there, key), _inside(wanted, key)
            trail.append((node, wanted))
        else:
            self._refuse_shared(node, len(self._keys))
        if len(trail) <= len(self._keys) and isinstance(node.event, MappingStartEvent) and isinstance(wanted, dict):
            key = self._keys[len(trail) - 1]
            self._refuse_inherited(node, there, key, depth=len(trail) - 1)
            yield self._added(node, key, wanted[key])
        elif node is not root and (len(trail) > len(self._keys) or node.is_flow or not node.children):
            yield self._replaced(node, wanted)
        # Options that exclude each other, or that another part has not, must go; within brackets no comment goes too.
        yield from (self._replaced(node, wanted) for node, wanted in trail[:0:-1] if node.is_flow)

    def _below(self, node: _Written, key: str, wanted: Any) -> _Written | None:
        """Return the node that is written at a key; None where there is none, or another kind of value is wanted."""
        if isinstance(node.event, MappingStartEvent) and isinstance(wanted, dict):
            return node.entry(key)
        if isinstance(node.event, SequenceStartEvent) and isinstance(wanted, list):
            return node.children[int(key)]
        return None

    def _replaced(self, node: _Written, wanted: Any) -> str:
        """Write another value in the place of a node; a space parts it from its key where nothing was written."""
        before = self._text[: node.start] + (" " if node.start == node.end else "")
        return before + flow(wanted) + self._text[node.end :]

    def _added(self, mapping: _Written, key: str, wanted: Any) -> str:
        """Add an entry at the end of a mapping."""
        entry = f"{flow(key)}: {flow(wanted)}"
        if mapping.is_flow:
            at = mapping.children[-1].end if mapping.children else mapping.start + 1
            return self._text[:at] + (", " if mapping.children else "") + entry + self._text[at:]
        at = self._text.find("\n", mapping.end)
        at = len(self._text) if at < 0 else at
        indent = " " * (self._page.mark(mapping.start, mapping.start).column - 1)
        return f"{self._text[:at]}\n{indent}{entry}{self._text[at:]}"

    def _refuse_shared(self, node: _Written, depth: int) -> None:
        """Refuse to change what an anchor or an alias shares with other places of the file."""
        anchor = getattr(node.event, "anchor", None)
        if anchor is None:
            return
        path = ".".join(self._keys[:depth]) or "the file"
        mark = self._page.mark(node.start, node.end)
        if isinstance(node.event, AliasEvent):
            raise UsageError(f"{mark}: {path} comes from the anchor '&{anchor}'; change {self._key} there, by hand")
        raise UsageError(
            f"{mark}: {path} is shared with other places by the anchor '&{anchor}'; change {self._key} by hand"
        )

    def _refuse_inherited(self, mapping: _Written, there: Any, key: str, depth: int) -> None:
        """Refuse to add a key that has its value from elsewhere."""
        path = ".".join([*self._keys[:depth], key])
        mark = self._page.mark(mapping.start, mapping.end)
        if isinstance(there, dict) and key in there:
            raise UsageError(f"{mark}: {path} comes from a merge key '<<'; change {self._key} there, by hand")
        if depth == 0 and isinstance(there, dict) and "extends" in there:
            below: Any = self._value
            for name in reversed(self._keys[1:]):
                below = {name: below}
            raise UsageError(
                f"{self._source} says nothing of {path}, which may come from {there['extends']}; change it there, or "
                f"write '{path}: {flow(below)}' here"
            )


def _inside(value: Any, key: str) -> Any:
    """Return what a plain value holds at a key or an index; None where that is not there."""
    if isinstance(value, list):
        return value[int(key)] if key.isdecimal() and int(key) < len(value) else None
    return value.get(key) if isinstance(value, dict) else None


def _tree(stream: Iterator[Event], text: str) -> _Written | None:
    """Build the nodes of a text that holds one document; None where it holds none."""
    open_nodes: list[_Written] = []
    root: _Written | None = None
    for event in stream:
        if isinstance(event, StreamStartEvent | StreamEndEvent | DocumentStartEvent | DocumentEndEvent):
            continue
        start, end = span(event)
        if isinstance(event, CollectionEndEvent):
            closed = open_nodes.pop()
            # A block collection ends with its last entry; the parser ends it where the next thing begins.
            closed.end = end if closed.is_flow else closed.children[-1].end
            continue
        # So it does a text block.
        written = text[start:end].rstrip() if isinstance(event, ScalarEvent) else text[start:end]
        node = _Written(start, start + len(written), event)
        if open_nodes:
            open_nodes[-1].children.append(node)
        else:
            root = node
        if isinstance(event, MappingStartEvent | SequenceStartEvent):
            open_nodes.append(node)
    return root
