"""From plain values to YAML that people read."""

from __future__ import annotations

import json
import math
import re
from typing import Any, Final

import yaml

from dnntrain.errors import UsageError
from dnntrain.yamltext.core import resolve

_WIDTH: Final = 100
_INLINE_ENTRIES: Final = 4
# Words of signs that need no quotes within [ ] and { } either; whatever is in doubt is quoted.
_SIGN: Final = r"(?:[\w./+@%=~^*-]|:(?=[\w/]))"
_PLAIN: Final = re.compile(rf"(?:\.{{0,2}}/|~/|\w){_SIGN}*(?: {_SIGN}+)*")
_SURROGATE: Final = re.compile("[\ud800-\udfff]")
_ESCAPED: Final = re.compile("[\x7f-\x9f\u2028\u2029\ufeff\ufffe\uffff]")


def dump(value: Any) -> str:
    """Write plain values as YAML that reads back as equal values.

    Mappings keep their order and stand in block style; short lists, and small mappings of scalars below the root,
    stand in flow style. Strings are quoted where YAML 1.2 or 1.1 would read something else.

    Raises:
        UsageError: a string or an integer cannot be written.
        TypeError: a value is not plain.
    """
    return "\n".join(_block(value, "")) + "\n"


def _block(value: Any, indent: str) -> list[str]:
    """Write a value over lines of its own."""
    if isinstance(value, dict) and value:
        return [line for key, item in value.items() for line in _entry(key, item, indent)]
    if isinstance(value, list | tuple) and _inline(value, _WIDTH - len(indent)) is None:
        return [line for item in value for line in _item(item, indent)]
    return [indent + _flow(value)]


def _entry(key: Any, item: Any, indent: str) -> list[str]:
    if not isinstance(key, str):
        raise TypeError(f"a key must be a string, not {key!r}")
    written = _string(key)
    # YAML takes no key longer than 1,024 characters before its colon.
    head = f"{indent}{written}:" if len(written) < 1000 else f"{indent}? {written}\n{indent}:"
    inline = _inline(item, _WIDTH - len(head) - 1)
    return [head, *_block(item, indent + "  ")] if inline is None else [f"{head} {inline}"]


def _item(item: Any, indent: str) -> list[str]:
    inline = _inline(item, _WIDTH - len(indent) - 2)
    if inline is not None:
        return [f"{indent}- {inline}"]
    first, *rest = _block(item, indent + "  ")
    # A long key's lines are indented within one piece; only its first line moves behind the dash.
    return [f"{indent}- {first[len(indent) + 2 :]}", *rest]


def _inline(value: Any, room: int) -> str | None:
    """Write a value within a line, or return None where lines of its own are easier to read."""
    if not _is_compact(value):
        return None
    text = _flow(value)
    foldable = isinstance(value, dict | list | tuple) and value
    return None if foldable and len(text) > room else text


def _is_compact(value: Any) -> bool:
    """Whether a value is a scalar, a list without mappings, or a small mapping of such values."""
    if not isinstance(value, dict | list | tuple):
        return True
    items = list(value.values()) if isinstance(value, dict) else list(value)
    if isinstance(value, dict) and len(value) > _INLINE_ENTRIES:
        return False
    return all(_is_compact(item) and not (isinstance(item, dict) and item) for item in items)


def _flow(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{_string(key)}: {_flow(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(_flow, value)) + "]"
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return _string(value)
    if isinstance(value, float):
        return _float(value)
    if isinstance(value, int):
        try:
            return str(value)
        except ValueError:
            raise UsageError("an integer has too many digits to be written") from None
    raise TypeError(f"{type(value).__name__} is not a plain value")


def _float(value: float) -> str:
    """Write a float with a point and a signed exponent, so that YAML 1.1 too reads a float."""
    if math.isnan(value):
        return ".nan"
    if math.isinf(value):
        return ".inf" if value > 0 else "-.inf"
    mantissa, _, exponent = repr(value).partition("e")
    if not exponent:
        return mantissa
    return f"{mantissa if '.' in mantissa else mantissa + '.0'}e{int(exponent):+d}"


def _string(text: str) -> str:
    if _SURROGATE.search(text):
        raise UsageError(f"{ascii(text)} cannot be written: it is not valid Unicode (a file name that is not UTF-8?)")
    if _PLAIN.fullmatch(text) and not _means_something_else(text):
        return str(text)
    quoted = json.dumps(text, ensure_ascii=False)
    return _ESCAPED.sub(lambda found: f"\\u{ord(found.group()):04x}", quoted)


def _means_something_else(text: str) -> bool:
    """Whether a plain scalar of this text is no string, in YAML 1.2 or in YAML 1.1."""
    try:
        if not isinstance(resolve(text), str) or text in {"y", "Y", "n", "N"}:
            return True
    except ValueError:
        return True
    resolvers = yaml.SafeLoader.yaml_implicit_resolvers.get(text[0], [])
    return any(pattern.match(text) for _, pattern in resolvers)
