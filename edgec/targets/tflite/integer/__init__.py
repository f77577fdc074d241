"""Lowering of QuantizeLinear/DequantizeLinear graphs to LiteRT's integer tensors and kernels."""
