"""LiteRT's one line about itself, kept off the user's standard error.

LiteRT writes "INFO: Created TensorFlow Lite XNNPACK delegate for CPU." to file descriptor 2 when a process uses XNNPACK
for the first time, and has no setting against it (its minimum severity is no exported symbol, and no environment
variable sets it).  So its first use is a model of one operator, made here, with the descriptor turned elsewhere;
nothing that is said of the user's own model is ever held back.
"""

from __future__ import annotations

import os
import tempfile
import threading
from collections.abc import Mapping, Sequence
from typing import Any, Final

import flatbuffers
from ai_edge_litert.interpreter import Interpreter

GREETING = b"INFO: Created TensorFlow Lite XNNPACK delegate for CPU.\n"

ABS: Final = 101
"""Of the schema's ``BuiltinOperator``."""

_lock = threading.Lock()
_said = False


def let_greet() -> None:
    """Let LiteRT say its line, once in this process; what other threads write to standard error meanwhile comes after.

    Without a standard error nothing is done.
    """
    global _said
    with _lock:
        if _said:
            return
        _said = True
        try:
            kept = os.dup(2)
        except OSError:
            return
        try:
            with tempfile.TemporaryFile() as held:
                os.dup2(held.fileno(), 2)
                try:
                    Interpreter(model_content=_absolute(), num_threads=1).allocate_tensors()
                finally:
                    os.dup2(kept, 2)
                held.seek(0)
                rest = held.read().replace(GREETING, b"", 1)
            while rest:
                rest = rest[os.write(2, rest) :]
        finally:
            os.close(kept)


def _absolute() -> bytes:
    """The smallest model that XNNPACK takes: the absolute value of one float.

    Written field by field, by the numbers of LiteRT's schema (``schema.fbs``): its generated module takes longer to
    import than the interpreter.
    """
    builder = flatbuffers.Builder(256)
    code = _table(builder, 4, byte={0: ABS}, int32={2: 1, 3: ABS})
    tensors = []
    for name in ("x", "y"):
        text = builder.CreateString(name)
        tensors.append(_table(builder, 4, offset={0: _int32s(builder, [1]), 3: text}))
    operator = _table(builder, 3, offset={1: _int32s(builder, [0]), 2: _int32s(builder, [1])})
    parts = {0: _tables(builder, tensors), 1: _int32s(builder, [0]), 2: _int32s(builder, [1])}
    graph = _table(builder, 4, offset={**parts, 3: _tables(builder, [operator])})
    buffers = _tables(builder, [_table(builder, 1)])
    codes, graphs = _tables(builder, [code]), _tables(builder, [graph])
    builder.Finish(_table(builder, 5, offset={1: codes, 2: graphs, 4: buffers}, int32={0: 3}), b"TFL3")
    return bytes(builder.Output())


def _table(
    builder: Any,
    fields: int,
    *,
    offset: Mapping[int, int] | None = None,
    int32: Mapping[int, int] | None = None,
    byte: Mapping[int, int] | None = None,
) -> int:
    """A table with the given fields, by number; the others have their defaults (a tensor's type 0 is float32)."""
    builder.StartObject(fields)
    for number, value in (offset or {}).items():
        builder.PrependUOffsetTRelativeSlot(number, value, 0)
    for number, value in (int32 or {}).items():
        builder.PrependInt32Slot(number, value, 0)
    for number, value in (byte or {}).items():
        builder.PrependInt8Slot(number, value, 0)
    return int(builder.EndObject())


def _int32s(builder: Any, numbers: Sequence[int]) -> int:
    builder.StartVector(4, len(numbers), 4)
    for number in reversed(numbers):
        builder.PrependInt32(number)
    return int(builder.EndVector())


def _tables(builder: Any, offsets: Sequence[int]) -> int:
    builder.StartVector(4, len(offsets), 4)
    for offset in reversed(offsets):
        builder.PrependUOffsetTRelative(offset)
    return int(builder.EndVector())
