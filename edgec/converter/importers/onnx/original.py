"""How an ONNX file is run for reference: ONNX Runtime without optimisations, and with all of them for the floor."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edgec.converter.importers.imported import Original, Way, static_shapes
from edgec.ir.types import Shape
from edgec.targets.base import SessionSpec

FACTORY = "edgec.runtime.onnxruntime:open_session"
UPGRADING_FACTORY = "edgec.runtime.upgraded:open_session"
FIRST_OPSET = 7
"""Models older than this are upgraded for ONNX Runtime where it has no kernels for them."""


def original(path: Path, opset: int, overrides: Mapping[str, Shape]) -> Original:
    """The file in ONNX Runtime; only the declared extents of its inputs are replaced, where the user asked for it."""
    shapes = static_shapes(overrides)
    common: dict[str, Any] = {"input_shapes": shapes} if shapes else {}

    def way(factory: str, note: str = "") -> Way:
        plain, optimised = (SessionSpec(factory, {"optimise": optimise, **common}) for optimise in (False, True))
        return Way(plain, optimised, note)

    ways = [way(FACTORY)]
    if opset < FIRST_OPSET:
        note = "the reference was upgraded by onnx.version_converter: ONNX Runtime lacks kernels below opset 7"
        ways.append(way(UPGRADING_FACTORY, note))
    return Original(path, "ONNX Runtime", "onnxruntime", tuple(ways))
