"""Experiment files put together: `extends`, `--set`, and the marks that remember where each value came from.

A mapping without a `name`, or with the same one, is merged into what is there; another `name` replaces the part with
its options. `selu` and `{name: selu}` are the same part. Lists are replaced, or addressed by index. Of options that
exclude each other, the last one given stays.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from dnntrain.errors import Mark, Problem, SpecError, shorten
from dnntrain.registry import Pick, WordOr
from dnntrain.spec.forms import entry_form, flow, marked, model_of, models, step
from dnntrain.spec.schema import OneOrMore, Spec
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


def planted(value: Any, marks: Mapping[KeyPath, Marks], path: KeyPath, otherwise: Mark) -> Node:
    """Turn a plain value into nodes.

    Args:
        value: mappings, lists and scalars.
        marks: where values were written, by their paths.
        path: that of this one.
        otherwise: the mark of what was not written anywhere.
    """
    mark = marks.get(path, Marks(otherwise, otherwise))
    content = value
    if isinstance(value, Mapping):
        content = {key: planted(item, marks, (*path, key), otherwise) for key, item in value.items()}
    elif isinstance(value, list | tuple):
        content = [planted(item, marks, (*path, i), otherwise) for i, item in enumerate(value)]
    return Node(content, mark.value, mark.key or otherwise)


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


def merge(base: Node, over: Node, form: Any = Spec) -> Node:
    """Lay one value over another.

    Args:
        base: what is there.
        over: what has the last word.
        form: the type of both, which tells the `name` of a part from that of an experiment; None where it is unknown.
    """
    if isinstance(over.content, dict):
        below = _opened(base, form)
        name = _part_name(below, form)
        same = not _is_part(form) or "name" not in over.content or over.name == name
        if isinstance(below.content, dict) and same:
            merged = _kept(below.content, over.content, form, name)
            for key, item in over.content.items():
                merged[key] = merge(merged[key], item, step(form, name, key)) if key in merged else item
            return Node(merged, over.mark, over.key)
    elif isinstance(base.content, dict) and _is_part(form) and over.content == _part_name(base, form):
        return Node(base.content, over.mark, over.key)
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
    return _put(base, keys, over, Spec)


def _put(base: Node | None, keys: list[str], over: Node, form: Any) -> Node:
    if not keys:
        return over if base is None else merge(base, over, form)
    key, rest = keys[0], keys[1:]
    if base is None or base.content is None:
        return Node({key: _put(None, rest, over, None)}, over.mark, over.key)
    if key.isdecimal() and isinstance(base.content, str | dict) and any(marked(form, OneOrMore)):
        base = Node([base], base.mark, base.key)
    if isinstance(base.content, list):
        return _put_entry(base, keys, over, entry_form(form))
    below = _opened(base, form)
    if not isinstance(below.content, dict):
        message = f"'{shorten(key)}' is set inside a single value"
        raise SpecError([Problem(message, over.key, f"what stands there is {shorten(flow(base.content), 40)}")])
    name = _part_name(below, form)
    if key == "name" and not rest and _is_part(form) and over.content != name:
        return Node({key: over}, over.mark, over.key)
    there = _kept(below.content, {key: over}, form, name)
    return Node({**there, key: _put(there.get(key), rest, over, step(form, name, key))}, below.mark, below.key)


def _put_entry(base: Node, keys: list[str], over: Node, form: Any) -> Node:
    key, rest, entries = keys[0], keys[1:], list(base.content)
    if not key.isdecimal() or int(key) >= len(entries):
        hint = f"its entries are 0 to {len(entries) - 1}" if entries else "the list is empty; set it as a whole: [...]"
        raise SpecError([Problem(f"'{shorten(key)}' is no entry of this list", over.key, hint)])
    entries[int(key)] = _put(entries[int(key)], rest, over, form)
    return Node(entries, base.mark, base.key)


def _opened(node: Node, form: Any) -> Node:
    """Write what may stand for a mapping as that mapping, so that options can be laid beside it."""
    if not isinstance(node.content, str):
        return node
    if _is_part(form):
        return replace(node, content={"name": Node(node.content, node.mark, node.key)})
    model = next(models(form), None)
    if model is None:
        return node
    if model.shorthand is None or any(node.content in word.words for word in marked(form, WordOr)):
        return replace(node, content={})
    return replace(node, content={model.shorthand: Node(node.content, node.mark, node.key)})


def _kept(there: Mapping[str, Node], given: Mapping[str, Node], form: Any, name: str | None) -> dict[str, Node]:
    """Leave out of a mapping what is excluded by the keys that are given."""
    groups = [] if (model := model_of(form, name)) is None else model.alternatives
    chosen = [group for group in groups if any(given[key].content is not None for key in group if key in given)]
    dropped = {key for group in groups if chosen and group not in chosen for key in group}
    return {key: node for key, node in there.items() if key not in dropped}


def _is_part(form: Any) -> bool:
    """Whether a part may stand where this type is wanted."""
    return any(marked(form, Pick))


def _part_name(node: Node, form: Any) -> str | None:
    """Return the part that a node names, or that options without a name belong to."""
    return node.name or next((pick.default for pick in marked(form, Pick)), None)
