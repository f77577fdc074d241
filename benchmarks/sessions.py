"""What session options are worth: bound buffers, one session per shape, XNNPACK's weight cache, arenas.

    python benchmarks/sessions.py --models FOLDER [--json FILE]

Every pair is measured in interleaved blocks (A B B A) in this process; the ratio is of the medians of CPU or wall time,
with a bootstrap interval over the blocks.  FOLDER holds ``mobilenetv2.onnx`` and ``ppocr-cls.onnx``.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import edgec
from edgec.runtime.memory import HostPool
from edgec.runtime.onnxruntime import open_session as open_onnx
from edgec.targets.tflite.session import open_session as open_tflite

Work = Callable[[], object]


def compare(one: Work, other: Work, *, blocks: int = 40, runs: int = 5, clock: Callable[[], float]) -> dict[str, Any]:
    """Median seconds of both, and the ratio ``other / one`` with its 95 % bootstrap interval over the blocks."""
    for work in (one, other):
        for _ in range(3):
            work()
    pairs = []
    for _ in range(blocks):
        times: list[list[float]] = [[], []]
        for which in (0, 1, 1, 0):
            work = (one, other)[which]
            start = clock()
            for _ in range(runs):
                work()
            times[which].append((clock() - start) / runs)
        pairs.append((statistics.mean(times[0]), statistics.mean(times[1])))
    taken = np.array(pairs)
    generator = np.random.default_rng(0)
    picks = taken[generator.integers(0, blocks, (2000, blocks))]
    medians = np.median(picks, axis=1)
    low, high = np.quantile(medians[:, 1] / medians[:, 0], [0.025, 0.975])
    first, second = np.median(taken, axis=0)
    return {
        "one_ms": round(first * 1e3, 4),
        "other_ms": round(second * 1e3, 4),
        "ratio": round(second / first, 4),
        "interval": [round(float(low), 4), round(float(high), 4)],
    }


def bound(models: Path, folder: Path) -> dict[str, Any]:
    """``run`` against a binding, MobileNetV2, one thread, the input already in place for the binding."""
    x = np.random.default_rng(0).standard_normal((1, 3, 224, 224)).astype(np.float32)
    found: dict[str, Any] = {}
    pool = HostPool()
    tflite = folder / "tflite"
    edgec.convert(models / "mobilenetv2.onnx", target="tflite", output=tflite)
    sessions: dict[str, Any] = {
        "onnxruntime": open_onnx(models / "mobilenetv2.onnx"),
        "litert interpreter": open_tflite(tflite / "model.tflite"),
        "litert compiled": open_tflite(tflite / "model.tflite", api="compiled"),
    }
    for name, session in sessions.items():
        key = session.inputs[0].name
        binding = session.bind(None if name == "litert interpreter" else pool)
        binding.inputs[key][...] = x
        found[name] = compare(lambda s=session, k=key: s.run({k: x}), binding.run, clock=time.perf_counter)
        session.close()
    return found


def copies(folder: Path) -> dict[str, Any]:
    """The same for a model that only negates 12 MB: what copying itself costs."""
    from onnx import TensorProto, helper, save

    shape = [1, 3, 1024, 1024]
    graph = helper.make_graph(
        [helper.make_node("Neg", ["x"], ["y"])],
        "negate",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, shape)],
    )
    source = folder / "negate.onnx"
    save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8), source)
    edgec.convert(source, target="tflite", output=folder / "negate")
    x = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    found: dict[str, Any] = {}
    for name, session in {
        "onnxruntime": open_onnx(source),
        "litert interpreter": open_tflite(folder / "negate/model.tflite"),
        "litert compiled": open_tflite(folder / "negate/model.tflite", api="compiled"),
    }.items():
        binding = session.bind(None if name == "litert interpreter" else HostPool())
        binding.inputs["x"][...] = x
        found[name] = compare(lambda s=session: s.run({"x": x}), binding.run, clock=time.perf_counter)
        session.close()
    return found


def specialised(models: Path) -> dict[str, Any]:
    """PP-OCR cls, batches 1 and 6 in turn: one session for all shapes against one per shape, ONNX Runtime."""
    inputs = [np.ones((count, 3, 48, 192), np.float32) for count in (1, 6)]
    general, each = (open_onnx(models / "ppocr-cls.onnx", specialise=most) for most in (0, 2))

    def turn(session: Any) -> None:
        for x in inputs:
            session.run({"x": x})

    return {"onnxruntime": compare(lambda: turn(general), lambda: turn(each), clock=time.perf_counter)}


def weight_cache(models: Path, folder: Path) -> dict[str, Any]:
    """Loading and the first run of MobileNetV2 as a compiled model, without and with XNNPACK's weight cache."""
    edgec.convert(models / "mobilenetv2.onnx", target="tflite", output=folder / "cached")
    path, cache = folder / "cached/model.tflite", str(folder / "weights.cache")
    x = np.ones((1, 3, 224, 224), np.float32)

    def start(**options: Any) -> None:
        session = open_tflite(path, api="compiled", **options)
        session.run({session.inputs[0].name: x})
        session.close()

    start(weight_cache=cache)
    return {"litert compiled": compare(start, lambda: start(weight_cache=cache), runs=1, clock=time.perf_counter)}


def main() -> None:
    """Measure, print, and write the numbers where asked to."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", type=Path, required=True)
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        found = {
            "machine": platform.processor() or platform.machine(),
            "bound against run, MobileNetV2": bound(given.models, folder),
            "bound against run, 12 MB negated": copies(folder),
            "one session per shape, PP-OCR cls": specialised(given.models),
            "weight cache, loading and first run": weight_cache(given.models, folder),
        }
    print(json.dumps(found, indent=1))
    if given.json:
        given.json.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
