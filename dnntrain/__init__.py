"""Train deep neural networks from YAML."""

from __future__ import annotations

from importlib import metadata

__version__ = metadata.version("dnntrain")
