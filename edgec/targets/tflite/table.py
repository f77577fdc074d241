"""The table from ONNX operator to lowering; the modules of :mod:`edgec.targets.tflite.operators` fill it."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass

from edgec.ir.graph import Node
from edgec.targets.tflite.call import Call
from edgec.targets.tflite.layout import FIXED, LayoutRule
from edgec.targets.tflite.program import T

Lowering = Callable[[Call], T | list[T]]


@dataclass(frozen=True)
class Entry:
    """One row of the table: how an operator is lowered, and in which layouts it can work."""

    lower: Lowering
    layout: LayoutRule | Callable[[Node], LayoutRule]


TABLE: dict[str, Entry] = {}

FAMILIES = (
    "activation",
    "attention",
    "bitwise",
    "convolution",
    "detection",
    "einsum",
    "elementwise",
    "generators",
    "indexing",
    "mathematics",
    "matrix",
    "movement",
    "normalization",
    "pooling",
    "quantization",
    "recurrent",
    "reduction",
    "resize",
    "sampling",
    "scattering",
    "selection",
    "spectral",
    "windows",
)


def lowers(*ops: str, layout: LayoutRule | Callable[[Node], LayoutRule] = FIXED) -> Callable[[Lowering], Lowering]:
    """Register a lowering for operators of the default domain."""

    def register(function: Lowering) -> Lowering:
        for op in ops:
            if op in TABLE:
                raise ValueError(f"{op} is lowered twice")
            TABLE[op] = Entry(function, layout)
        return function

    return register


def load_table() -> dict[str, Entry]:
    """The whole table."""
    for family in FAMILIES:
        importlib.import_module(f"edgec.targets.tflite.operators.{family}")
    return TABLE
