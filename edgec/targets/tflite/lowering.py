"""The table from ONNX operator to lowering, and the driver that walks a canonical graph through it.

A lowering is a function of one :class:`Call` that returns the result tensor (or a list of them) in the layout the
analysis chose.  It finds its operands with ``call.x(i)``, maps ONNX axes with ``call.axis(a)`` and appends operators
with ``call.b``.  What cannot be expressed is refused with :func:`refuse`; `check` and `convert` run the same walk.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NoReturn

import numpy as np

from edgec.ir.graph import Graph, Node, Value
from edgec.ir.types import Array, DataType
from edgec.targets.base import Refusal
from edgec.targets.tflite.builder import Builder
from edgec.targets.tflite.integer.storage import Form
from edgec.targets.tflite.layout import FIXED, Choice, LayoutRule, Permutation, channels_last, identity, solve
from edgec.targets.tflite.layout.interface import is_last_already
from edgec.targets.tflite.layout.permutation import invert, stored
from edgec.targets.tflite.program import TENSOR_TYPES, Program, T


class Refused(Exception):
    """A lowering cannot express its node; carries the rule, the reason and what would help."""

    def __init__(self, reason: str, help: str = "", rule: str = "EDG231"):
        super().__init__(reason)
        self.reason, self.help, self.rule = reason, help, rule


def refuse(reason: str, help: str = "", rule: str = "EDG231") -> NoReturn:
    """Refuse the node at hand."""
    raise Refused(reason, help, rule)


MAX_RANK = 8
"""The highest rank of a tensor.  Source: kMaxDimensions of RuntimeShape and RESHAPE's check in the LiteRT kernels."""

Lowering = Callable[["Call"], "T | list[T]"]


def as_list(results: T | list[T]) -> list[T]:
    """What a lowering returned, as a list."""
    return [results] if isinstance(results, T) else results


@dataclass(frozen=True)
class Entry:
    """One row of the table: how an operator is lowered, and in which layouts it can work."""

    lower: Lowering
    layout: LayoutRule | Callable[[Node], LayoutRule]


TABLE: dict[str, Entry] = {}

FAMILIES = (
    "activation",
    "attention",
    "bitwise",
    "convolution",
    "detection",
    "einsum",
    "elementwise",
    "generators",
    "indexing",
    "mathematics",
    "matrix",
    "movement",
    "normalization",
    "pooling",
    "quantization",
    "recurrent",
    "reduction",
    "resize",
    "sampling",
    "scattering",
    "selection",
    "spectral",
    "windows",
)


def lowers(*ops: str, layout: LayoutRule | Callable[[Node], LayoutRule] = FIXED) -> Callable[[Lowering], Lowering]:
    """Register a lowering for operators of the default domain."""

    def register(function: Lowering) -> Lowering:
        for op in ops:
            if op in TABLE:
                raise ValueError(f"{op} is lowered twice")
            TABLE[op] = Entry(function, layout)
        return function

    return register


def load_table() -> dict[str, Entry]:
    """The whole table."""
    for family in FAMILIES:
        importlib.import_module(f"edgec.targets.tflite.operators.{family}")
    return TABLE


def working_type(dtype: DataType) -> DataType:
    """The element type that values are computed in: LiteRT's CPU kernels have no float16, so float32 stands in."""
    return DataType.FLOAT if dtype is DataType.FLOAT16 else dtype


def _kind(value: Value) -> str:
    return "no tensor" if value.type_proto is not None else value.dtype.name.lower()


def _type_rule(value: Value) -> str:
    """The rule by which a value without a tensor type is refused."""
    return "EDG407" if value.type_proto is not None or value.dtype is DataType.STRING else "EDG204"


