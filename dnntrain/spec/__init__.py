"""Experiment files: reading, merging, checking and writing them. Nothing here trains."""

from dnntrain.spec.editors import json_schema
from dnntrain.spec.load import Draft, draft, drafts, dump, load, loads, without_sweep
from dnntrain.spec.schema import Spec
from dnntrain.spec.values import seconds

__all__ = ["Draft", "Spec", "draft", "drafts", "dump", "json_schema", "load", "loads", "seconds", "without_sweep"]
