"""edgec: one trained ONNX model in, artifacts for the edge out, each one proven to compute the same function.

The public API is loaded on first use, so that ``import edgec`` costs nothing::

    import edgec

    result = edgec.convert("model.onnx", target="tflite", output="out")
    report = edgec.check("model.onnx", target="tflite")
    facts = edgec.inspect("model.onnx")
    result = edgec.verify("out", against="model.onnx", data="samples.npz")
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from edgec._version import VERSION as __version__

if TYPE_CHECKING:
    from edgec.converter.check import CheckReport, check
    from edgec.converter.convert import ConversionResult, convert
    from edgec.converter.inspect import inspect_model as inspect
    from edgec.converter.verify import verify_folder as verify
    from edgec.errors import EdgecError

__all__ = [
    "CheckReport",
    "ConversionResult",
    "EdgecError",
    "__version__",
    "check",
    "convert",
    "inspect",
    "verify",
]

_HOMES = {
    "CheckReport": ("edgec.converter.check", "CheckReport"),
    "ConversionResult": ("edgec.converter.convert", "ConversionResult"),
    "EdgecError": ("edgec.errors", "EdgecError"),
    "check": ("edgec.converter.check", "check"),
    "convert": ("edgec.converter.convert", "convert"),
    "inspect": ("edgec.converter.inspect", "inspect_model"),
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
