"""Pooling over images.

Source: LiteRT kernels pooling.cc (padding takes no part in averages); ONNX AveragePool-22, MaxPool-22.
"""

from __future__ import annotations

from ai_edge_litert import schema_py_generated as schema

from edgec.converter.importers.tflite.operators.convolution import SAME, padding
from edgec.converter.importers.tflite.reading import Call, reads


@reads("AVERAGE_POOL_2D", "MAX_POOL_2D")
def pool(call: Call) -> None:
    """AveragePool without the padding, or MaxPool."""
    options = call.options(schema.Pool2DOptions)
    kernel, strides = [options.FilterHeight(), options.FilterWidth()], [options.StrideH(), options.StrideW()]
    if any(number < 1 for number in (*kernel, *strides)):
        raise ValueError(f"a window of {kernel} by {strides} at '{call.op.name}'")
    x = call.image()
    pads = padding(x, options.Padding() == SAME, kernel, strides, [1, 1])
    op = "MaxPool" if call.op.code == "MAX_POOL_2D" else "AveragePool"
    y = call.e.one(op, x, kernel_shape=kernel, strides=strides, **pads)
    call.give_image(call.activated(y, options.FusedActivationFunction()))