class Call:
    """One node while it is being lowered."""

    def __init__(self, lowerer: Lowerer, node: Node, choice: Choice, form: Form | None = None):
        self.lowerer = lowerer
        self.form = form
        self.node = node
        self.choice = choice
        self.b = lowerer.builder

    # operands

    def has(self, position: int) -> bool:
        """Whether an optional operand is there."""
        return self.node.input(position) is not None

    def x(self, position: int = 0) -> T:
        """An operand in the layout that the analysis chose for it (constants: ONNX's own unless chosen)."""
        value = self.node.operand(position)
        permutation = self.choice.inputs[position] if position < len(self.choice.inputs) else None
        return self._tensor(value, permutation)

    def raw(self, position: int) -> T:
        """An operand in ONNX's own layout."""
        return self._tensor(self.node.operand(position), None)

    def _tensor(self, value: Value, permutation: Permutation | None) -> T:
        """A value as the node computes with it: as integers in integer form, as floats otherwise."""
        if self.form is None or not value.dtype.is_float:
            return self.lowerer.tensor(value, permutation)
        return self.lowerer.integers.operand(value, permutation, self.form)

    def aligned(self, position: int) -> T:
        """An operand of an elementwise operator, brought to the result's rank by axes of extent 1."""
        value = self.node.operand(position)
        permutation = self.choice.outputs[0]
        own = self.choice.inputs[position] or ()
        x = self._tensor(value, self.choice.inputs[position])
        rank, missing = len(permutation), len(permutation) - len(own)
        if missing == 0 or x.rank == 0:
            return x
        extents = dict(zip((axis + missing for axis in own), x.shape))
        shape = tuple(extents.get(axis, 1) for axis in permutation)
        while len(shape) > x.rank and shape[0] == 1 and shape[1:] != x.shape and len(shape) > 1:
            if all(d == 1 for d in shape[: len(shape) - x.rank]) and shape[len(shape) - x.rank :] == x.shape:
                return x
            break
        if shape[rank - x.rank :] == x.shape and all(d == 1 for d in shape[: rank - x.rank]):
            return x
        return self.b.reshape(x, shape)

    def is_const(self, position: int) -> bool:
        """Whether an operand is there and constant."""
        value = self.node.input(position)
        return value is not None and value.const is not None

    def const(self, position: int, what: str) -> Array:
        """The elements of an operand that must be constant, in ONNX's own layout.

        Raises:
            Refused: it is computed at run time.
        """
        value = self.node.operand(position)
        if value.const is None:
            refuse(
                f"{what} is computed at run time ('{value.name}'); LiteRT needs it constant",
                f"make '{value.name}' an initializer",
                rule="EDG401",
            )
        return value.const.numpy()

    def optional_const(self, position: int, what: str) -> Array | None:
        """The same for an operand that may be left out."""
        return self.const(position, what) if self.has(position) else None

    # shapes and axes

    def dims(self, position: int = 0) -> tuple[int, ...]:
        """The static ONNX shape of an operand.

        Raises:
            Refused: it is not static.
        """
        value = self.node.operand(position)
        if not value.is_static:
            refuse(f"the shape of '{value.name}' is known only at run time", rule="EDG402")
        return value.dims

    def out_dims(self, position: int = 0) -> tuple[int, ...]:
        """The static ONNX shape of a result.

        Raises:
            Refused: it is not static.
        """
        value = self.node.outputs[position]
        if not value.is_static:
            refuse(f"the shape of the result '{value.name}' is known only at run time", rule="EDG402")
        return value.dims

    def out_shape(self, position: int = 0) -> tuple[int, ...]:
        """The shape of a result in its chosen layout."""
        return stored(self.out_dims(position), self.choice.outputs[position])

    def out_dtype(self, position: int = 0) -> DataType:
        """The element type a result is computed in."""
        return working_type(self.node.outputs[position].dtype)

    def dtype(self, position: int = 0) -> DataType:
        """The element type an operand is computed in."""
        return working_type(self.node.operand(position).dtype)

    def axis(self, axis: int, position: int = 0) -> int:
        """The stored axis of an operand's ONNX axis (which may be negative)."""
        value = self.node.operand(position)
        rank = value.rank
        permutation = self.choice.inputs[position] or identity(rank)
        if not -rank <= axis < max(rank, 1):
            refuse(f"axis {axis} is outside of rank {rank}")
        return permutation.index(axis % rank)

    def spread(self, values: Sequence[int], axes: Sequence[int] | None = None, fill: int = 0) -> list[int]:
        """Per-axis numbers of the first operand's ONNX axes, in stored order."""
        rank = self.node.operand(0).rank
        permutation = self.choice.inputs[0] or identity(rank)
        full = [fill] * rank
        for axis, value in zip(range(rank) if axes is None else axes, values):
            full[axis % rank] = int(value)
        return [full[axis] for axis in permutation]


