"""Data sets: named, decoded once into plain arrays, then divided into training, validation and test parts.

`open_dataset` turns a `Choice` of a file into `Arrays`; `partition` then follows the order of the data: classes,
split, limit. Importing this package imports neither torch nor the libraries that decode; those come in when a
data set is decoded for the first time.
"""

from __future__ import annotations

from dnntrain.parts.datasets import arrayfiles, bundled, imagefolders, public, tables
from dnntrain.parts.datasets.base import Arrays, Decoded, Layout, Source, datasets
from dnntrain.parts.datasets.prepared import open_dataset
from dnntrain.parts.datasets.splits import Holdout, Parts, Split, partition

__all__ = [
    "Arrays",
    "Decoded",
    "Holdout",
    "Layout",
    "Parts",
    "Source",
    "Split",
    "arrayfiles",
    "bundled",
    "datasets",
    "imagefolders",
    "open_dataset",
    "partition",
    "public",
    "tables",
]
