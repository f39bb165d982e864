"""What hidden layers learn from samples without labels, before training begins."""

from __future__ import annotations

from dnntrain.parts.pretraining import autoencoders  # noqa: F401 - registers its parts
from dnntrain.parts.pretraining.base import Task, pretrainings

__all__ = ["Task", "pretrainings"]
