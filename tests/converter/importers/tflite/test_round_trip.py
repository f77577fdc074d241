"""Quantized .tflite that were imported come back operator for operator, with the same integers inside."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter, OpResolverType

from edgec.converter.calibration.quantizing import PrecisionOptions
from edgec.converter.importers.imported import SourceOptions
from edgec.converter.prepare import prepare
from edgec.ir.types import Array
from edgec.runtime.onnxruntime import open_session
from edgec.targets import registry
from edgec.targets.base import TargetOptions
from edgec.targets.tflite.graph import FlatOperator, FlatTensor, read
from tests.models import source_model

from .building import Builder, options
from .test_real_models import EDGE_TPU, bursts, photographs

KERNELS = {"XNNPACK": OpResolverType.AUTO, "built-in": OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES}
INTEGERS = [
    "anomaly_detection",
    "autoencoder_example",
    "image_classification",
    "image_example1",
    "keyword_spotting",
    "keyword_spotting_alexa",
    "rock_paper_scissors",
    "visual_wake_words",
]
CORAL = ["mobilenet_v1_0.25_128_quant", "deeplabv3_mnv2_dm05_pascal_quant"]
FOR_OPEN_EXTENTS = frozenset({"SHAPE", "STRIDED_SLICE", "PACK"})
"""What a model with an open batch computes its shapes with; a static one does not."""


def back(path: Path, folder: Path, target: str = "tflite", precision: str = "float32") -> Path:
    """The artifact of an imported file."""
    held = registry.load(target)
    prepared = prepare(path, held, SourceOptions(batch=1), options=TargetOptions(precision=precision))
    return held.compile(prepared.lower(), folder, "again").main


def meaning(tensor: FlatTensor | None) -> tuple[Any, ...] | None:
    """What a tensor holds: element type, extents, elements of a constant, scales and zero points."""
    if tensor is None:
        return None
    values = tensor.values()
    shape = tuple(max(extent, 1) for extent in tensor.shape) if tensor.size > 1 else ()  # one axis is [3] or 3
    scales = tuple(np.float32(scale) for scale in tensor.scales)
    return tensor.dtype, shape, None if values is None else values.tobytes(), scales, tensor.zero_points


def forms(path: Path) -> Counter[tuple[Any, ...]]:
    """The operators with their operands and results; shapes, which may be operands or not, are left out."""
    found: Counter[tuple[Any, ...]] = Counter()
    for op in read(path).main.operators:
        if op.code in FOR_OPEN_EXTENTS or (op.code, *extents(op)) == ("RESIZE_BILINEAR", 33, 33, 33, 33):
            continue  # the second changes nothing
        operands = op.inputs[:1] if op.code == "RESHAPE" else op.inputs
        found[op.code, *map(meaning, operands), *map(meaning, op.outputs)] += 1
    return found


def extents(op: FlatOperator) -> tuple[int, ...]:
    """Height and width before and behind an operator on images."""
    first = op.inputs[0]
    return (*first.shape[1:3], *op.outputs[0].shape[1:3]) if first is not None else ()


def run(path: Path, array: Array, kernels: str) -> Array:
    """The only output."""
    interpreter = Interpreter(str(path), experimental_op_resolver_type=KERNELS[kernels])
    (given,) = interpreter.get_input_details()
    interpreter.resize_tensor_input(given["index"], array.shape)
    interpreter.allocate_tensors()
    interpreter.set_tensor(given["index"], array)
    interpreter.invoke()
    return interpreter.get_tensor(interpreter.get_output_details()[0]["index"])


def samples(path: Path, count: int = 20) -> list[Array]:
    """Photographs for images, bursts of noise for everything else, as the model's input takes them."""
    (given,) = read(path).main.inputs
    shape = tuple(max(extent, 1) for extent in given.shape)
    if len(shape) == 4 and shape[3] in (1, 3):
        return [_picture(image, shape, given.dtype) for image, _ in photographs()[:count]]
    if shape[1:] == (118, 1, 108):
        return list(bursts(118, 108)[:, None])
    generator = np.random.default_rng(0)
    made = []
    for _ in range(count):
        noise = generator.standard_normal(shape) * generator.uniform(0.3, 3)
        made.append(noise.astype(np.float32) if given.dtype == "float32" else _bytes(noise * 40, given.dtype))
    return made


