"""The models that the benchmarks run on."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import onnx

from benchmarks.synthetic import BUILDERS, TOPOLOGIES, write
from tests.models import REAL_MODELS, real_model

Shapes = tuple[tuple[str, tuple[int, ...]], ...]


@dataclass(frozen=True)
class BenchmarkModel:
    """A file, and the static input shapes that both converters are told where the file leaves them open."""

    name: str
    path: Path
    shapes: Shapes


DEFAULT_MODELS = (
    "mobilenetv2",
    "resnet50",
    "vit-tiny",
    "yolov8n",
    "ppocr-det",
    "ppocr-rec",
    "ppocr-cls",
    "centerface",
    "basic-pitch",
    "mnist-conv",
    "espcn",
    "espcn-subpixel",
    "silero-vad-16k",
    "squeezenet",
    "resnet50-caffe2",
    "shufflenet",
)


def load(name: str, folder: Path) -> BenchmarkModel:
    """The model `name`, built or fetched into `folder` if it is not there; raises ModelUnavailable."""
    if name in BUILDERS or name in TOPOLOGIES:
        path = folder / f"{name}.onnx"
        if not path.exists():
            folder.mkdir(parents=True, exist_ok=True)
            write(name, path)
        return BenchmarkModel(name, path, ())
    if name not in REAL_MODELS:
        raise SystemExit(f"unknown model {name!r}; there are {', '.join([*BUILDERS, *TOPOLOGIES, *REAL_MODELS])}")
    return BenchmarkModel(name, real_model(name), REAL_MODELS[name].input_shapes)


def static_copy(model: BenchmarkModel, folder: Path) -> Path:
    """The model's file with the static input shapes written into it, for a reader that cannot be told them.

    What the file says about the shapes of other values is removed, as it may belong to the placeholders.
    """
    if not model.shapes:
        return model.path
    loaded = onnx.load(model.path)
    shapes = dict(model.shapes)
    for value in loaded.graph.input:
        if value.name in shapes:
            _set_shape(value, shapes[value.name])
    del loaded.graph.value_info[:]
    for value in loaded.graph.output:
        for dimension in value.type.tensor_type.shape.dim:
            dimension.Clear()
    loaded = onnx.shape_inference.infer_shapes(loaded)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{model.name}-static.onnx"
    onnx.save(loaded, path)
    return path


def _set_shape(value: onnx.ValueInfoProto, shape: tuple[int, ...]) -> None:
    tensor_type = value.type.tensor_type
    tensor_type.ClearField("shape")
    for size in shape:
        tensor_type.shape.dim.add().dim_value = size
