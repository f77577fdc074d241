"""Which values of a quantized graph are held as integers, and with which scale and zero point.

A float value is held as integers where everybody takes it through one QuantizeLinear, or where it is the result of a
DequantizeLinear.  The float operator between the two then runs on LiteRT's integer kernels, as ONNX's QDQ convention
means it.

Source: LiteRT 8-bit quantization specification; ONNX QuantizeLinear-25, DequantizeLinear-25.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from edgec.ir.graph import Graph, Node, Tensor, Value
from edgec.ir.passes.wrap_moves import MOVES
from edgec.ir.types import Array, DataType

INTEGERS = (DataType.INT8, DataType.UINT8, DataType.INT16)

LIMITS = {DataType.INT8: (-128, 127), DataType.UINT8: (0, 255), DataType.INT16: (-32768, 32767)}
"""Smallest and largest integer."""


@dataclass(frozen=True)
class Quantization:
    """How a tensor stands for real numbers: ``real = (integer - zero_point) * scale``.

    Attributes:
        dtype: INT8, INT16, or UINT8 in graphs that ask for unsigned kernels; else ONNX's uint8 is held as int8 with
            its zero point moved by 128.
        scale, zero_point: one number, or one per index along ``axis``.
        axis: the ONNX axis that scales differ along, or None.
    """

    dtype: DataType
    scale: tuple[float, ...]
    zero_point: tuple[int, ...]
    axis: int | None = None

    @property
    def range(self) -> tuple[int, int]:
        """Smallest and largest integer."""
        return LIMITS[self.dtype]

    def quantize(self, array: Array) -> Array:
        """The integers for real numbers, rounded half to even; per-tensor parameters only."""
        low, high = self.range
        whole = np.round(np.asarray(array, np.float32) / np.float32(self.scale[0])) + self.zero_point[0]
        integers: Array = np.clip(whole, low, high).astype(self.dtype.numpy)
        return integers

    def real(self, integer: int) -> float:
        """The real number that an integer stands for; per-tensor parameters only."""
        return (integer - self.zero_point[0]) * self.scale[0]


def parameters(node: Node, unsigned: bool = False) -> Quantization | None:
    """The parameters of a QuantizeLinear or DequantizeLinear, or None where LiteRT has no such tensor.

    Constant scales, 8 or 16 bits, no blocks; int16 must be symmetric.

    Args:
        unsigned: keep uint8 as it is.
    """
    whole = node.operand(0) if node.op == "DequantizeLinear" else node.output
    scale, zero = node.operand(1), node.input(2)
    if whole.dtype not in INTEGERS or scale.const is None or (zero is not None and zero.const is None):
        return None
    if node.attr_int("block_size", 0):
        return None
    scales = scale.numpy().astype(np.float32).reshape(-1)
    zeros = np.zeros(len(scales), np.int64) if zero is None else zero.numpy().astype(np.int64).reshape(-1)
    if len(zeros) != len(scales) or not np.all(scales > 0):
        return None
    dtype = whole.dtype
    if dtype is DataType.UINT8 and not unsigned:
        dtype, zeros = DataType.INT8, zeros - 128
    if dtype is DataType.INT16 and zeros.any():
        return None
    axis = None
    if scale.const.shape != () and whole.shape is not None and len(scales) > 1:
        axis = node.attr_int("axis", 1) % max(len(whole.shape), 1)
    return Quantization(dtype, tuple(float(s) for s in scales), tuple(int(z) for z in zeros), axis)


@dataclass(frozen=True)
class Weights:
    """A constant that reaches its users through DequantizeLinear: its integers and their parameters."""

    tensor: Tensor
    quantization: Quantization

    def integers(self) -> Array:
        """The elements as the parameters speak of them (uint8 moved by 128 where they are held as int8)."""
        array = self.tensor.numpy()
        if self.tensor.dtype is DataType.UINT8 and self.quantization.dtype is DataType.INT8:
            return (array.astype(np.int16) - 128).astype(np.int8)
        return array


class Storage:
    """The plan for one graph.

    Attributes:
        held: float values that are held as integers.
        weights: results of DequantizeLinear on 8-bit or 16-bit constants.
        biases: results of DequantizeLinear on int32 constants: the integers and their scales.
        through: QuantizeLinear and DequantizeLinear nodes that only rename a held value.
        unsigned: whether the graph runs on LiteRT's kernels for uint8.
    """

    def __init__(self, graph: Graph):
        self.unsigned = asks_for_unsigned(graph)
        self.held: dict[Value, Quantization] = {}
        self.weights: dict[Value, Weights] = {}
        self.biases: dict[Value, tuple[Tensor, Array]] = {}
        self.through: set[Node] = set()
        for node in graph.nodes:
            if node.domain:
                continue
            if node.op == "QuantizeLinear":
                self._quantize(node)
            elif node.op == "DequantizeLinear":
                self._dequantize(node)
        for node in reversed(list(graph.nodes)):
            if node.domain:
                continue
            if node.op in ("Relu", "Clip"):
                self._before_activation(node)
            elif _moves(node):
                self._before_move(node)
        for node in graph.nodes:
            if _moves(node):
                self._behind_move(node)

    def form(self, value: Value) -> Quantization | None:
        """How a value, computed or constant, is held as 8 or 16 bits; None for floats."""
        weights = self.weights.get(value)
        return weights.quantization if weights is not None else self.held.get(value)

    def _quantize(self, node: Node) -> None:
        found = parameters(node, self.unsigned)
        result, source = node.output, node.operand(0)
        if found is None or found.axis is not None or not source.dtype.is_float or source.const is not None:
            return
        if not self._means(result, found):
            return
        self.held[result] = found
        self.through.add(node)
        alone = not source.is_output and all(
            user.op == "QuantizeLinear" and not user.domain and parameters(user, self.unsigned) == found
            for user in source.users
        )
        if alone and source.producer is not None and source not in self.held:
            self.held[source] = found

    def _means(self, whole: Value, found: Quantization) -> bool:
        """Whether everybody who reads some integers takes them for the same real numbers."""
        return all(
            (user.op == "DequantizeLinear" and not user.domain and parameters(user, self.unsigned) == found)
            or (user.op in ("Shape", "Size") and not user.domain)
            for user in whole.users
        )

    def _dequantize(self, node: Node) -> None:
        source, result = node.operand(0), node.output
        if source.const is not None and source.dtype is DataType.INT32:
            scale, zero = node.operand(1), node.input(2)
            if scale.const is not None and (zero is None or (zero.const is not None and not zero.numpy().any())):
                self.biases[result] = (source.const, scale.numpy().astype(np.float64).reshape(-1))
            return
        found = parameters(node, self.unsigned)
        if found is None:
            return
        if source.const is not None:
            self.weights[result] = Weights(source.const, found)
        elif found.axis is None and (source in self.held or (source.producer is None and self._means(source, found))):
            self.held[result] = found
            self.held.setdefault(source, found)
            self.through.add(node)

    def _before_activation(self, node: Node) -> None:
        """The value in front of a fusable activation is held as the activation's result is: clamping does the rest."""
        source, result = node.operand(0), node.output
        if result not in self.held or source in self.held or source.const is not None or source.is_output:
            return
        producer = source.producer
        if len(source.users) == 1 and producer is not None and producer.op in CLAMPS:
            self.held[source] = self.held[result]

    def _before_move(self, node: Node) -> None:
        """What is moved and then quantized may as well be quantized and then moved."""
        results = [self.held.get(value) for value in node.outputs if value.use_count]
        if not results or results[0] is None or any(item != results[0] for item in results):
            return
        for source in moved(node):
            if source.const is not None or source in self.held or source.producer is None or source.is_output:
                continue
            if source in self.weights or source in self.biases:
                continue  # a constant behind its DequantizeLinear
            if all(user is node for user in source.users):
                self.held[source] = results[0]

    def _behind_move(self, node: Node) -> None:
        """What is moved without being quantized again is still what it was."""
        operands = [self.held.get(value) for value in moved(node)]
        first = operands[0]
        if first is None or first.dtype is DataType.INT16 or any(item != first for item in operands):
            return
        for value in node.outputs:
            if value.use_count:
                self.held.setdefault(value, first)


