"""The LiteRT target."""

from edgec.targets.tflite.target import TARGET, TFLite

__all__ = ["TARGET", "TFLite"]
