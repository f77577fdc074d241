"""Operators that make tensors from shapes and numbers.

Source: ONNX Range-11, ConstantOfShape-25, EyeLike-22, OneHot-11; LiteRT kernels range.cc, fill.cc, one_hot.cc.
"""

from __future__ import annotations

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from edgec.ir.graph import Tensor
from edgec.ir.types import DataType
from edgec.targets.tflite.builder import options
from edgec.targets.tflite.call import Call
from edgec.targets.tflite.operators.indexing import integer_indices
from edgec.targets.tflite.program import T
from edgec.targets.tflite.refusal import refuse
from edgec.targets.tflite.table import lowers

_INT64 = schema.TensorType.INT64


@lowers("Range")
def range_operator(call: Call) -> T:
    """RANGE; how many elements come out is known only at run time."""
    b = call.b
    dtype = call.out_dtype()
    if dtype not in (DataType.FLOAT, DataType.INT32, DataType.INT64):
        refuse(f"a range of {dtype.name.lower()}", rule="EDG403")
    operands = [b.reshape(call.raw(position), ()) for position in range(3)]
    return b.one("RANGE", operands, dtype, (-1,), options("RangeOptions"))


@lowers("ConstantOfShape")
def constant_of_shape(call: Call) -> T:
    """A constant where the shape is known, else FILL."""
    b = call.b
    value = call.node.attributes.get("value")
    fill = value.numpy().reshape(()) if isinstance(value, Tensor) else np.zeros((), np.float32)
    dtype = call.out_dtype()
    if call.node.output.is_static:
        shape = call.out_dims()
        return b.lazy(dtype, shape, lambda: np.full(shape, fill, dtype.numpy))
    rank = len(call.node.output.shape or ())
    return b.one("FILL", [call.raw(0), b.constant(fill, dtype)], dtype, (-1,) * rank, options("FillOptions"))


@lowers("Shape")
def shape(call: Call) -> T:
    """SHAPE, or the part of it asked for; a constant where it is known."""
    b, node = call.b, call.node
    rank = len(node.operand(0).shape or ())
    first, last, _ = slice(node.attr_int("start", 0), node.attributes.get("end")).indices(rank)
    if node.operand(0).is_static:
        return b.constant(np.array(call.dims(0)[first:last], np.int64))
    extents = b.one("SHAPE", [call.raw(0)], DataType.INT64, (rank,), options("ShapeOptions", outType=_INT64))
    return b.slice(extents, (first,), (max(last - first, 0),))


@lowers("Size")
def size(call: Call) -> T:
    """The product of the extents."""
    b, value = call.b, call.node.operand(0)
    if value.is_static:
        return b.constant(np.array(np.prod(value.dims, dtype=np.int64)))
    rank = len(value.shape or ())
    extents = b.one("SHAPE", [call.raw(0)], DataType.INT64, (rank,), options("ShapeOptions", outType=_INT64))
    return b.reduce("REDUCE_PROD", extents, [0], keep=False)


@lowers("EyeLike")
def eye_like(call: Call) -> T:
    """A constant: only the operand's shape matters."""
    rows, columns = call.out_dims()
    dtype = call.out_dtype()
    k = call.node.attr_int("k", 0)
    return call.b.lazy(dtype, (rows, columns), lambda: np.eye(rows, columns, k, dtype=dtype.numpy))


@lowers("OneHot")
def one_hot(call: Call) -> T:
    """ONE_HOT; the depth follows from the result's shape, negative indices count from its end."""
    b, node = call.b, call.node
    rank = len(call.dims(0))
    axis = node.attr_int("axis", -1) % (rank + 1)
    depth = call.out_dims()[axis]
    indices = integer_indices(call, 0)
    added = b.add(indices, b.scalar(depth, indices))
    indices = b.select(b.compare("LESS", indices, b.scalar(0, indices)), added, indices)
    off, on = _pair(call)
    operands = [indices, b.constant(np.array(depth, np.int32)), on, off]
    wanted = -1 if axis == rank else axis
    return b.one("ONE_HOT", operands, on.dtype, call.out_shape(), options("OneHotOptions", axis=wanted))


def _pair(call: Call) -> tuple[T, T]:
    """The two scalars of ``values``: what is written everywhere, and what at the index."""
    b = call.b
    if call.is_const(2):
        values = call.const(2, "the values").astype(call.out_dtype().numpy)
        return b.constant(values[0].reshape(()), call.out_dtype()), b.constant(values[1].reshape(()), call.out_dtype())
    values_tensor = call.raw(2)
    pieces = [b.reshape(b.slice(values_tensor, (place,), (1,)), ()) for place in range(2)]
    return pieces[0], pieces[1]
