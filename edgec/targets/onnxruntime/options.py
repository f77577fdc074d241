"""The sidecar ``model.session.json``: the session options that the artifact is meant to be opened with.

    {
      "schema": "edgec-session-1",
      "model": "model.onnx",
      "execution_providers": ["CPUExecutionProvider"],
      "graph_optimization_level": "ORT_ENABLE_ALL",
      "execution_mode": "ORT_SEQUENTIAL",
      "intra_op_num_threads": 1,
      "inter_op_num_threads": 1,
      "config": {"session.intra_op.allow_spinning": "0", "session.inter_op.allow_spinning": "0"}
    }

Every key but ``schema`` and ``model`` is a member of ``onnxruntime.SessionOptions`` (``config`` holds the pairs of
``add_session_config_entry``) or, for ``execution_providers``, the argument of ``InferenceSession``.  Spinning is off:
threads that wait then sleep instead of burning a core that the device needs elsewhere.
Source: ONNX Runtime, "Thread management" and onnxruntime_session_options_config_keys.h.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

SCHEMA: Final = "edgec-session-1"


def session_options(model: str, threads: int = 1) -> dict[str, Any]:
    """The contents of the sidecar for an artifact called ``model``."""
    return {
        "schema": SCHEMA,
        "model": model,
        "execution_providers": ["CPUExecutionProvider"],
        "graph_optimization_level": "ORT_ENABLE_ALL",
        "execution_mode": "ORT_SEQUENTIAL",
        "intra_op_num_threads": threads,
        "inter_op_num_threads": 1,
        "config": {"session.intra_op.allow_spinning": "0", "session.inter_op.allow_spinning": "0"},
    }


def write_session_options(artifact: Path) -> Path:
    """Write the sidecar beside an artifact; returns its path."""
    sidecar = artifact.with_suffix(".session.json")
    sidecar.write_text(json.dumps(session_options(artifact.name), indent=2) + "\n", encoding="utf-8")
    return sidecar
