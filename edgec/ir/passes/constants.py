"""Questions that many passes ask of constants."""

from __future__ import annotations

import numpy as np

from edgec.ir.graph import Value
from edgec.ir.types import DataType


def scalar_of(value: Value | None) -> float | int | bool | None:
    """The element of a constant that holds exactly one (of any rank), else None."""
    if value is None or value.const is None or value.const.size != 1 or value.dtype is DataType.STRING:
        return None
    item = value.const.numpy().reshape(-1)[0].item()
    return item if isinstance(item, (float, int, bool)) else None


def uniform_of(value: Value | None) -> float | int | bool | None:
    """The element that every position of a constant holds, or None if there is no such element."""
    if value is None or value.const is None or value.dtype is DataType.STRING or value.const.size == 0:
        return None
    flat = value.const.numpy().reshape(-1)
    first = flat[0].item()
    if not isinstance(first, (float, int, bool)):
        return None
    if flat.size > 1 and (flat[-1] != flat[0] or not np.all(flat == flat[0])):
        return None
    return first


def integers_of(value: Value | None) -> list[int] | None:
    """The elements of an integer constant, or None if the value is absent or not constant."""
    if value is None or value.const is None or not value.dtype.is_integer:
        return None
    return [int(item) for item in value.const.numpy().reshape(-1)]


def same_type(a: Value, b: Value) -> bool:
    """Whether two values certainly have the same element type and the same static shape."""
    return a.dtype is b.dtype and a.dtype is not DataType.UNDEFINED and a.is_static and a.shape == b.shape
