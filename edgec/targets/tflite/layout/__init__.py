"""The whole-graph layout analysis: one permutation for every value, chosen so that transposes almost vanish."""

from edgec.targets.tflite.layout.permutation import Permutation, channels_last, identity
from edgec.targets.tflite.layout.rules import (
    CHANNELS_LAST,
    ELEMENTWISE,
    FIXED,
    Choice,
    LayoutRule,
)
from edgec.targets.tflite.layout.solver import solve

__all__ = [
    "CHANNELS_LAST",
    "ELEMENTWISE",
    "FIXED",
    "Choice",
    "LayoutRule",
    "Permutation",
    "channels_last",
    "identity",
    "solve",
]
