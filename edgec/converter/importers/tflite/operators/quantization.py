"""Changes of representation: QUANTIZE, DEQUANTIZE, DENSIFY.

Source: LiteRT kernels quantize.cc, dequantize.cc, densify.cc.
"""

from __future__ import annotations

from edgec.converter.importers.tflite.reading import Call, is_quantized, reads


@reads("QUANTIZE", layouts=True)
def quantize(call: Call) -> None:
    """QuantizeLinear, after DequantizeLinear where the operand is quantized in another way."""
    if not is_quantized(call.result()):
        call.refuse(f"a result of {call.result().kind} without a scale")
    call.give(call.x())


@reads("DEQUANTIZE", layouts=True)
def dequantize(call: Call) -> None:
    """DequantizeLinear; half precision becomes single precision."""
    dtype = call.result().dtype
    if dtype is None:
        call.refuse(f"a result of {call.result().kind}")
    call.give(call.e.cast(call.x(), dtype))


@reads("DENSIFY", moves=True)
def densify(call: Call) -> None:
    """Nothing: sparse constants are read as dense ones."""
    call.give_plain(call.plain(0))


@reads("FAKE_QUANT")
def fake_quant(call: Call) -> None:
    """Refused: it belongs into training."""
    call.refuse("it simulates quantization in training; export the model for inference")
