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

import flatbuffers
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter

GREETING = b"INFO: Created TensorFlow Lite XNNPACK delegate for CPU.\n"

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
    """The smallest model that XNNPACK takes: the absolute value of one float."""
    tensors = []
    for name in ("x", "y"):
        tensor = schema.TensorT()
        tensor.name, tensor.shape, tensor.type, tensor.buffer = name, [1], schema.TensorType.FLOAT32, 0
        tensors.append(tensor)
    code = schema.OperatorCodeT()
    code.builtinCode = code.deprecatedBuiltinCode = schema.BuiltinOperator.ABS
    code.version = 1
    operator = schema.OperatorT()
    operator.opcodeIndex, operator.inputs, operator.outputs = 0, [0], [1]
    graph = schema.SubGraphT()
    graph.tensors, graph.inputs, graph.outputs, graph.operators = tensors, [0], [1], [operator]
    model = schema.ModelT()
    model.version, model.operatorCodes, model.subgraphs, model.buffers = 3, [code], [graph], [schema.BufferT()]
    builder = flatbuffers.Builder(512)
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())
