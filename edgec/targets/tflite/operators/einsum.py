"""Einsum as transposes, reshapes, sums and batched matrix products, two operands at a time.

Source: ONNX Einsum-12; the equation's grammar is NumPy's.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from edgec.ir.types import DataType
from edgec.targets.tflite.call import Call
from edgec.targets.tflite.operators.elementwise import SMALL_INTEGERS
from edgec.targets.tflite.program import T
from edgec.targets.tflite.refusal import refuse
from edgec.targets.tflite.table import lowers


@dataclass
class _Term:
    """A tensor whose axes carry different labels."""

    x: T
    labels: list[str]

    def extent(self, label: str) -> int:
        return self.x.shape[self.labels.index(label)]


def parse(equation: str, ranks: Sequence[int]) -> tuple[list[list[str]], list[str]]:
    """The labels of every operand and of the result.

    The axes behind an ellipsis are labelled ``.0``, ``.1``, ... counted from the last one, so that they broadcast.

    Raises:
        Refused: the equation does not fit the operands.
    """
    text = equation.replace(" ", "")
    left, arrow, right = text.partition("->")
    terms = left.split(",")
    if len(terms) != len(ranks):
        refuse(f"the equation '{equation}' has {len(terms)} operands, the node {len(ranks)}")
    deepest = 0
    operands: list[list[str]] = []
    for term, rank in zip(terms, ranks):
        hidden = rank - len(term.replace("...", "")) if "..." in term else 0
        if hidden < 0 or (hidden == 0 and "..." not in term and len(term) != rank):
            refuse(f"the equation '{equation}' does not fit an operand of rank {rank}")
        deepest = max(deepest, hidden)
        operands.append(_labels(term, hidden))
    if arrow:
        return operands, _labels(right, deepest)
    seen = [label for labels in operands for label in labels]
    named = sorted({label for label in seen if seen.count(label) == 1 and not label.startswith(".")})
    return operands, [*_labels("...", deepest), *named]


def _labels(term: str, hidden: int) -> list[str]:
    before, dots, after = term.partition("...")
    between = [f".{place}" for place in range(hidden - 1, -1, -1)] if dots else []
    return [*before, *between, *after]


@lowers("Einsum")
def einsum(call: Call) -> T:
    """Operands joined from the left; a label is summed over as soon as nothing later needs it."""
    b, node = call.b, call.node
    dims = [call.dims(position) for position in range(len(node.inputs))]
    operands, wanted = parse(node.attr_str("equation"), [len(shape) for shape in dims])
    dtype = call.out_dtype()
    tensors = [call.raw(position) for position in range(len(node.inputs))]
    if dtype in SMALL_INTEGERS:
        tensors = [b.cast(x, DataType.INT32) for x in tensors]
    terms = [_squeezed(call, _diagonal(call, x, labels)) for x, labels in zip(tensors, operands)]
    result = terms[0]
    for number, term in enumerate(terms[1:], start=1):
        later = {label for other in terms[number + 1 :] for label in other.labels} | set(wanted)
        result = _joined(call, _summed(call, result, later | set(term.labels)), term, later)
    result = _summed(call, result, set(wanted))
    order = [result.labels.index(label) for label in wanted if label in result.labels]
    arranged = b.reshape(b.transpose(result.x, order), call.out_dims())
    made = b.cast(arranged, dtype)
    return b.copy(made) if made.producer is None else made


def _diagonal(call: Call, x: T, labels: list[str]) -> _Term:
    """One axis for a label that an operand carries twice: its diagonal, gathered from the flattened tensor."""
    distinct = list(dict.fromkeys(labels))
    if len(distinct) == len(labels):
        return _Term(x, labels)
    extents = [x.shape[labels.index(label)] for label in distinct]
    strides = [math.prod(x.shape[axis + 1 :]) for axis in range(x.rank)]
    places = np.zeros(extents, np.int64)
    for number, label in enumerate(distinct):
        shape = [1] * len(distinct)
        shape[number] = extents[number]
        step = sum(stride for stride, name in zip(strides, labels) if name == label)
        places = places + np.arange(extents[number]).reshape(shape) * step
    return _Term(call.b.gather(call.b.reshape(x, (x.size,)), call.b.constant(places.astype(np.int32)), 0), distinct)


def _squeezed(call: Call, term: _Term) -> _Term:
    """Without the axes of extent 1, which broadcast; the final reshape puts back those that stay."""
    kept = [label for label in term.labels if term.extent(label) != 1]
    return _Term(call.b.reshape(term.x, [term.extent(label) for label in kept]), kept)


def _summed(call: Call, term: _Term, needed: set[str]) -> _Term:
    """The sum over the labels that nothing needs."""
    axes = [axis for axis, label in enumerate(term.labels) if label not in needed]
    if not axes:
        return term
    return _Term(call.b.reduce("SUM", term.x, axes, keep=False), [label for label in term.labels if label in needed])


def _joined(call: Call, left: _Term, right: _Term, needed: set[str]) -> _Term:
    """The product of two operands, summed over the labels that both have and nothing needs."""
    right = _summed(call, right, needed | set(left.labels))
    left = _summed(call, left, needed | set(right.labels))
    shared = [label for label in left.labels if label in right.labels]
    inner = [label for label in shared if label not in needed]
    batch = [label for label in shared if label in needed]
    rows = [label for label in left.labels if label not in shared]
    columns = [label for label in right.labels if label not in shared]
    b = call.b
    first = _arranged(call, left, batch, rows, inner)
    second = _arranged(call, right, batch, inner, columns)
    extents = [
        *(left.extent(label) for label in (*batch, *rows)),
        *(right.extent(label) for label in columns),
    ]
    if not inner or first.dtype is not DataType.FLOAT:
        product = b.mul(b.reshape(first, (*first.shape, 1)), b.reshape(second, (second.shape[0], 1, *second.shape[1:])))
        y = b.reduce("SUM", product, [2], keep=False)
    elif second.const is not None and second.shape[0] == 1:
        weights = b.transpose(b.reshape(second, second.shape[1:]), (1, 0))
        y = b.fully_connected(b.reshape(first, first.shape[1:]), weights)
    else:
        y = b.batch_matmul(first, second)
    return _Term(b.reshape(y, extents), [*batch, *rows, *columns])


def _arranged(call: Call, term: _Term, *groups: list[str]) -> T:
    """The tensor with its axes merged into one per group of labels."""
    order = [term.labels.index(label) for group in groups for label in group]
    shape = [math.prod(term.extent(label) for label in group) for group in groups]
    return call.b.reshape(call.b.transpose(term.x, order), shape)
