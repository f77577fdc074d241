"""ONNX Runtime: the optimised canonical graph as ``.onnx``, with its session options beside it."""

from edgec.targets.onnxruntime.target import TARGET

__all__ = ["TARGET"]
