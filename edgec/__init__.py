"""edgec: one trained ONNX model in, artifacts for the edge out, each one proven to compute the same function.

The public API is loaded on first use, so that ``import edgec`` costs nothing::

    import edgec

    result = edgec.convert("model.onnx", target="tflite", output="out")
    result = edgec.import_("model.keras", "model.onnx")
    report = edgec.check("model.onnx", target="tflite")
    report = edgec.bisect("model.onnx", target="tflite", precision="int8", calibration="samples.npz")
    facts = edgec.inspect("model.onnx")
    result = edgec.quantize("model.onnx", "model_int8.onnx", calibration="samples.npz")
    result = edgec.bench("out", versus="other", threads=(1, 2))
    result = edgec.verify("out", against="model.onnx", data="samples.npz")
    study = edgec.tune("model.onnx", target="onnxruntime", output="study", objectives=["throughput"], trials=30)
    outputs = edgec.load("out").run({"x": array})
"""

from __future__ import annotations

import importlib
import os
from typing import TYPE_CHECKING, Any

from edgec._version import VERSION as __version__

# ONNX Runtime 1.29 and later tells its maker of models, errors and the machine, from its import on, unless this is set
# before.  Source: its Privacy.md, "Disabling Telemetry".
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

if TYPE_CHECKING:
    from edgec.converter.bisect import bisect
    from edgec.converter.bisection.report import BisectReport
    from edgec.converter.check import CheckReport, check
    from edgec.converter.convert import ConversionResult, convert
    from edgec.converter.import_ import ImportResult, import_
    from edgec.converter.importers import inspect_source as inspect
    from edgec.converter.quantize import QuantizeResult
    from edgec.converter.quantize import quantize_model as quantize
    from edgec.converter.verify import verify_folder as verify
    from edgec.errors import EdgecError
    from edgec.execution.bench import bench
    from edgec.execution.devices import discover as devices
    from edgec.execution.load import LoadedArtifact, load
    from edgec.tuner.outcome import StudyResult
    from edgec.tuner.study import tune

__all__ = [
    "BisectReport",
    "CheckReport",
    "ConversionResult",
    "EdgecError",
    "ImportResult",
    "LoadedArtifact",
    "QuantizeResult",
    "StudyResult",
    "__version__",
    "bench",
    "bisect",
    "check",
    "convert",
    "devices",
    "import_",
    "inspect",
    "load",
    "quantize",
    "tune",
    "verify",
]

_HOMES = {
    "BisectReport": ("edgec.converter.bisection.report", "BisectReport"),
    "CheckReport": ("edgec.converter.check", "CheckReport"),
    "ConversionResult": ("edgec.converter.convert", "ConversionResult"),
    "EdgecError": ("edgec.errors", "EdgecError"),
    "ImportResult": ("edgec.converter.import_", "ImportResult"),
    "LoadedArtifact": ("edgec.execution.load", "LoadedArtifact"),
    "QuantizeResult": ("edgec.converter.quantize", "QuantizeResult"),
    "StudyResult": ("edgec.tuner.outcome", "StudyResult"),
    "bench": ("edgec.execution.bench", "bench"),
    "bisect": ("edgec.converter.bisect", "bisect"),
    "check": ("edgec.converter.check", "check"),
    "convert": ("edgec.converter.convert", "convert"),
    "devices": ("edgec.execution.devices", "discover"),
    "import_": ("edgec.converter.import_", "import_"),
    "inspect": ("edgec.converter.importers", "inspect_source"),
    "load": ("edgec.execution.load", "load"),
    "quantize": ("edgec.converter.quantize", "quantize_model"),
    "tune": ("edgec.tuner.study", "tune"),
    "verify": ("edgec.converter.verify", "verify_folder"),
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'edgec' has no attribute '{name}'")
    module, attribute = _HOMES[name]
    value = getattr(importlib.import_module(module), attribute)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
