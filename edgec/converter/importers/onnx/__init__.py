"""ONNX models into the IR: read under limits, shapes bound, functions inlined, every node in its newest form."""

from edgec.converter.importers.imported import ImportedModel
from edgec.converter.importers.onnx.importer import import_model, require_static

__all__ = ["ImportedModel", "import_model", "require_static"]
