"""Experiment files put together: `extends`, `--set`, and the marks that remember where each value came from.

A mapping without a `name`, or with the same one, is merged into what is there; another `name` replaces the part with
its options. `selu` and `{name: selu}` are the same part. Lists are replaced, or addressed by index.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from dnntrain.errors import Mark, Problem, SpecError
from dnntrain.yamltext import Document, KeyPath, Marks

Content = Any  # dict[str, Node] | list[Node] | a scalar


@dataclass(frozen=True)
class Node:
    """A value, the place of its key and its own."""

    content: Content
    mark: Mark
    key: Mark | None = None

    @property
    def name(self) -> str | None:
        """The part that this node names: `selu`, or the `name` of a mapping."""
        if isinstance(self.content, str):
            return self.content
        if isinstance(self.content, dict) and "name" in self.content:
            name = self.content["name"].content
            return name if isinstance(name, str) else None
        return None


def to_tree(document: Document) -> Node:
    """Turn a document into nodes."""

    def convert(value: Any, path: KeyPath) -> Node:
        marks = document.marks[path]
        if isinstance(value, dict):
            value = {key: convert(item, (*path, key)) for key, item in value.items()}
        elif isinstance(value, list):
            value = [convert(item, (*path, i)) for i, item in enumerate(value)]
        return Node(value, marks.value, marks.key)

    return convert(document.value, ())


def from_tree(node: Node) -> tuple[Any, dict[KeyPath, Marks]]:
    """Turn nodes into plain values and their marks."""
    marks: dict[KeyPath, Marks] = {}

    def convert(node: Node, path: KeyPath) -> Any:
        marks[path] = Marks(value=node.mark, key=node.key)
        if isinstance(node.content, dict):
            return {key: convert(item, (*path, key)) for key, item in node.content.items()}
        if isinstance(node.content, list):
            return [convert(item, (*path, i)) for i, item in enumerate(node.content)]
        return node.content

    return convert(node, ()), marks


def merge(base: Node, over: Node, *, root: bool = True) -> Node:
    """Lay one file over another.

    Args:
        base: what is there.
        over: what has the last word.
        root: whether these are whole files, whose `name` names the experiment and not a part.
    """
    if isinstance(over.content, dict):
        below = _promoted(base) if not root else base
        same = root or "name" not in over.content or over.name == below.name
        if isinstance(below.content, dict) and same:
            merged = dict(below.content)
            for key, item in over.content.items():
                merged[key] = merge(merged[key], item, root=False) if key in merged else item
            return Node(merged, over.mark, over.key or base.key)
    elif isinstance(over.content, str) and isinstance(base.content, dict) and base.name == over.content:
        return Node(base.content, over.mark, over.key or base.key)
    return over


def put(base: Node, keys: list[str], over: Node) -> Node:
    """Set one value by its path, as `--set` does.

    Args:
        base: the file.
        keys: the path; a number addresses an entry of a list.
        over: the value.

    Raises:
        SpecError: the path leads through something that is neither a mapping nor a part's name, or past a list's end.
    """
    return _put(base, keys, over, root=True)


def _put(base: Node | None, keys: list[str], over: Node, *, root: bool) -> Node:
    if not keys:
        return over if base is None else merge(base, over, root=root)
    key, rest = keys[0], keys[1:]
    if base is None:
        return Node({key: _put(None, rest, over, root=False)}, over.mark, over.key)
    if isinstance(base.content, list):
        if not key.isdecimal() or int(key) >= len(base.content):
            raise SpecError(
                [Problem(f"'{key}' is no entry of this list", over.key, f"entries are 0 to {len(base.content) - 1}")]
            )
        items = list(base.content)
        items[int(key)] = _put(items[int(key)], rest, over, root=False)
        return Node(items, base.mark, base.key)
    below = base if root else _promoted(base)
    if below.content is None:
        below = Node({}, below.mark, below.key)
    if not isinstance(below.content, dict):
        raise SpecError([Problem(f"'{key}' is set inside a single value", over.key, f"the value is {base.content!r}")])
    return Node({**below.content, key: _put(below.content.get(key), rest, over, root=False)}, below.mark, below.key)


def _promoted(node: Node) -> Node:
    """Write a part's bare name as a mapping, so that options can be laid beside it."""
    if isinstance(node.content, str):
        return Node({"name": Node(node.content, node.mark, node.key)}, node.mark, node.key)
    return node
