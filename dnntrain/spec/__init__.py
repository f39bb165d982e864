"""Experiment files: reading, merging, checking and writing them. Nothing here trains."""

from dnntrain.spec.editors import json_schema
from dnntrain.spec.load import dump, load, loads
from dnntrain.spec.schema import Spec, seconds

__all__ = ["Spec", "dump", "json_schema", "load", "loads", "seconds"]
