"""What hidden layers learn from samples without labels, before training begins."""

from __future__ import annotations

from dnntrain.parts.pretraining import adversarial, autoencoders, boltzmann, hiding, views
from dnntrain.parts.pretraining.base import Task, pretrainings

__all__ = ["Task", "adversarial", "autoencoders", "boltzmann", "hiding", "pretrainings", "views"]
