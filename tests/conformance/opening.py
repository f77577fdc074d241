"""Open an artifact with the target's own runtime, without any code of edgec, and run stored inputs through it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final

import numpy as np
import onnxruntime

Arrays = dict[str, np.ndarray]


class LoadError(Exception):
    """The runtime refuses the artifact, or the artifact's interface is not the model's."""


class Opened:
    """A loaded artifact: the names of its inputs and outputs, in order, and a way to run it."""

    def __init__(self, inputs: Sequence[str], outputs: Sequence[str], run: Callable[[Arrays], Arrays]) -> None:
        self.inputs, self.outputs, self.run = list(inputs), list(outputs), run


def open_onnx(path: Path) -> Opened:
    """An .onnx file in ONNX Runtime's CPU provider."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 4
    try:
        session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # its exception classes are not public
        raise LoadError(str(error)) from error
    outputs = [value.name for value in session.get_outputs()]

    def run(inputs: Arrays) -> Arrays:
        try:
            return dict(zip(outputs, session.run(outputs, inputs), strict=True))
        except Exception as error:
            raise RuntimeError(str(error)) from error

    return Opened([value.name for value in session.get_inputs()], outputs, run)


def open_tflite(path: Path) -> Opened:
    """A .tflite file in the LiteRT interpreter with its default delegate."""
    from ai_edge_litert.interpreter import Interpreter

    try:
        interpreter = Interpreter(model_path=str(path), num_threads=1)
        interpreter.allocate_tensors()
    except (RuntimeError, ValueError) as error:
        raise LoadError(str(error)) from error
    inputs, outputs = interpreter.get_input_details(), interpreter.get_output_details()

    def run(arrays: Arrays) -> Arrays:
        for detail in inputs:
            array = arrays[detail["name"]]
            if tuple(detail["shape"]) != array.shape or detail["dtype"] != array.dtype.type:
                expected = f"{detail['dtype'].__name__}{list(detail['shape'])}"
                raise LoadError(
                    f"input {detail['name']} is {expected}, the model's is {array.dtype}{list(array.shape)}"
                )
            interpreter.set_tensor(detail["index"], array)
        interpreter.invoke()
        after = {detail["index"]: tuple(detail["shape"]) for detail in interpreter.get_output_details()}
        results = {}
        for detail in outputs:
            shape = after[detail["index"]]  # get_tensor refuses tensors without elements
            empty = np.zeros(shape, detail["dtype"]) if 0 in shape else None
            results[detail["name"]] = np.array(interpreter.get_tensor(detail["index"])) if empty is None else empty
        return results

    return Opened([d["name"] for d in inputs], [d["name"] for d in outputs], run)


#: Target name to the runtime that opens its artifacts.  Plug-in targets add theirs.
RUNTIMES: Final[dict[str, Callable[[Path], Opened]]] = {"onnxruntime": open_onnx, "tflite": open_tflite}


def difference(actual: Mapping[str, np.ndarray], expected: Mapping[str, np.ndarray]) -> str | None:
    """Why `actual` is not `expected` (names, order, shape, dtype, values), or None when it is.

    Floats agree within rtol 1e-3 and atol 1e-4, float16 within 1e-2 and 1e-3, NaN equals NaN; integers and booleans
    must be equal.
    """
    if list(actual) != list(expected):
        return f"outputs are {list(actual)}, the model's are {list(expected)}"
    for name, want in expected.items():
        got = np.asarray(actual[name])
        if got.dtype != want.dtype:
            return f"{name}: dtype {got.dtype}, expected {want.dtype}"
        if got.shape != want.shape:
            return f"{name}: shape {list(got.shape)}, expected {list(want.shape)}"
        if want.dtype.kind == "f":
            relative, absolute = (1e-2, 1e-3) if want.dtype == np.float16 else (1e-3, 1e-4)
            same = np.isclose(got, want, rtol=relative, atol=absolute, equal_nan=True)
        else:
            same = got == want
        if not np.all(same):
            with np.errstate(all="ignore"):
                worst = np.max(np.abs(got.astype(np.float64) - want.astype(np.float64)))
            return f"{name}: {np.count_nonzero(~same)} of {want.size} elements differ, worst by {worst:.3g}"
    return None
