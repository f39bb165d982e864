"""A Python script put together from pieces: the constants first, then what is defined, each piece once."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Callable, Iterable, Sequence
from string import Template
from textwrap import dedent, indent
from typing import Any, Final

WIDTH: Final = 88
"""Columns that lists and comments are wrapped at: the width of ruff and black."""

# What each import is recognized by in the text that follows it; in the order in which they are written.
_STANDARD: Final = {
    "import hashlib": r"\bhashlib\.",
    "import json": r"\bjson\.",
    "import math": r"\bmath\.",
    "import sys": r"\bsys\.",
    "import time": r"\btime\.",
    "from bisect import bisect_right": r"\bbisect_right\(",
    "from collections import OrderedDict": r"\bOrderedDict\(",
    "from collections.abc import Callable": r"\bCallable\b",
    "from fnmatch import fnmatchcase": r"\bfnmatchcase\(",
    "from itertools import pairwise": r"\bpairwise\(",
    "from pathlib import Path": r"\bPath\(",
    "from typing import NamedTuple": r"\bNamedTuple\b",
}
_INSTALLED: Final = {
    "import numpy as np": r"\bnp\.",
    "import torch": r"\btorch\.",
    "from safetensors.torch import load_file": r"\bload_file\(",
    "from sklearn.datasets import load_diabetes": r"\bload_diabetes\(",
    "from sklearn.datasets import load_digits": r"\bload_digits\(",
    "from torch import Generator, Tensor, nn": r"\bTensor\b|\bnn\.",
    "from torch.nn import functional as F": r"\bF\.",
    "from torchvision.datasets import CIFAR10": r"\bCIFAR10\(",
    "from torchvision.datasets import CIFAR100": r"\bCIFAR100\(",
}


class Script:
    """Collects the pieces of a script.

    Args:
        about: what its docstring says.
    """

    def __init__(self, about: str) -> None:
        self._about = about
        self._constants: list[str] = []
        self._definitions: dict[str, None] = {}

    def constants(self, **values: Any) -> None:
        """Put constants at the top."""
        self._constants += [assignment(name, value) for name, value in values.items()]

    def define(self, text: str) -> None:
        """Add a definition, unless it is there already."""
        self._definitions.setdefault(dedent(text).strip("\n"), None)

    def heading(self, text: str) -> None:
        """Begin a section."""
        self._definitions.setdefault(f"# --- {text} ".ljust(WIDTH, "-"), None)

    def take(self, other: Script, change: Callable[[str], str]) -> None:
        """Add what another one has collected, each piece changed."""
        self._constants += map(change, other._constants)
        for piece in other._definitions:
            self.define(change(piece))

    def text(self) -> str:
        """Return the script."""
        body = "\n\n\n".join(self._definitions)
        constants = "\n".join(self._constants)
        everything = f"{constants}\n{body}"
        imports = "\n\n".join(
            "\n".join(line for line, sign in lines.items() if re.search(sign, everything))
            for lines in (_STANDARD, _INSTALLED)
        )
        constants, body = ("\n".join(map(broken, text.split("\n"))) for text in (constants, body))
        main = 'if __name__ == "__main__":\n    main()\n'
        return f'"""{self._about}"""\n\n{imports}\n\n{constants}\n\n\n{body}\n\n\n{main}'


class Code(str):
    """A piece of code, to be written as it is where a text would be quoted."""

    __slots__ = ()


def assignment(name: str, value: Any, *, equals: str = " = ", depth: int = 0) -> str:
    """Return an assignment; a list or mapping that is too long takes a line for each item.

    Args:
        name: of the variable, or of the argument.
        value: a value.
        equals: what stands between them.
        depth: levels that the line will be indented by, with a comma behind it where it is indented.
    """
    line = f"{name}{equals}{written(value)}"
    if len(line) + 4 * depth + bool(depth) <= WIDTH or not isinstance(value, list | dict):
        return line
    if isinstance(value, dict):
        items = "".join(f"    {written(key)}: {written(item)},\n" for key, item in value.items())
        return f"{name}{equals}{{\n{items}}}"
    return f"{name}{equals}[\n" + "".join(f"    {written(item)},\n" for item in value) + "]"


def written(value: Any) -> str:
    """Return a value as a person would write it: `[100] * 20` for a list of equal items."""
    if isinstance(value, Code):
        return str(value)
    if isinstance(value, str):
        return quoted(value)
    if isinstance(value, list | tuple) and len(value) > 3 and all(item == value[0] for item in value):
        return f"[{written(value[0])}] * {len(value)}"
    if isinstance(value, list):
        return f"[{', '.join(map(written, value))}]"
    if isinstance(value, dict):
        return f"{{{', '.join(f'{written(key)}: {written(item)}' for key, item in value.items())}}}"
    return repr(value)


def quoted(text: str) -> str:
    """Return a text as a literal of ASCII alone, in the quotes that need fewer escapes."""
    quote = "'" if text.count('"') > text.count("'") else '"'
    inside = text.encode("unicode_escape").decode("ascii").replace(quote, f"\\{quote}")
    return f"{quote}{inside}{quote}"


def fill(template: str, **values: Any) -> str:
    """Put values where a template says `$name`, and take away its indentation.

    A line that is nothing but a name whose value is empty is left out.
    """
    told = {name: str(value) for name, value in values.items()}
    empty = {f"${name}" for name, value in told.items() if not value}
    kept = [line for line in dedent(template).strip("\n").splitlines() if line.strip() not in empty]
    return Template("\n".join(kept)).substitute(told)


def lines(pieces: Iterable[str], depth: int = 0) -> str:
    """Join the pieces that are not empty, indented by so many levels."""
    return indent("\n".join(piece for piece in pieces if piece), "    " * depth)


def call(name: str, *arguments: Any, **options: Any) -> str:
    """Return a call."""
    given = [written(each) for each in arguments] + [f"{key}={written(value)}" for key, value in options.items()]
    return f"{name}({', '.join(given)})"


def differing(options: Any, usual: dict[str, Any]) -> dict[str, Any]:
    """Return the options that are not what they usually are, in that order."""
    return {key: getattr(options, key) for key, value in usual.items() if getattr(options, key) != value}


def signature(name: str, parameters: Sequence[str], returned: str) -> str:
    """Return the head of a function, on as few lines as it takes."""
    line = f"def {name}({', '.join(parameters)}) -> {returned}:"
    if len(line) <= WIDTH:
        return line
    inside = f"    {', '.join(parameters)}"
    if len(inside) > WIDTH or "*" in parameters:
        inside = "\n".join(f"    {parameter}," for parameter in parameters)
    return f"def {name}(\n{inside}\n) -> {returned}:"


def method(name: str, returned: str, about: str, body: Iterable[str]) -> str:
    """Return a method without arguments that changes what no gradient is taken of."""
    made = ["@torch.no_grad()", f"def {name}(self) -> {returned}:", f'    """{about}"""', lines(body, 1)]
    return lines(made, 1)


def broken(line: str) -> str:
    """Return a line that is too long on three, broken within the call or the brackets that it ends with."""
    if len(line) <= WIDTH or not line.endswith(")"):
        return line
    depth, place = 0, len(line)
    while place:
        place -= 1
        depth += (line[place] in ")]}") - (line[place] in "([{")
        if depth == 0:
            break
    margin = " " * (len(line) - len(line.lstrip()))
    return f"{line[: place + 1]}\n{margin}    {line[place + 1 : -1]}\n{margin})"


def wrapped(text: str) -> str:
    """Return a paragraph on lines that are not too long."""
    return "\n".join(textwrap.wrap(" ".join(text.split()), WIDTH, break_long_words=False, break_on_hyphens=False))


def listed(words: Sequence[str]) -> str:
    """Return words as a sentence lists them: a, b and c."""
    return ", ".join(words) if len(words) < 2 else f"{', '.join(words[:-1])} and {words[-1]}"
