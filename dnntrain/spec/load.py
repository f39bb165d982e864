"""From the text of an experiment file to a `Spec`, and back."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from dnntrain import yamltext
from dnntrain.errors import Mark, Problem, SpecError, UsageError
from dnntrain.registry import families, plain
from dnntrain.spec.checks import check
from dnntrain.spec.merge import Node, from_tree, merge, put, to_tree
from dnntrain.spec.problems import problems
from dnntrain.spec.schema import Spec


def load(path: str | Path, overrides: Sequence[str] = ()) -> Spec:
    """Read an experiment file.

    Args:
        path: the file.
        overrides: `K=V` settings that have the last word, K a dotted path and V a YAML value.

    Raises:
        UsageError: the file cannot be read.
        SpecError: every mistake in it, at once.
    """
    path = Path(path)
    return loads(_read(path), source=str(path), folder=path.parent, overrides=overrides, default_name=path.stem)


def loads(
    text: str | bytes,
    *,
    source: str = "<text>",
    folder: Path | None = None,
    overrides: Sequence[str] = (),
    default_name: str = "run",
) -> Spec:
    """Read an experiment from its text.

    Args:
        text: YAML.
        source: what error messages call it.
        folder: where relative paths start; the current folder unless given.
        overrides: `K=V` settings that have the last word.
        default_name: names the experiment where the file does not.

    Raises:
        SpecError: every mistake in it, at once.
    """
    folder = Path.cwd() if folder is None else folder
    found: list[Problem] = []
    tree = _extended(text, source, folder, found, chain=(_identity(source, folder),))
    for override in overrides:
        tree = _overridden(tree, override, found)
    value, marks = from_tree(tree)
    if not isinstance(value, dict):
        raise SpecError([*found, Problem("an experiment is a mapping of sections", marks[()].value, "data: ...")])
    value.setdefault("name", re.sub(r"[^A-Za-z0-9_-]+", "_", default_name)[:100] or "run")
    try:
        spec = Spec.model_validate(value)
    except ValidationError as error:
        raise SpecError(_sorted([*found, *problems(error, value, marks)])) from None
    spec._marks.update(marks)
    found += check(spec)
    if found:
        raise SpecError(_sorted(found))
    return spec


def dump(spec: Spec) -> str:
    """Write a spec as a file that reads back as an equal one."""
    return yamltext.dump(plain(spec))


def json_schema() -> dict[str, Any]:
    """Return the JSON Schema of experiment files, for editors."""
    schema = Spec.model_json_schema()
    definitions = schema.setdefault("$defs", {})
    for name, family in families().items():
        part = family.json_schema()
        for form in part["anyOf"]:
            definitions.update(form.pop("$defs", {}))
        definitions[f"family_{name}"] = part
    schema["properties"]["extends"] = {"type": "string", "description": "start from another file"}
    schema["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    schema["title"] = "dnntrain experiment"
    linked: dict[str, Any] = _linked(schema)
    return linked


def _linked(schema: Any) -> Any:
    """Point each place that names a part to the one definition of its family."""
    if isinstance(schema, list):
        return [_linked(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    linked = {key: _linked(item) for key, item in schema.items() if key != "x-family"}
    if "x-family" in schema:
        linked["$ref"] = f"#/$defs/family_{schema['x-family']}"
    return linked


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except IsADirectoryError:
        raise UsageError(f"{path} is a folder, not an experiment file") from None
    except FileNotFoundError:
        raise UsageError(f"there is no file {path}") from None
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}") from error


def _identity(source: str, folder: Path) -> Path:
    return (folder / Path(source).name).resolve()


def _extended(text: str | bytes, source: str, folder: Path, found: list[Problem], *, chain: tuple[Path, ...]) -> Node:
    """Read a file and what it extends, the latter first; problems of all of them go into `found`."""
    document = yamltext.read(text, source=source, folder=folder)
    found += document.problems
    tree = to_tree(document)
    if not isinstance(tree.content, dict) or "extends" not in tree.content:
        return tree
    content = dict(tree.content)
    link = content.pop("extends")
    tree = Node(content, tree.mark, tree.key)
    if not isinstance(link.content, str):
        found.append(Problem("'extends' must be the path of a file", link.mark, "extends: base.yaml"))
        return tree
    path = folder / Path(link.content).expanduser()
    if path.resolve() in chain:
        names = " -> ".join(p.name for p in (*chain, path.resolve()))
        found.append(Problem("these files extend each other in a circle", link.mark, names))
        return tree
    try:
        below = path.read_bytes()
    except OSError as error:
        found.append(Problem(f"cannot read {path}: {error.strerror}", link.mark, "relative to the file that says it"))
        return tree
    base = _extended(below, str(path), path.parent, found, chain=(*chain, path.resolve()))
    return merge(base, tree)


def _overridden(tree: Node, override: str, found: list[Problem]) -> Node:
    """Apply one `K=V`."""
    key, equals, text = override.partition("=")
    whole = Mark("--set", 1, 1, len(override), override)
    if not equals or not all(part for part in key.split(".")):
        found.append(Problem(f"cannot set '{override}'", whole, "write KEY=VALUE, such as optimizer.lr=0.01"))
        return tree
    try:
        document = yamltext.read(text, source="--set", folder=Path.cwd())
        value = _shifted(to_tree(document), override, len(key) + 1)
        found += [replace(p, mark=_shift(p.mark, override, len(key) + 1)) for p in document.problems]
        return put(tree, key.split("."), Node(value.content, value.mark, Mark("--set", 1, 1, len(key), override)))
    except SpecError as error:
        found += [
            replace(p, mark=p.mark if p.mark and p.mark.text == override else _shift(p.mark, override, len(key) + 1))
            for p in error.problems
        ]
        return tree


def _shifted(node: Node, override: str, by: int) -> Node:
    """Let marks inside V count their columns in `K=V`."""
    content = node.content
    if isinstance(content, dict):
        content = {key: _shifted(item, override, by) for key, item in content.items()}
    elif isinstance(content, list):
        content = [_shifted(item, override, by) for item in content]
    mark = _shift(node.mark, override, by)
    return Node(content, node.mark if mark is None else mark, _shift(node.key, override, by))


def _shift(mark: Mark | None, override: str, by: int) -> Mark | None:
    if mark is None or mark.line != 1:
        return mark
    return replace(mark, column=mark.column + by, text=override)


def _sorted(found: list[Problem]) -> list[Problem]:
    """Put problems in the order of the text; those without a place come last."""
    return sorted(found, key=lambda p: (p.mark is None, p.mark.source if p.mark else "", p.mark.line if p.mark else 0))
