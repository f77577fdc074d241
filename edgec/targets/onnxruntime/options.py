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
threads that wait then sleep instead of burning a core that the device needs elsewhere.  Without the last entry 8-bit
models lose precision on x86-64 CPUs without VNNI, where sums of two products saturate.  After tuning there are also
``enable_cpu_mem_arena``, ``enable_mem_pattern`` and ``edgec``: all that was found, as edgec's own session takes it.
Source: ONNX Runtime, "Thread management" and onnxruntime_session_options_config_keys.h.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

SCHEMA: Final = "edgec-session-1"


def session_options(model: str, given: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """The contents of the sidecar for an artifact called ``model``.

    Args:
        given: options of :class:`edgec.runtime.onnxruntime.options.Options` that differ from the defaults, as tuning
            finds them; what an arena is told, and provider options, have no member of ``SessionOptions`` and stand
            under ``edgec``.

    Raises:
        UsageError: EDG040 for options that do not fit each other.
    """
    from edgec.runtime.onnxruntime.options import EXACT_PRODUCTS, LEVELS, MODES, options_from

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
            EXACT_PRODUCTS: "1",
        },
        **({} if not given else {"enable_cpu_mem_arena": options.arena, "enable_mem_pattern": options.memory_pattern}),
        **tuned,
    }


def write_session_options(artifact: Path, given: Mapping[str, Any] | None = None) -> Path:
    """Write the sidecar beside an artifact; returns its path."""
    sidecar = artifact.with_suffix(".session.json")
    sidecar.write_text(json.dumps(session_options(artifact.name, given), indent=2) + "\n", encoding="utf-8")
    return sidecar
