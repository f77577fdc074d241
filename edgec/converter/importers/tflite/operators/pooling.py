"""Pooling over images.

Source: LiteRT kernels pooling.cc (padding takes no part in averages); ONNX AveragePool-22, MaxPool-22.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from edgec.converter.importers.tflite.operators.convolution import SAME, padding
from edgec.converter.importers.tflite.reading import Call, reads
from edgec.ir.passes.wrap_moves import UPWARDS
from edgec.ir.types import DataType

MOST = 512
"""Windows of up to this many elements are averaged as LiteRT does, ties included."""


@reads("AVERAGE_POOL_2D", "MAX_POOL_2D")
def pool(call: Call) -> None:
    """AveragePool without the padding (of 8 bits: of the plain integers, ties rounded as LiteRT does), or MaxPool."""
    options = call.options(schema.Pool2DOptions)
    kernel, strides = [options.FilterHeight(), options.FilterWidth()], [options.StrideH(), options.StrideW()]
    if any(number < 1 for number in (*kernel, *strides)):
        raise ValueError(f"a window of {kernel} by {strides} at '{call.op.name}'")
    attributes: dict[str, Any] = {"kernel_shape": kernel, "strides": strides}
    same, activation = options.Padding() == SAME, options.FusedActivationFunction()
    integers = call.alike() and call.implied(activation)
    if call.op.code == "MAX_POOL_2D":
        call.stored = integers
        x = call.image()
        y = call.e.one("MaxPool", x, **attributes, **padding(x, same, kernel, strides, [1, 1]))
        call.give_image(y if integers else call.activated(y, activation))
        return
    if integers and call.result().dtype in (DataType.INT8, DataType.UINT8) and kernel[0] * kernel[1] <= MOST:
        _average_of_integers(call, attributes, same)
        return
    x = call.image()
    y = call.e.one("AveragePool", x, **attributes, **padding(x, same, kernel, strides, [1, 1]))
    call.give_image(call.activated(y, activation))


def _average_of_integers(call: Call, attributes: dict[str, Any], same: bool) -> None:
    """The average of the stored integers, ties rounded away from zero.

    QuantizeLinear rounds ties to even, LiteRT away from the integer 0 (which is not the real number 0): so the plain
    integers are averaged, made larger by a part that decides ties and nothing else.

    Source: LiteRT kernels, AveragePool in reference/integer_ops/pooling.h and reference/pooling.h.
    """
    e = call.e
    call.stored = True
    x = call.image()
    zero = e.constant(np.zeros((), x.dtype.numpy), "zero_point")
    real = e.one("DequantizeLinear", x, e.constant(np.array(1 + UPWARDS, np.float32), "scale"), zero)
    pads = padding(x, same, attributes["kernel_shape"], attributes["strides"], [1, 1])
    y = e.one("AveragePool", real, **attributes, **pads)
    call.give_image(e.one("QuantizeLinear", y, e.constant(np.array(1, np.float32), "scale"), zero))
