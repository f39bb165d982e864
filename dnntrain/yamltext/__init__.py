"""YAML text to plain values with line marks, and plain values back to YAML text.

Scalars follow the core schema of YAML 1.2: `1e-3` is a number, `on`, `yes` and `12:30` are strings. A text can
neither name a Python object nor exhaust the stack or the memory. What the reader can step over (a key given twice, a
tag, a key that is not text) is collected; what stops it (bad syntax, nesting or aliases without end) is raised. Both
are located.

Merge keys (`<<: *base`) are honoured: a key that the mapping writes itself wins, then the earlier of the merged ones.
"""

from __future__ import annotations

from dnntrain.yamltext.reading import Document, KeyPath, Marks, Text, read
from dnntrain.yamltext.writing import dump

__all__ = ["Document", "KeyPath", "Marks", "Text", "dump", "read"]