def _picture(image: Array, shape: tuple[int, ...], dtype: str) -> Array:
    rows, columns = (np.arange(extent) * 32 // extent for extent in shape[1:3])
    pixels = image[rows][:, columns].astype(np.float64)[None]
    if shape[3] == 1:
        pixels = pixels.mean(axis=3, keepdims=True)
    if dtype == "float32":
        return (pixels / 127.5 - 1).astype(np.float32)
    return _bytes(pixels - 128, dtype)


def _bytes(numbers: Array, dtype: str) -> Array:
    whole = np.clip(np.round(numbers), -128, 127).astype(np.int8)
    return whole if dtype == "int8" else (whole.astype(np.int16) + 128).astype(np.uint8)


def coral(name: str) -> Path:
    """One of Google's models."""
    if not EDGE_TPU.is_dir():
        pytest.skip("Coral's test models are not beside the repository")
    return EDGE_TPU / f"{name}.tflite"


@pytest.mark.download
@pytest.mark.parametrize("name", [*INTEGERS, *CORAL])
def test_operators_parameters_and_results_are_the_same(tmp_path: Path, name: str) -> None:
    source = coral(name) if name in CORAL else source_model(f"{name}.tflite")
    again = back(source, tmp_path)
    assert forms(again) == forms(source)
    few = 4 if name.startswith("deeplab") else 20
    for sample in samples(source, few):
        for kernels in KERNELS:
            np.testing.assert_array_equal(run(again, sample, kernels), run(source, sample, kernels))


@pytest.mark.download
@pytest.mark.parametrize("name", [*INTEGERS, CORAL[0]])
def test_in_onnx_runtime_the_model_is_within_one_step_of_litert(tmp_path: Path, name: str) -> None:
    """LiteRT as it runs by default; its built-in kernels round otherwise, and are up to 67 steps away from it."""
    source = coral(name) if name in CORAL else source_model(f"{name}.tflite")
    session = open_session(back(source, tmp_path, "onnxruntime"))
    (value,) = session.inputs
    last = read(source).main.operators[-1]
    whole = last.inputs[0] if last.code == "DEQUANTIZE" else last.outputs[0]
    assert whole is not None
    step = whole.scales[0] if last.code == "DEQUANTIZE" else 1
    for sample in samples(source):
        (found,) = session.run({value.name: sample}).values()
        wanted = run(source, sample, "XNNPACK")
        assert np.abs(found.astype(np.float64) - wanted.astype(np.float64)).max() <= step * 1.001


@pytest.mark.download
def test_weights_beside_float_data_come_back_as_dynamic_int8(tmp_path: Path) -> None:
    source = source_model("emotion_model.tflite")
    assert forms(back(source, tmp_path, precision="dynamic-int8")) == forms(source)


@pytest.mark.download
@pytest.mark.parametrize("name", [name for name in INTEGERS if name != "anomaly_detection"])
def test_the_imported_graph_runs_on_the_edge_tpu_as_a_whole(tmp_path: Path, name: str) -> None:
    """One is left out: its result has 4 axes but is no image, and would be turned channels-last."""
    target = registry.load("edgetpu")
    model = back(source_model(f"{name}.tflite"), tmp_path, "onnxruntime")
    wanted = PrecisionOptions("int8", io_dtype="int8")
    prepared = prepare(model, target, options=TargetOptions("NHWC", "int8"), precision=wanted)
    assert not target.placement(prepared.model, prepared.options).away


@pytest.mark.parametrize("dtype", [np.int8, np.uint8])
@pytest.mark.parametrize(("window", "stride", "padding"), [(2, 2, 1), (3, 1, 0), (3, 2, 0), (8, 8, 1)])
def test_averages_round_ties_as_litert_does(tmp_path: Path, dtype: Any, window: int, stride: int, padding: int) -> None:
    b = Builder()
    form: dict[str, Any] = {"scale": 0.1, "zero_point": 3 if dtype is np.int8 else 131}
    out = -(-16 // stride) if padding == 0 else (16 - window) // stride + 1
    x, y = b.tensor("x", (1, 16, 16, 4), dtype, **form), b.tensor("y", (1, out, out, 4), dtype, **form)
    table = options(
        "Pool2DOptions", padding=padding, strideH=stride, strideW=stride, filterHeight=window, filterWidth=window
    )
    b.op("AVERAGE_POOL_2D", [x], [y], table)
    path = b.save(tmp_path, [x], [y])
    session = open_session(back(path, tmp_path, "onnxruntime"))
    again = back(path, tmp_path)
    assert [op.code for op in read(again).main.operators] == ["AVERAGE_POOL_2D"]
    generator = np.random.default_rng(window)
    limits = np.iinfo(dtype)
    for spread in (3, 200):
        noise = generator.normal(0, spread, (1, 16, 16, 4)) + (limits.min + limits.max) / 2
        array = np.clip(noise.round(), limits.min, limits.max).astype(dtype)
        wanted = run(path, array, "built-in")
        np.testing.assert_array_equal(next(iter(session.run({"x": array}).values())), wanted)
        np.testing.assert_array_equal(run(again, array, "built-in"), wanted)


def test_kernels_that_round_in_fixed_point_come_back(tmp_path: Path) -> None:
    """A model from LiteRT means LiteRT's arithmetic, also when it was ONNX in between."""
    b = Builder()
    form: dict[str, Any] = {"scale": 0.05, "zero_point": 3}
    x, w = b.tensor("x", (1, 4, 4, 8), np.int8, **form), b.tensor("w", (1, 4, 4, 8), np.int8, scale=0.02, zero_point=9)
    s, y = b.tensor("s", (1, 4, 4, 8), np.int8, scale=0.06), b.tensor("y", (1, 4, 4, 8), np.int8, scale=0.04)
    b.op("ADD", [x, w], [s], options("AddOptions"))
    b.op("HARD_SWISH", [s], [y], options("HardSwishOptions"))
    path = b.save(tmp_path, [x, w], [y])
    for source in (path, back(path, tmp_path, "onnxruntime")):
        assert forms(back(source, tmp_path)) == forms(path)


def test_unsigned_weights_with_a_zero_point_stay_unsigned(tmp_path: Path) -> None:
    b = Builder()
    generator = np.random.default_rng(0)
    x = b.tensor("x", (1, 6, 6, 3), np.uint8, scale=0.04, zero_point=130)
    w = b.const("w", generator.integers(0, 256, (4, 3, 3, 3)).astype(np.uint8), scale=0.02, zero_point=117)
    c = b.const("c", generator.integers(-9_000_000, 9_000_000, 4).astype(np.int32), scale=np.float32(0.04) * 0.02)
    y = b.tensor("y", (1, 6, 6, 4), np.uint8, scale=60.0, zero_point=121)
    b.op("CONV_2D", [x, w, c], [y], options("Conv2DOptions", strideW=1, strideH=1))
    p, shape = b.tensor("p", (1, 8, 8, 4), np.uint8, scale=60.0, zero_point=121), b.tensor("m", (1, 64, 4), np.uint8)
    b.graph.tensors[shape].quantization = b.graph.tensors[p].quantization
    b.op("PAD", [y, b.const("pads", [[0, 0], [1, 1], [1, 1], [0, 0]], np.int32)], [p], options("PadOptions"))
    b.op("RESHAPE", [p, b.const("s", [1, 64, 4], np.int32)], [shape])
    path = b.save(tmp_path, [x], [shape])
    again = back(path, tmp_path)
    assert forms(again) == forms(path)
    array = generator.integers(0, 256, (1, 6, 6, 3)).astype(np.uint8)
    for kernels in KERNELS:
        np.testing.assert_array_equal(run(again, array, kernels), run(path, array, kernels))