class Lowerer:
    """Walks a canonical graph, node by node, through the table."""

    def __init__(self, graph: Graph, io_layout: str = "ONNX", exact: bool = False):
        self.graph = graph
        self.table = load_table()
        self.builder = Builder()
        self.refusals: list[Refusal] = []
        self.layouts: dict[str, Permutation] = {}
        self.notes: list[str] = []
        self._stored: dict[Value, tuple[T, Permutation]] = {}
        self._arranged: dict[tuple[Value, Permutation], T] = {}
        self._floats: dict[tuple[Value, Permutation], T] = {}
        from edgec.targets.tflite.integer.lowering import Integers

        self.integers = Integers(self, graph, exact)
        self._io_layout = io_layout

    def run(self) -> Program:
        """Lower everything; what was refused is in :attr:`refusals`, and then the program is not usable."""
        self.builder.reserve([*(value.name for value in self.graph.inputs), *self.graph.output_names])
        self._inputs()
        outputs = [(value, self._io_permutation(value)) for value in self.graph.outputs if value.shape is not None]
        given = {value: self._stored[value][1] for value in self.graph.inputs if value in self._stored}
        choices = solve(self.graph, self._rule_of, given, outputs)
        for node in self.graph.nodes:
            self._lower(node, choices[node])
        self._outputs()
        return self.builder.program

    # graph inputs and outputs

    def _io_permutation(self, value: Value) -> Permutation:
        rank = value.rank
        image = rank == 4 and (value.dtype.is_float or value in self.integers.storage.held)
        turned = self._io_layout == "NHWC" and image and not is_last_already(value)
        return channels_last(4) if turned else identity(rank)

    def _inputs(self) -> None:
        program = self.builder.program
        for value in self.graph.inputs:
            if value.type_proto is not None or value.dtype not in TENSOR_TYPES or value.shape is None:
                self._refuse_value(value, "input")
                continue
            permutation = self._io_permutation(value)
            shape = stored([dim if isinstance(dim, int) else -1 for dim in value.shape], permutation)
            tensor = T(value.name, value.dtype, shape)
            if permutation != identity(value.rank):
                self.layouts[value.name] = permutation
            program.inputs.append(tensor)
            program.input_names.append(value.name)
            self.builder.hint = value.name
            working = self.integers.input(value, self.builder.cast(tensor, working_type(value.dtype)))
            self._stored[value] = (working, permutation)

    def _outputs(self) -> None:
        program = self.builder.program
        taken = {id(tensor) for tensor in program.inputs}
        for name, value in zip(self.graph.output_names, self.graph.outputs):
            if value.type_proto is not None or value.dtype not in TENSOR_TYPES or value.shape is None:
                self._refuse_value(value, "output")
                continue
            if value.const is None and value not in self._stored:
                continue
            permutation = self._io_permutation(value)
            self.builder.hint = name
            self.builder.sources = ()
            tensor = self.integers.output(value, self.tensor(value, permutation))
            tensor = self.builder.cast(tensor, value.dtype)
            if id(tensor) in taken or tensor.const is not None:
                tensor = self.builder.copy(tensor)
            taken.add(id(tensor))
            if permutation != identity(value.rank):
                self.layouts[name] = permutation
            if name not in program.input_names:
                tensor.name = name
            program.outputs.append(tensor)
            program.output_names.append(name)

    def _refuse_value(self, value: Value, role: str) -> None:
        producer = value.producer
        self.refusals.append(
            Refusal(
                producer.name if producer else value.name,
                producer.op if producer else role,
                producer.sources if producer else (),
                _type_rule(value),
                f"the {role} '{value.name}' is {_kind(value)}, which LiteRT has no tensor type for",
            )
        )

    def mark(self) -> Callable[[], None]:
        """Remember where the program stands; the function returned takes back what was appended since."""
        program, caches = self.builder.program, (self._arranged, self._floats)
        length, sizes = len(program.ops), [len(cache) for cache in caches]

        def undo() -> None:
            del program.ops[length:]
            for cache, size in zip(caches, sizes):
                while len(cache) > size:
                    cache.popitem()

        return undo

    # values

    def tensor(self, value: Value, permutation: Permutation | None) -> T:
        """A value stored under a permutation (ONNX's own for None), as floats where it is held as integers."""
        x = self.arranged(value, permutation)
        if x.scale is None or not value.dtype.is_float:
            return x
        wanted = permutation if permutation is not None else identity(len(value.shape or ()))
        if (value, wanted) not in self._floats:
            self._floats[value, wanted] = self.builder.dequantize(x)
        return self._floats[value, wanted]

    def arranged(self, value: Value, permutation: Permutation | None) -> T:
        """A value as it is held, stored under a permutation; transposed at most once per permutation."""
        wanted = permutation if permutation is not None else identity(len(value.shape or ()))
        known = self._arranged.get((value, wanted))
        if known is not None:
            return known
        if value.const is not None:
            made = self._constant(value, wanted)
        else:
            source, have = self._stored[value]
            steps = [invert(have)[axis] for axis in wanted]
            hint, self.builder.hint = self.builder.hint, source.name
            made = self.builder.transpose(source, steps)
            self.builder.hint = hint
        self._arranged[value, wanted] = made
        return made

    def _constant(self, value: Value, permutation: Permutation) -> T:
        const = value.const
        assert const is not None
        dtype = working_type(const.dtype)
        if dtype not in TENSOR_TYPES:
            refuse(f"the constant '{value.name}' is {dtype.name.lower()}", rule="EDG204")
        shape = stored(const.shape, permutation)
        plain = permutation == identity(len(permutation)) and dtype is const.dtype

        def load() -> Array:
            array = const.numpy()
            if dtype is not const.dtype:
                array = array.astype(dtype.numpy)
            return array if plain else np.ascontiguousarray(array.transpose(permutation))

        return self.builder.lazy(dtype, shape, load, value.name)

    # nodes

    def _rule_of(self, node: Node) -> LayoutRule:
        entry = self.table.get(node.op) if not node.domain else None
        if entry is None:
            return FIXED
        rule = self.integers.rule_of(node)
        if rule is None:
            rule = entry.layout if isinstance(entry.layout, LayoutRule) else entry.layout(node)
        known = all(value is None or value.shape is not None for value in (*node.inputs, *node.outputs))
        return rule if known else FIXED

    def _lower(self, node: Node, choice: Choice) -> None:
        builder = self.builder
        builder.sources = node.sources
        builder.hint = node.outputs[0].name
        undo, start = self.mark(), len(builder.program.ops)
        try:
            entry = self.table.get(node.op) if not node.domain else None
            if entry is None:
                domain = f" of domain '{node.domain}'" if node.domain else ""
                refuse(f"LiteRT has no operator for {node.op}{domain}, and edgec no composition of operators")
            made = self.integers.lower(node, choice, entry)
            if made is None:
                self._check_types(node)
                made = self._without_elements(node, choice) or as_list(entry.lower(Call(self, node, choice)))
                made = self.integers.hold(node, made)
            self._check_ranks(start)
            self._accept(node, choice, made)
        except Refused as refused:
            undo()
            self.refusals.append(Refusal(node.name, node.op, node.sources, refused.rule, refused.reason, refused.help))
            for value, permutation in zip(node.outputs, choice.outputs):
                self._stand_in(value, permutation)

    def _without_elements(self, node: Node, choice: Choice) -> list[T]:
        """Results without elements need no operator (many LiteRT kernels refuse them); empty where one has elements."""
        if not all(value.is_static and 0 in value.dims for value in node.outputs):
            return []
        call = Call(self, node, choice)
        return [
            self.builder.constant(np.zeros(call.out_shape(position), call.out_dtype(position).numpy))
            for position in range(len(node.outputs))
        ]

    def _check_ranks(self, start: int) -> None:
        for op in self.builder.program.ops[start:]:
            rank = max(tensor.rank for tensor in (*op.inputs, *op.outputs) if tensor is not None)
            if rank > MAX_RANK:
                refuse(f"it needs a tensor of rank {rank}; LiteRT's kernels go up to {MAX_RANK}")

    def _check_types(self, node: Node) -> None:
        for value in (*node.inputs, *node.outputs):
            if value is None or (value.use_count == 0 and value in node.outputs):
                continue
            if value.type_proto is not None or value.dtype not in TENSOR_TYPES:
                refuse(f"'{value.name}' is {_kind(value)}, which LiteRT has no tensor type for", rule=_type_rule(value))
            if value.shape is None:
                refuse(f"the rank of '{value.name}' is known only at run time", rule="EDG402")
            if value.dtype in (DataType.DOUBLE, DataType.UINT64, DataType.UINT16, DataType.UINT32, DataType.INT16):
                refuse(
                    f"'{value.name}' is {value.dtype.name.lower()}, which LiteRT's CPU kernels do not compute",
                    "export the model in float32",
                    rule="EDG403",
                )

    def _accept(self, node: Node, choice: Choice, made: Sequence[T]) -> None:
        for value, permutation, tensor in zip(node.outputs, choice.outputs, made):
            if not value.use_count:
                continue
            if value.is_static:
                expected = stored(value.dims, permutation)
                if tensor.shape != expected and -1 not in tensor.shape:
                    raise AssertionError(
                        f"{node.op} '{node.name}' came out as {list(tensor.shape)}, should be {list(expected)}"
                    )
                tensor_shape = expected if tensor.const is None else tensor.shape
                if tensor.producer is not None:
                    tensor.shape = tensor_shape
            if tensor.dtype is not self.integers.dtype_of(value):
                raise AssertionError(
                    f"{node.op} '{node.name}' came out as {tensor.dtype.name}, should be {value.dtype.name}"
                )
            self._stored[value] = (tensor, permutation)
            self._arranged[value, permutation] = tensor

    def _stand_in(self, value: Value, permutation: Permutation) -> None:
        """A tensor in place of a refused result, so that the walk can go on and report everything at once."""
        shape = value.shape if value.shape is not None else ()
        if value.shape is None or value.dtype not in TENSOR_TYPES:
            value_dtype = DataType.FLOAT
        else:
            value_dtype = working_type(value.dtype)
        extents = [dim if isinstance(dim, int) else -1 for dim in shape]
        tensor = T(self.builder.name(value.name), value_dtype, stored(extents, permutation))
        self._stored[value] = (tensor, permutation)
