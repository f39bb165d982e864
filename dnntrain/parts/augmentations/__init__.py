"""Random changes to training batches, so that the network seldom sees the same sample twice; one topic a file."""

from dnntrain.parts.augmentations import color, mixing, pictures, rand_augment
from dnntrain.parts.augmentations.base import Augmentation, augmentations

__all__ = ["Augmentation", "augmentations", "color", "mixing", "pictures", "rand_augment"]
