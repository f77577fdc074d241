"""Discrete Fourier transforms as products with constant matrices.

A transform of length N is N products per element; for the frames of audio models (N up to about a thousand) a matrix
product is as fast as anything LiteRT has.

Source: ONNX DFT-20, STFT-17.
"""

from __future__ import annotations

import numpy as np

from edgec.ir.types import Array, DataType
from edgec.targets.tflite.call import Call
from edgec.targets.tflite.program import T
from edgec.targets.tflite.refusal import refuse
from edgec.targets.tflite.table import lowers

LENGTH_LIMIT = 8192
"""A matrix of this size squared is 256 MB; longer transforms need a fast algorithm."""


def fourier(bins: int, samples: int, length: int, inverse: bool) -> tuple[Array, Array]:
    """Cosines and signed sines [bins, samples] of a transform of a given length, float32 from float64."""
    # whole numbers modulo the length keep the angles exact
    angle = 2 * np.pi * ((np.arange(bins)[:, None] * np.arange(samples)[None, :]) % length) / length
    sign, scale = (1.0, 1.0 / length) if inverse else (-1.0, 1.0)
    return (np.cos(angle) * scale).astype(np.float32), (sign * np.sin(angle) * scale).astype(np.float32)


def transform(call: Call, x: T, bins: int, length: int, inverse: bool) -> T:
    """The transform along the last but one axis of [..., samples, 1 or 2], giving [..., bins, 2].

    One product whose columns are real and imaginary parts in turn.
    """
    b = call.b
    samples, parts = min(x.shape[-2], length), x.shape[-1]
    if x.shape[-2] != samples:
        x = b.slice(x, (0,) * x.rank, (*x.shape[:-2], samples, parts))
    cosines, sines = fourier(bins, samples, length, inverse)
    # weights[(bin, part of the result), (sample, part of the operand)]
    weights = np.zeros((bins, 2, samples, parts), np.float32)
    weights[:, 0, :, 0], weights[:, 1, :, 0] = cosines, sines
    if parts == 2:
        weights[:, 0, :, 1], weights[:, 1, :, 1] = -sines, cosines
    flat = b.reshape(x, (*x.shape[:-2], samples * parts))
    y = b.fully_connected(flat, b.constant(weights.reshape(bins * 2, samples * parts)))
    return b.reshape(y, (*x.shape[:-2], bins, 2))


def _check(call: Call, length: int) -> None:
    if call.dtype(0) is not DataType.FLOAT:
        refuse(f"a transform of {call.dtype(0).name.lower()}", rule="EDG403")
    if not 0 < length <= LENGTH_LIMIT:
        refuse(f"a transform of length {length}; edgec writes matrices for up to {LENGTH_LIMIT}", rule="EDG405")


@lowers("DFT")
def discrete_fourier_transform(call: Call) -> T:
    """A product along the transformed axis, brought to the last but one place."""
    b, node = call.b, call.node
    dims, out = call.dims(0), call.out_dims()
    axis = int(call.const(2, "the axis").reshape(())) if call.has(2) else node.attr_int("axis", -2)
    axis %= len(dims)
    inverse, onesided = bool(node.attr_int("inverse", 0)), bool(node.attr_int("onesided", 0))
    if inverse and onesided:
        return _real_inverse(call, axis)
    length = int(call.const(1, "the length").reshape(())) if call.has(1) else dims[axis]
    _check(call, length)
    places = [a for a in range(len(dims)) if a != axis]
    order = [*places[:-1], axis, places[-1]]
    y = transform(call, b.transpose(call.raw(0), order), out[axis], length, inverse)
    return b.transpose(y, [order.index(a) for a in range(len(dims))])


def _real_inverse(call: Call, axis: int) -> T:
    """The real signal [..., length, 1] of a one-sided spectrum [..., length // 2 + 1, 2]."""
    b = call.b
    dims, length = call.dims(0), call.out_dims()[axis]
    _check(call, length)
    bins = min(dims[axis], length // 2 + 1)
    places = [a for a in range(len(dims)) if a != axis]
    order = [*places[:-1], axis, places[-1]]
    x = b.transpose(call.raw(0), order)
    x = b.slice(x, (0,) * x.rank, (*x.shape[:-2], bins, x.shape[-1]))
    cosines, sines = fourier(length, bins, length, inverse=True)
    # every bin but the first, and the middle one of an even length, stands for its mirror image too
    double = np.full(bins, 2.0, np.float32)
    double[0] = 1.0
    if length % 2 == 0 and bins == length // 2 + 1:
        double[-1] = 1.0
    weights = np.stack([cosines * double, -sines * double], axis=-1)[..., : x.shape[-1]]
    flat = b.reshape(x, (*x.shape[:-2], bins * x.shape[-1]))
    y = b.fully_connected(flat, b.constant(np.ascontiguousarray(weights.reshape(length, -1))))
    return b.transpose(b.reshape(y, (*x.shape[:-2], length, 1)), [order.index(a) for a in range(len(dims))])


@lowers("STFT")
def short_time_fourier_transform(call: Call) -> T:
    """Frames gathered from the signal, times the window, times the matrix of the transform."""
    b = call.b
    dims = call.dims(0)
    batch, samples = dims[0], dims[1]
    parts = dims[2] if len(dims) == 3 else 1
    _, frames, bins, _ = call.out_dims()
    step = int(call.const(1, "the frame step").reshape(()))
    if call.has(3):
        length = int(call.const(3, "the frame length").reshape(()))
    elif call.has(2):
        length = call.dims(2)[0]
    else:
        length = samples
    _check(call, length)
    places = np.arange(frames)[:, None] * step + np.arange(length)[None, :]
    framed = b.gather(b.reshape(call.raw(0), (batch, samples, parts)), b.constant(places.astype(np.int32)), 1)
    if call.has(2):
        framed = b.mul(framed, b.reshape(call.raw(2), (length, 1)))
    return transform(call, framed, bins, length, inverse=False)
