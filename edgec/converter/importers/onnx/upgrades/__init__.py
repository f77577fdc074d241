"""Every node in the newest form of its operator.

The table :data:`TABLE` maps an operator to the steps it needs.  Operators that are absent changed only in the element
types they take, or gained attributes whose defaults keep the old meaning; the test of this package compares the table
with every schema that onnx knows.
"""

from edgec.converter.importers.onnx.upgrades import legacy, operands, resize, scan, softmax
from edgec.converter.importers.onnx.upgrades.sweep import upgrade_model
from edgec.converter.importers.onnx.upgrades.table import TABLE

__all__ = ["TABLE", "legacy", "operands", "resize", "scan", "softmax", "upgrade_model"]
