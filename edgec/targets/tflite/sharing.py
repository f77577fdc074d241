"""Keep LiteRT's memory planner from overwriting a tensor that is still needed.

LiteRT lets RESHAPE and its like give out their operand's memory, and lets some operators write their result over an
operand that nobody else uses.  The second rule counts the uses of the operand and of the tensor at the root of its
memory, but not of the tensors in between: in ``b = a + 1; r = reshape(b); s = softmax(r); t = f(b)`` the sum takes over
the memory of ``a``, and the softmax then overwrites ``b`` before ``f`` reads it.  Only operators outside of a delegate
are planned so, which is why such a model is right with XNNPACK and wrong without.

Source: ArenaPlanner::IdentifyInPlaceTensors in LiteRT's arena_planner.cc, and the registrations of the kernels.
"""

from __future__ import annotations

from collections import Counter

import numpy as np

from edgec.ir.graph import Tensor
from edgec.ir.types import DataType
from edgec.targets.tflite.builder import options
from edgec.targets.tflite.program import Op, Program, T

PASSES_ON = frozenset({"RESHAPE", "SQUEEZE", "EXPAND_DIMS", "BITCAST"})
"""Operators whose result is their first operand's memory."""

OVERWRITES = {"ADD": 2, "SUB": 2, "MUL": 2, "DIV": 2, "SOFTMAX": 1, "DYNAMIC_UPDATE_SLICE": 1}
"""Operators that may write their result over one of their first operands, and how many of these qualify."""


def protect(program: Program) -> None:
    """Copy an operand where the operator would otherwise overwrite what a later one reads."""
    last_use: dict[T, int] = {}
    uses: Counter[T] = Counter([*program.inputs, *program.outputs])
    for number, op in enumerate(program.ops):
        for tensor in op.inputs:
            if tensor is not None:
                last_use[tensor] = number
                uses[tensor] += 1
    given, handed_out = set(program.inputs), set(program.outputs)
    roots: dict[T, T] = {}
    latest: dict[T, int] = {}  # per root, the last operator that reads some tensor in its memory
    copies: list[tuple[int, int, T]] = []
    for number, op in enumerate(program.ops):
        position = _shared(op, uses, given, handed_out)
        if position is None:
            continue
        operand, result = op.inputs[position], op.outputs[0]
        assert operand is not None
        root = roots.get(operand, operand)
        if op.code in OVERWRITES:
            if uses[root] > 1:
                continue
            if latest.get(root, -1) > number:
                copies.append((number, position, operand))
                continue
        roots[result] = root
        latest[root] = max(latest.get(root, -1), last_use.get(result, -1))
    for number, position, operand in reversed(copies):
        program.ops.insert(number, _copy(program.ops[number], position, operand))
    if copies:
        program.relink()


def _shared(op: Op, uses: Counter[T], given: set[T], handed_out: set[T]) -> int | None:
    """The operand whose memory LiteRT would take for the result, before it looks at the memory's root."""
    overwrites = op.code in OVERWRITES
    if not (overwrites or op.code in PASSES_ON) or op.outputs[0] in handed_out:
        return None
    for position, operand in enumerate(op.inputs[: OVERWRITES.get(op.code, 1)]):
        if operand is None or operand.const is not None or operand in given:
            continue
        result = op.outputs[0]
        same = -1 in (*operand.shape, *result.shape) or operand.size == result.size
        if not overwrites or (same and operand.dtype.bits == result.dtype.bits and uses[operand] == 1):
            return position
    return None


def _copy(op: Op, position: int, operand: T) -> Op:
    """A SLICE of everything, which has memory of its own, now read by the operator instead."""
    made = T(f"{operand.name}_copy", operand.dtype, operand.shape)
    made.scale, made.zero_point, made.axis = operand.scale, operand.zero_point, operand.axis
    parameters = [
        T(f"{made.name}_{name}", DataType.INT32, (operand.rank,), Tensor.of(np.array(values, np.int32), DataType.INT32))
        for name, values in (("begin", [0] * operand.rank), ("size", operand.shape))
    ]
    op.inputs[position] = made
    return Op("SLICE", [operand, *parameters], [made], options("SliceOptions"), op.sources)
