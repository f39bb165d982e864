"""Experiments as plain Python scripts for PyTorch alone, which repeat a run to the last bit."""

from __future__ import annotations

from dnntrain.ejecting.ejection import Ejected, eject

__all__ = ["Ejected", "eject"]