def moved(node: Node) -> list[Value]:
    """The operands whose elements an operator of :data:`edgec.ir.passes.wrap_moves.MOVES` moves."""
    chosen = MOVES[node.op]
    return [value for position, value in enumerate(node.inputs) if value is not None and _is_in(position, chosen)]


def _is_in(position: int, chosen: tuple[int, ...]) -> bool:
    return not chosen or position in chosen


def _moves(node: Node) -> bool:
    """Whether an operator only moves real numbers, and makes none that is not zero."""
    if node.domain or node.op not in MOVES or not node.operand(0).dtype.is_float:
        return False
    if node.op == "Resize" and node.attr_str("mode", "nearest") != "nearest":
        return False
    if node.op == "MaxPool" and len(node.outputs) > 1 and node.outputs[1].use_count:
        return False
    fill = node.input(2) if node.op == "Pad" else None
    return fill is None or (fill.const is not None and not fill.numpy().any())


def asks_for_unsigned(graph: Graph) -> bool:
    """Whether a graph runs on LiteRT's kernels for uint8: some weights are unsigned and not symmetric, or it has none.

    LiteRT's kernels for int8 want symmetric weights; those for uint8, its older form of quantization, do not, but have
    one scale for all channels.
    """
    unsigned, weights, asymmetric = False, False, False
    for node in graph.nodes:
        if node.domain or node.op not in ("QuantizeLinear", "DequantizeLinear"):
            continue
        whole = node.output if node.op == "QuantizeLinear" else node.operand(0)
        if whole.dtype in (DataType.INT8, DataType.INT16):
            return False
        unsigned = unsigned or whole.dtype is DataType.UINT8
        if whole.const is not None and any(_weighs(user, node.output) for user in node.output.users):
            zero = node.input(2)
            weights = True
            asymmetric = asymmetric or zero is None or zero.const is None or bool(np.any(zero.numpy() != 128))
    return unsigned and (asymmetric or not weights)


def _weighs(node: Node, value: Value) -> bool:
    return node.op in WEIGHTED and not node.domain and node.input(1) is value


WEIGHTED = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul"})
"""Operators whose second operand is weights."""

CLAMPS = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul", "Add", "Sub", "Mul"})
"""Operators whose integer kernels limit their result to the result tensor's range by themselves."""


SAME = "same"
"""Operands and result must have the same parameters; operands are requantized to the result's where they differ."""

LIKE = "like"
"""Quantizers give operands and result the same parameters; where they differ, the kernel gives the operand's, and its
result is requantized: what is averaged must not be limited to the result's range before."""

FREE = "free"
"""Any parameters on any side."""


@dataclass(frozen=True)
class Form:
    """How a node runs on integers: the parameters of its result, as asked for and as the kernel gives them."""

    wanted: Quantization
    given: Quantization
    constraint: str
