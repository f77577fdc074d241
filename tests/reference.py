"""ONNX Runtime as the reference: one thread, operators as they are written, and no sum that saturates on the way."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnxruntime

Arrays = Mapping[str, "np.ndarray[Any, np.dtype[Any]]"]


def computed(model: bytes, feeds: Arrays, *, integer_kernels: bool) -> list[Any]:
    """All outputs of an ONNX file in order, without ONNX Runtime's own optimisations.

    Args:
        model: the file's bytes.
        feeds: every input by name.
        integer_kernels: optimise after all, because only then sums of 8-bit products go to the kernels that are exact.
    """
    level = onnxruntime.GraphOptimizationLevel
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = level.ORT_ENABLE_EXTENDED if integer_kernels else level.ORT_DISABLE_ALL
    options.add_session_config_entry("session.x64quantprecision", "1")  # else sums saturate on CPUs without VNNI
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    return list(session.run(None, dict(feeds)))
