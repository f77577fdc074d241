"""LiteRT flatbuffers (``.tflite``) into the IR, read directly: no TensorFlow involved."""

from edgec.converter.importers.tflite.facts import inspect_model, source_nodes
from edgec.converter.importers.tflite.importer import import_model

__all__ = ["import_model", "inspect_model", "source_nodes"]
