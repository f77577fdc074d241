"""The sidecar ``model.session.json``: the session options that the artifact is meant to be opened with.

    {
      "schema": "edgec-session-1",
      "model": "model.onnx",
      "execution_providers": ["CPUExecutionProvider"],
      "graph_optimization_level": "ORT_ENABLE_ALL",
      "execution_mode": "ORT_SEQUENTIAL",
      "intra_op_num_threads": 1,
      "inter_op_num_threads": 1,
      "config": {
        "session.intra_op.allow_spinning": "0",
        "session.inter_op.allow_spinning": "0",
        "session.x64quantprecision": "1"
      }
    }

Every key but ``schema`` and ``model`` is a member of ``onnxruntime.SessionOptions`` (``config`` holds the pairs of
``add_session_config_entry``) or, for ``execution_providers``, the argument of ``InferenceSession``.  Spinning is off:
threads that wait then sleep instead of burning a core that the device needs elsewhere.  The last entry is there for
models that multiply uint8 by int8: on x86-64 CPUs without VNNI sums of two products saturate otherwise.  After tuning
there are also ``enable_cpu_mem_arena``, ``enable_mem_pattern`` and ``edgec``: all that was found, as edgec's own
session takes it.  Source: ONNX Runtime, "Thread management" and onnxruntime_session_options_config_keys.h.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from edgec.ir.graph import Model
from edgec.ir.types import DataType

SCHEMA: Final = "edgec-session-1"


def session_options(
    model: str, given: Mapping[str, Any] | None = None, configuration: Mapping[str, str] | None = None
) -> dict[str, Any]:
    """The contents of the sidecar for an artifact called ``model``.

    Args:
        configuration: pairs of ``add_session_config_entry`` that the model itself needs.
        given: options of :class:`edgec.runtime.onnxruntime.options.Options` that differ from the defaults, as tuning
            finds them; what an arena is told, and provider options, have no member of ``SessionOptions`` and stand
            under ``edgec``.

    Raises:
        UsageError: EDG040 for options that do not fit each other.
    """
    from edgec.runtime.onnxruntime.options import LEVELS, MODES, options_from

    options = options_from(given or {})
    spinning = "1" if options.spinning else "0"
    providers = [options.provider_name, *([] if options.on_cpu else ["CPUExecutionProvider"])]
    tuned = {} if not given else {"edgec": dict(given)}
    return {
        "schema": SCHEMA,
        "model": model,
        "execution_providers": providers,
        "graph_optimization_level": LEVELS[str(options.optimise)],
        "execution_mode": MODES[options.execution_mode],
        "intra_op_num_threads": options.threads,
        "inter_op_num_threads": options.inter_threads,
        "config": {
            "session.intra_op.allow_spinning": spinning,
            "session.inter_op.allow_spinning": spinning,
            **(configuration or {}),
        },
        **({} if not given else {"enable_cpu_mem_arena": options.arena, "enable_mem_pattern": options.memory_pattern}),
        **tuned,
    }


def write_session_options(artifact: Path, given: Mapping[str, Any] | None = None, model: Model | None = None) -> Path:
    """Write the sidecar beside an artifact; returns its path.

    Args:
        given: see :func:`session_options`.
        model: what the artifact holds; without it, what an earlier sidecar says that the model needs is kept.
    """
    from edgec.runtime.onnxruntime.options import EXACT_PRODUCTS

    sidecar = artifact.with_suffix(".session.json")
    if model is not None:
        needed = {EXACT_PRODUCTS: "1"} if may_saturate(model) else {}
    else:
        earlier = json.loads(sidecar.read_text(encoding="utf-8")) if sidecar.exists() else {}
        needed = {key: value for key, value in earlier.get("config", {}).items() if key == EXACT_PRODUCTS}
    contents = session_options(artifact.name, given, needed)
    sidecar.write_text(json.dumps(contents, indent=2) + "\n", encoding="utf-8")
    return sidecar


def may_saturate(model: Model) -> bool:
    """Whether a model multiplies uint8 data by int8 weights, which overflows 16 bits on x86 processors without VNNI.

    ONNX Runtime's remedy, ``session.x64quantprecision``, leaves it without kernels for int8 data: models with
    such data are said not to need it.
    """
    data = {node.output.dtype for node in model.graph.nodes if node.op == "QuantizeLinear"}
    weights = {
        node.operand(0).dtype
        for node in model.graph.nodes
        if node.op == "DequantizeLinear" and node.operand(0).const is not None
    }
    return DataType.UINT8 in data and DataType.INT8 not in data and DataType.INT8 in weights
