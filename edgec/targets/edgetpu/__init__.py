"""The target ``edgetpu``: Google's Coral Edge TPU."""

from edgec.targets.edgetpu.target import TARGET, EdgeTPU

__all__ = ["TARGET", "EdgeTPU"]
