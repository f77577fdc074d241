"""The LiteRT target."""

from edgec.targets.tflite import rules as rules  # importing it registers them
from edgec.targets.tflite.target import TARGET, TFLite

__all__ = ["TARGET", "TFLite"]
