"""The driver that walks a canonical graph through the table of lowerings; `check` and `convert` run the same walk."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from edgec.ir.graph import Graph, Node, Value
from edgec.ir.types import Array, DataType
from edgec.targets.base import Refusal
from edgec.targets.tflite.builder import Builder
from edgec.targets.tflite.call import Call, as_list, working_type
from edgec.targets.tflite.layout import FIXED, Choice, LayoutRule, Permutation, channels_last, identity, solve
from edgec.targets.tflite.layout.interface import is_last_already
from edgec.targets.tflite.layout.permutation import invert, stored
from edgec.targets.tflite.program import TENSOR_TYPES, Program, T
from edgec.targets.tflite.refusal import Refused, refuse
from edgec.targets.tflite.table import load_table

CONTROL_FLOW = frozenset({"If", "Loop", "Scan"})
"""Gone before the lowering where they can be: inlined, unrolled, or made a selection."""
MAX_RANK = 8
"""The highest rank of a tensor.  Source: kMaxDimensions of RuntimeShape and RESHAPE's check in the LiteRT kernels."""


def _kind(value: Value) -> str:
    return "no tensor" if value.type_proto is not None else value.dtype.name.lower()


def _type_rule(value: Value) -> str:
    """The rule by which a value without a tensor type is refused."""
    return "EDG407" if value.type_proto is not None or value.dtype is DataType.STRING else "EDG204"


class Lowerer:
    """Walks a canonical graph, node by node, through the table.

    Attributes:
        depth_to_space: whether a node of another kind may become DEPTH_TO_SPACE, which accelerators do not take.
    """

    def __init__(self, graph: Graph, io_layout: str = "ONNX", exact: bool = False, depth_to_space: bool = True):
        self.graph = graph
        self.depth_to_space = depth_to_space
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
            if entry is None and node.op in CONTROL_FLOW and not node.domain:
                refuse(
                    f"what decides over {node.op} is known only at run time, or it has too many steps to unroll",
                    "export the model with constant conditions and trip counts",
                    rule="EDG203",
                )
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
