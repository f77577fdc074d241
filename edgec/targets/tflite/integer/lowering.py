"""Lower the nodes of a quantized graph to integer kernels, and join them to the float ones.

For every node that has an integer form the float lowering (or one of :data:`INTEGER`) is tried on integer tensors.  If
what it appends is not all integer kernels, it is taken back and the node is computed in float between DEQUANTIZE and
QUANTIZE; that is noted, never silent.  So is, where exact results are asked for, what
:mod:`edgec.targets.tflite.integer.exactness` lists.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Final

import numpy as np

from edgec.ir.graph import Graph, Node, Value
from edgec.ir.passes.wrap_moves import MOVES, POSITIONS
from edgec.ir.types import Array, DataType
from edgec.targets.tflite.builder import hold
from edgec.targets.tflite.integer.exactness import EIGHT_BITS, is_exact, rescales
from edgec.targets.tflite.integer.operators import INTEGER, KERNELS, form_of, product
from edgec.targets.tflite.integer.rounding import divides_otherwise
from edgec.targets.tflite.integer.storage import FREE, SAME, Form, Quantization, Storage, moved
from edgec.targets.tflite.layout import Choice, LayoutRule, Permutation, identity
from edgec.targets.tflite.layout.permutation import stored
from edgec.targets.tflite.program import Op, T

if TYPE_CHECKING:
    from edgec.targets.tflite.lowering import Lowerer
    from edgec.targets.tflite.table import Entry

NO_FORM: Final = "it has no integer form with these operands"


class Integers:
    """The integer side of one :class:`Lowerer`.

    Attributes:
        exact: whether integer kernels that round otherwise than ONNX are avoided.
        avoided: how many times each operator was computed in float32 for that reason.
    """

    def __init__(self, lowerer: Lowerer, graph: Graph, exact: bool = False):
        self.lowerer = lowerer
        self.exact = exact
        self.avoided: Counter[str] = Counter()
        self.storage = Storage(graph)

    def dtype_of(self, value: Value) -> DataType:
        """The element type of the tensor that holds a value."""
        from edgec.targets.tflite.call import working_type

        held = self.storage.held.get(value)
        return held.dtype if held is not None else working_type(value.dtype)

    def rule_of(self, node: Node) -> LayoutRule | None:
        """A layout rule that quantized weights ask for, or None where the operator's own will do."""
        from edgec.targets.tflite.operators.matrix import CONSTANT_RIGHT

        if node.op == "MatMul" and not node.domain and node.operand(1) in self.storage.weights:
            return CONSTANT_RIGHT if node.operand(1).rank == 2 and node.operand(0).rank >= 2 else None
        return None

    # graph inputs and outputs

    def input(self, value: Value, tensor: T) -> T:
        """A graph input that arrives as integers gets its scale; uint8 becomes int8 where it is held so."""
        held = self.storage.held.get(value)
        if held is None or value.dtype.is_float:
            return tensor
        if value.dtype is held.dtype:
            hold(tensor, held)
            return tensor
        hold(tensor, Quantization(value.dtype, held.scale, (held.zero_point[0] + 128,)))
        return self.lowerer.builder.quantize(tensor, held)

    def output(self, value: Value, tensor: T) -> T:
        """A graph output that leaves as uint8 is moved back from int8."""
        held = self.storage.held.get(value)
        if held is None or value.dtype is not DataType.UINT8 or held.dtype is DataType.UINT8:
            return tensor
        moved = Quantization(DataType.UINT8, held.scale, (held.zero_point[0] + 128,))
        return self.lowerer.builder.quantize(tensor, moved)

    # values

    def operand(self, value: Value, permutation: Permutation | None, form: Form) -> T:
        """A value as integers; requantized where the kernel wants operands and result to have the same scale."""
        constant = self.storage.weights.get(value)
        x = self.constant(value, permutation) if constant is not None else self.lowerer.arranged(value, permutation)
        if form.constraint == SAME and not _has(x, form.given):
            return self._requantize(x, form.given)
        return x

    def _requantize(self, x: T, wanted: Quantization) -> T:
        """Integers of another scale; over real numbers where they are to be rounded exactly."""
        builder = self.lowerer.builder
        if self.exact and x.scale is not None and x.zero_point is not None and len(x.scale) == 1:
            given = Quantization(x.dtype, (float(x.scale[0]),), (int(x.zero_point[0]),))
            if rescales(given, wanted):
                x = builder.dequantize(x)
                if divides_otherwise(given, wanted):
                    x = self.rounded(x, wanted)
        return builder.quantize(x, wanted)

    def constant(self, value: Value, permutation: Permutation | None) -> T:
        """The integers of constant weights, stored under a permutation."""
        weights = self.storage.weights[value]
        rank = len(weights.tensor.shape)
        order = permutation if permutation is not None else identity(rank)
        shape = stored(weights.tensor.shape, order)

        def load() -> Array:
            return np.ascontiguousarray(weights.integers().transpose(order))

        made = self.lowerer.builder.lazy(weights.quantization.dtype, shape, load, value.name)
        hold(made, weights.quantization)
        return made

    # nodes

    def lower(self, node: Node, choice: Choice, entry: Entry) -> list[T] | None:
        """The results of a node on integers, or None where it is to be lowered as usual."""
        if node in self.storage.through:
            return [self._renamed(node, choice)]
        if node.outputs[0] in self.storage.weights:  # a constant, real numbers for whoever computes in float
            from edgec.targets.tflite.call import Call, as_list

            return as_list(entry.lower(Call(self.lowerer, node, choice)))
        if node.op in POSITIONS and not node.domain and self._is_bytes(node.operand(0)):
            from edgec.targets.tflite.call import Call, as_list

            held = self.storage.held[node.operand(0)]
            return as_list(entry.lower(Call(self.lowerer, node, choice, Form(held, held, FREE))))
        form = form_of(node, self.storage)
        if form is not None and self.exact and not is_exact(node, form, self.storage):
            self.avoided[node.op] += 1
            return self._in_float(node, choice, form)
        if form is not None:
            return self._attempt(node, choice, entry, form)
        if node.op not in ("QuantizeLinear", "DequantizeLinear") and any(v in self.storage.held for v in node.outputs):
            if node.op in MOVES and not any(value in self.storage.held for value in moved(node)):
                return None  # floats are moved before they are quantized
            self._say(node, NO_FORM)
        return None

    def _in_float(self, node: Node, choice: Choice, form: Form) -> list[T] | None:
        from edgec.targets.tflite.call import Call
        from edgec.targets.tflite.integer.in_float import in_float

        made = in_float(Call(self.lowerer, node, choice), form, self.storage)
        return None if made is None else self.hold(node, [made])

    def _is_bytes(self, value: Value) -> bool:
        held = self.storage.held.get(value)
        return held is not None and held.dtype in (DataType.INT8, DataType.UINT8)

    def _say(self, node: Node, reason: str) -> None:
        self.lowerer.notes.append(f"'{node.name}' ({node.op}) is computed in float32: {reason}")

    def _renamed(self, node: Node, choice: Choice) -> T:
        """QuantizeLinear and DequantizeLinear between floats and integers held alike move nothing."""
        source = node.operand(0)
        held = self.storage.held[node.output]
        x = self.lowerer.arranged(source, choice.inputs[0])
        if _has(x, held):
            return x
        if self.exact and x.dtype is DataType.FLOAT and held.dtype in EIGHT_BITS:
            x = self.rounded(x, held)
        return self._requantize(x, held)

    def rounded(self, x: T, held: Quantization) -> T:
        """The multiples of a scale that are nearest to real numbers, so that QUANTIZE has no ties to decide.

        ONNX divides by the scale, XNNPACK multiplies by its reciprocal: of photographs, whose pixels are multiples of
        1/255, some numbers in ten thousand lie so near to a tie that this decides it.
        """
        b = self.lowerer.builder
        scale = b.constant(np.array(held.scale[0], np.float32))
        return b.mul(b.unary("ROUND", b.div(x, scale)), scale)

    def _attempt(self, node: Node, choice: Choice, entry: Entry, form: Form) -> list[T] | None:
        from edgec.targets.tflite.call import Call, as_list
        from edgec.targets.tflite.refusal import Refused

        builder = self.lowerer.builder
        undo = self.lowerer.mark()
        mark = len(builder.program.ops)
        builder.quantization = form.given
        call = Call(self.lowerer, node, choice, form)
        function = INTEGER.get(node.op) or entry.lower
        if node.op == "MatMul" and node.operand(1) in self.storage.weights:
            function = product
        try:
            made = as_list(function(call))
            reason = _objection(builder.program.ops[mark:], form.wanted.dtype)
        except Refused as refused:
            made, reason = [], refused.reason
        finally:
            builder.quantization = None
        if reason:
            undo()
            self._say(node, reason)
            return None
        return [x if _has(x, form.wanted) else self._requantize(x, form.wanted) for x in made]

    def hold(self, node: Node, made: list[T]) -> list[T]:
        """Float results that are to be held as integers are quantized."""
        results = []
        for value, tensor in zip(node.outputs, made):
            held = self.storage.held.get(value)
            results.append(
                tensor if held is None or tensor.scale is not None else self.lowerer.builder.quantize(tensor, held)
            )
        return results


def _has(x: T, wanted: Quantization) -> bool:
    """Whether a tensor's integers already mean what is wanted."""
    if x.scale is None or x.dtype is not wanted.dtype or len(x.scale) != len(wanted.scale):
        return False
    same_scale = np.array_equal(x.scale, np.array(wanted.scale, np.float32))
    return bool(same_scale and np.array_equal(x.zero_point, np.array(wanted.zero_point)))


def _objection(ops: list[Op], dtype: DataType) -> str:
    """Why appended operators are no integer form; empty when they are."""
    for op in ops:
        if op.code == "DEQUANTIZE":  # of a step to another scale
            continue
        if op.code not in KERNELS:
            return f"LiteRT has no integer kernel for what it is composed of ({op.code})"
        for tensor in op.outputs:
            if tensor.dtype is not dtype or tensor.scale is None:
                return f"a part of it is {tensor.dtype.name.lower()} ({op.code})"
        for operand in op.inputs:
            if operand is not None and operand.dtype.is_float and op.code != "QUANTIZE":
                return f"a part of it takes a float operand ({op.code})"
    return ""
