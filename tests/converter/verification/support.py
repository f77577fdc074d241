"""Small models, and sessions that are almost right."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import parser

from edgec.converter.importers.imported import SourceOptions
from edgec.converter.importers.onnx import ImportedModel, import_model
from edgec.converter.verification.report import VerificationReport
from edgec.converter.verify import verify
from edgec.ir.passes.base import parse_pipeline
from edgec.ir.types import Array
from edgec.runtime.onnxruntime import open_session
from edgec.targets.base import SessionSpec


def save(folder: Path, graph: str, opset: int = 21, name: str = "model.onnx") -> Path:
    """Write a model in ONNX's text form, without the header."""
    model = parser.parse_model(f'<ir_version: 10, opset_import: ["" : {opset}]>\n{graph}')
    path = folder / name
    onnx.save(model, path)
    return path


def imported(path: Path, **options: Any) -> ImportedModel:
    """The canonical model."""
    result = import_model(path, SourceOptions(**options))
    for item in parse_pipeline("fold-constants"):
        item.apply(result.model)
    return result


ORT = SessionSpec("edgec.runtime.onnxruntime:open_session")


def compare(path: Path, artifact: Path, spec: SessionSpec = ORT, **options: Any) -> VerificationReport:
    """Verify one ONNX file against another."""
    model = imported(path, input_shapes=options.pop("input_shapes", None))
    return verify(artifact, spec, imported=model, isolate=options.pop("isolate", False), **options)


class Disturbed:
    """ONNX Runtime with its outputs changed; a session."""

    def __init__(self, path: str, change: str) -> None:
        self._session = open_session(path)
        self._change = change
        self.inputs, self.outputs = self._session.inputs, self._session.outputs

    def run(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        results = self._session.run(feeds)
        for name, array in results.items():
            match self._change:
                case "scale":
                    results[name] = (array * np.float32(1.001)).astype(array.dtype)
                case "one pixel":
                    results[name] = array.copy()
                    results[name].reshape(-1)[0] += np.asarray(np.abs(array).max() + 1, array.dtype)
                case "nan":
                    results[name] = array.copy()
                    results[name].reshape(-1)[-1] = np.nan
                case "shape":
                    results[name] = array[None]
                case "noise":
                    noise = np.random.default_rng(0).standard_normal(array.shape).astype(array.dtype)
                    results[name] = array + np.float32(0.1) * noise * array.std()
        return results

    def close(self) -> None:
        self._session.close()


def open_disturbed(path: str, change: str) -> Disturbed:
    return Disturbed(path, change)


class ChannelsLast:
    """ONNX Runtime behind an interface whose images are channels-last."""

    def __init__(self, path: str) -> None:
        self._session = open_session(path)
        self.inputs = tuple(_moved(spec) for spec in self._session.inputs)
        self.outputs = self._session.outputs

    def run(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        results = self._session.run({name: array.transpose(0, 3, 1, 2) for name, array in feeds.items()})
        return {name: array.transpose(0, 2, 3, 1) for name, array in results.items()}

    def close(self) -> None:
        self._session.close()


def _moved(spec: Any) -> Any:
    from dataclasses import replace

    n, c, h, w = spec.shape
    return replace(spec, shape=(n, h, w, c))


def open_channels_last(path: str) -> ChannelsLast:
    return ChannelsLast(path)
