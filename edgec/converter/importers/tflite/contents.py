"""What a LiteRT flatbuffer means for the IR: graphs, operators, tensors with their quantization and their elements."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from edgec.errors import ModelError
from edgec.ir.types import Array, DataType
from edgec.targets.tflite.graph import Signature


@dataclass(frozen=True)
class Quantization:
    """Affine quantization: real = scale * (stored - zero point).

    Attributes:
        scales: float32, one element, or one per index of ``axis``.
        zero_points: int64, as many.
        axis: the tensor's axis that the elements belong to.
    """

    scales: Array
    zero_points: Array
    axis: int = 0

    @property
    def per_tensor(self) -> bool:
        """Whether one scale holds for all elements."""
        return self.scales.size == 1

    def equals(self, other: Quantization | None) -> bool:
        """Whether stored numbers mean the same under both."""
        return (
            other is not None
            and (self.per_tensor or self.axis == other.axis)
            and np.array_equal(self.scales, other.scales)
            and np.array_equal(self.zero_points, other.zero_points)
        )


@dataclass(frozen=True)
class FlatTensor:
    """A tensor of a graph.

    Attributes:
        kind: name in ``TensorType``.
        dtype: the element type in the IR (4-bit integers are widened to INT8), None where there is none.
        shape: static extents, those that the file was made with.
        signature: extents, -1 where any will do.
        quantization: for integers that stand for real numbers.
        load: the elements of a constant, else None.
    """

    index: int
    name: str
    kind: str
    dtype: DataType | None
    shape: tuple[int, ...]
    signature: tuple[int, ...]
    quantization: Quantization | None = None
    load: Callable[[], Array] | None = None


@dataclass(frozen=True)
class FlatOperator:
    """An operator of a graph.

    Attributes:
        index: position in its graph.
        code: name in ``BuiltinOperator``; ``CUSTOM`` for all others.
        custom: the name of a custom operator.
        inputs: tensor indices, -1 for an optional one that is left out.
        name: for messages: that of its first result, or code and position.
    """

    index: int
    code: str
    custom: str
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    name: str
    options_table: Any = None

    @property
    def title(self) -> str:
        """The operator for messages, such as ``CONV_2D`` or ``CUSTOM:TFLite_Detection_PostProcess``."""
        return f"{self.code}:{self.custom}" if self.custom else self.code

    def options(self, kind: type[Any]) -> Any:
        """The options as a reader of the schema's table ``kind``.

        Raises:
            ModelError: EDG109 when there are none, or of another kind.
        """
        found = self.options_or_none(kind)
        if found is None:
            raise ModelError(
                "EDG109",
                f"{self.code} '{self.name}' has no {kind.__name__}",
                where=f"operator {self.index}, '{self.name}'",
            )
        return found

    def options_or_none(self, kind: type[Any]) -> Any:
        """The same, or None where there are none."""
        return self.options_table if isinstance(self.options_table, kind) else None


@dataclass(frozen=True)
class FlatGraph:
    """A subgraph."""

    name: str
    tensors: tuple[FlatTensor, ...]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    operators: tuple[FlatOperator, ...]


@dataclass(frozen=True)
class FlatModel:
    """A flatbuffer.

    Attributes:
        size: bytes of the file.
        version: of the schema.
        metadata: names of the metadata entries.
    """

    size: int
    version: int
    description: str
    graphs: tuple[FlatGraph, ...]
    signatures: tuple[Signature, ...] = ()
    metadata: tuple[str, ...] = field(default=())
