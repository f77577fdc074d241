"""Element types of the intermediate representation: ONNX's own, with their NumPy counterparts.

Source: ONNX ``TensorProto.DataType``; the types NumPy lacks come from ``ml_dtypes``, which ``onnx`` depends on.
"""

from __future__ import annotations

import enum
from functools import cached_property
from typing import Any

import numpy as np

Dim = int | str | None
"""A known extent, a symbolic one, or an unnamed unknown one."""

Shape = tuple[Dim, ...]
Array = np.ndarray[Any, np.dtype[Any]]


class DataType(enum.IntEnum):
    """ONNX tensor element types, numbered as in ``TensorProto.DataType``."""

    UNDEFINED = 0
    FLOAT = 1
    UINT8 = 2
    INT8 = 3
    UINT16 = 4
    INT16 = 5
    INT32 = 6
    INT64 = 7
    STRING = 8
    BOOL = 9
    FLOAT16 = 10
    DOUBLE = 11
    UINT32 = 12
    UINT64 = 13
    COMPLEX64 = 14
    COMPLEX128 = 15
    BFLOAT16 = 16
    FLOAT8E4M3FN = 17
    FLOAT8E4M3FNUZ = 18
    FLOAT8E5M2 = 19
    FLOAT8E5M2FNUZ = 20
    UINT4 = 21
    INT4 = 22
    FLOAT4E2M1 = 23
    FLOAT8E8M0 = 24
    UINT2 = 25
    INT2 = 26

    @cached_property
    def numpy(self) -> np.dtype[Any]:
        """The NumPy dtype that holds one element (4-bit types are held one per byte)."""
        simple = _NUMPY.get(self)
        if simple is not None:
            return simple
        import ml_dtypes

        names = {
            DataType.BFLOAT16: "bfloat16",
            DataType.FLOAT8E4M3FN: "float8_e4m3fn",
            DataType.FLOAT8E4M3FNUZ: "float8_e4m3fnuz",
            DataType.FLOAT8E5M2: "float8_e5m2",
            DataType.FLOAT8E5M2FNUZ: "float8_e5m2fnuz",
            DataType.UINT4: "uint4",
            DataType.INT4: "int4",
            DataType.FLOAT4E2M1: "float4_e2m1fn",
            DataType.FLOAT8E8M0: "float8_e8m0fnu",
            DataType.UINT2: "uint2",
            DataType.INT2: "int2",
        }
        if self not in names:
            raise TypeError(f"{self.name} has no NumPy dtype")
        found: np.dtype[Any] = np.dtype(getattr(ml_dtypes, names[self]))
        return found

    @property
    def label(self) -> str:
        """The name that users read: ``float32`` and ``float64`` for FLOAT and DOUBLE, else ONNX's in lower case."""
        return {DataType.FLOAT: "float32", DataType.DOUBLE: "float64"}.get(self, self.name.lower())

    @cached_property
    def bits(self) -> int:
        """Bits per element as ONNX stores them in ``raw_data``; 0 for types without a fixed size."""
        if self in (DataType.UNDEFINED, DataType.STRING):
            return 0
        if self in (DataType.UINT4, DataType.INT4, DataType.FLOAT4E2M1):
            return 4
        if self in (DataType.UINT2, DataType.INT2):
            return 2
        return self.numpy.itemsize * 8

    @property
    def is_float(self) -> bool:
        return self in (DataType.FLOAT, DataType.FLOAT16, DataType.DOUBLE, DataType.BFLOAT16)

    @property
    def is_integer(self) -> bool:
        return self in _INTEGERS

    @staticmethod
    def of(dtype: np.dtype[Any] | type[Any]) -> DataType:
        """The element type of a NumPy dtype.

        Raises:
            TypeError: the dtype has no ONNX counterpart.
        """
        wanted = np.dtype(dtype)
        for element, known in _NUMPY.items():
            if known == wanted:
                return element
        for element in DataType:
            lacking = element not in _NUMPY and element not in (DataType.UNDEFINED, DataType.STRING)
            if lacking and element.numpy == wanted:
                return element
        if wanted.kind in "OUS":
            return DataType.STRING
        raise TypeError(f"no ONNX element type for {wanted}")


_NUMPY: dict[DataType, np.dtype[Any]] = {
    DataType.FLOAT: np.dtype(np.float32),
    DataType.UINT8: np.dtype(np.uint8),
    DataType.INT8: np.dtype(np.int8),
    DataType.UINT16: np.dtype(np.uint16),
    DataType.INT16: np.dtype(np.int16),
    DataType.INT32: np.dtype(np.int32),
    DataType.INT64: np.dtype(np.int64),
    DataType.BOOL: np.dtype(np.bool_),
    DataType.FLOAT16: np.dtype(np.float16),
    DataType.DOUBLE: np.dtype(np.float64),
    DataType.UINT32: np.dtype(np.uint32),
    DataType.UINT64: np.dtype(np.uint64),
    DataType.COMPLEX64: np.dtype(np.complex64),
    DataType.COMPLEX128: np.dtype(np.complex128),
}

_INTEGERS = frozenset(
    {
        DataType.UINT8,
        DataType.INT8,
        DataType.UINT16,
        DataType.INT16,
        DataType.INT32,
        DataType.INT64,
        DataType.UINT32,
        DataType.UINT64,
    }
)


def is_static(shape: Shape | None) -> bool:
    """Whether the rank and every extent are known."""
    return shape is not None and all(isinstance(dim, int) for dim in shape)


def static(shape: Shape | None) -> tuple[int, ...]:
    """The shape as plain integers.

    Raises:
        ValueError: an extent or the rank is unknown.
    """
    if shape is None:
        raise ValueError("the rank is unknown")
    dims: list[int] = []
    for dim in shape:
        if not isinstance(dim, int):
            raise ValueError(f"extent {dim!r} is unknown")
        dims.append(dim)
    return tuple(dims)
