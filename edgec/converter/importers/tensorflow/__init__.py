"""SavedModel folders and Keras files into the IR by tf2onnx, in a child process; needs the extra ``tensorflow``."""

from edgec.converter.importers.tensorflow.importer import import_model, inspect_model, source_nodes

__all__ = ["import_model", "inspect_model", "source_nodes"]
