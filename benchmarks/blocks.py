"""Transposed convolutions that tile their result: 1x1 CONV_2D and DEPTH_TO_SPACE against TRANSPOSE_CONV, in LiteRT.

    python -m benchmarks.blocks [--channels 1,1 24,24 128,128] [--blocks 2 3 4] [--sizes 20 80] [--threads 1 2]

Each shape runs in float32 and in int8, both programs in one process, interleaved A B B A.  What is printed is the ratio
of CPU times, new / old, the median of the rounds with its 95 % interval by bootstrap, and how far the results differ.
"""

from __future__ import annotations

import argparse
import itertools
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from ai_edge_litert.interpreter import Interpreter

from edgec.ir.passes.base import parse_pipeline
from edgec.ir.proto import model_from_proto
from edgec.targets.tflite import TARGET
from edgec.targets.tflite.lowering import Lowerer
from edgec.targets.tflite.peephole import tidy
from edgec.targets.tflite.writer import write

ROUNDS = 24
SLOT_S = 0.01


def source(inputs: int, outputs: int, block: int, size: int, integers: bool) -> str:
    """ConvTranspose, bias and Relu in ONNX text; between int8 with a scale per channel for ``integers``."""
    generator = np.random.default_rng(0)
    shape, result = f"1,{inputs},{size},{size}", f"1,{outputs},{size * block},{size * block}"
    weights = (inputs, outputs, block, block)
    bias = _listed(generator.standard_normal(outputs))
    call = f"ConvTranspose <strides = [{block}, {block}]>"
    if not integers:
        values = _listed(generator.standard_normal(weights) / np.sqrt(inputs))
        return f"""<ir_version: 10, opset_import: ["" : 22]>
        g (float[{shape}] x) => (float[{result}] y) <float[{_dims(weights)}] w = {{{values}}},
          float[{outputs}] b = {{{bias}}}> {{
          c = {call} (x, w, b)
          y = Relu (c)
        }}"""
    values = ", ".join(map(str, generator.integers(-127, 128, weights).reshape(-1)))
    zeros = ", ".join(["0"] * outputs)
    return f"""<ir_version: 10, opset_import: ["" : 22]>
    g (int8[{shape}] x) => (int8[{result}] y) <float xs = {{0.02}}, int8 xz = {{3}},
      int8[{_dims(weights)}] w = {{{values}}}, float[{outputs}] ws = {{{_listed(np.linspace(0.01, 0.011, outputs))}}},
      int8[{outputs}] wz = {{{zeros}}}, float[{outputs}] b = {{{bias}}}, float ys = {{{0.01 * np.sqrt(inputs):.6f}}},
      int8 yz = {{-5}}> {{
      a = DequantizeLinear (x, xs, xz)
      v = DequantizeLinear <axis = 1> (w, ws, wz)
      c = {call} (a, v, b)
      y = QuantizeLinear (c, ys, yz)
    }}"""


def _listed(values: Any) -> str:
    return ", ".join(f"{value:.6f}" for value in np.asarray(values).reshape(-1))


def _dims(shape: tuple[int, ...]) -> str:
    return ",".join(map(str, shape))


def opened(text: str, depth_to_space: bool, threads: int) -> Interpreter:
    """LiteRT with the program lowered one way or the other, run once on random inputs."""
    model = model_from_proto(onnx.parser.parse_model(text))
    for item in parse_pipeline(TARGET.pipeline):
        item.apply(model)
    program = Lowerer(model.graph, "NHWC", depth_to_space=depth_to_space).run()
    tidy(program)
    with tempfile.TemporaryDirectory() as folder:
        write(program, Path(folder) / "model.tflite", "edgec")
        content = (Path(folder) / "model.tflite").read_bytes()
    interpreter = Interpreter(model_content=content, num_threads=threads)
    interpreter.allocate_tensors()
    (detail,) = interpreter.get_input_details()
    numbers = np.random.default_rng(1).standard_normal(detail["shape"])
    scaled = np.clip(40 * numbers, -128, 127) if detail["dtype"] is np.int8 else numbers
    interpreter.set_tensor(detail["index"], scaled.astype(detail["dtype"]))
    interpreter.invoke()
    return interpreter


def compare(old: Interpreter, new: Interpreter) -> tuple[float, float, float]:
    """The ratio new / old of CPU times and its 95 % interval."""
    counts = [max(1, round(SLOT_S / max(_seconds(each, 3), 1e-7))) for each in (old, new)]
    ratios = []
    for _ in range(ROUNDS):
        first, second = _seconds(old, counts[0]), _seconds(new, counts[1])
        third, fourth = _seconds(new, counts[1]), _seconds(old, counts[0])
        ratios.append((second + third) / (first + fourth))
    drawn = np.random.default_rng(0).choice(ratios, (500, ROUNDS))
    low, high = np.quantile(np.median(drawn, axis=1), (0.025, 0.975))
    return float(np.median(ratios)), float(low), float(high)


def _seconds(interpreter: Interpreter, count: int) -> float:
    began = time.process_time()
    for _ in range(count):
        interpreter.invoke()
    return (time.process_time() - began) / count


def _result(interpreter: Interpreter) -> Any:
    (detail,) = interpreter.get_output_details()
    return interpreter.get_tensor(detail["index"]).astype(np.float64)


def main() -> None:
    """Measure every combination and print a line for each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--channels", nargs="+", default=["1,1", "8,8", "24,1", "24,24", "128,128"], metavar="IN,OUT")
    parser.add_argument("--blocks", nargs="+", type=int, default=[2, 3, 4])
    parser.add_argument("--sizes", nargs="+", type=int, default=[20, 80])
    parser.add_argument("--threads", nargs="+", type=int, default=[1, 2])
    arguments = parser.parse_args()
    print("| type | channels | block | image | threads | new / old | largest difference |")
    print("| --- | --- | ---: | ---: | ---: | --- | ---: |")
    kinds = (False, True)
    chosen = itertools.product(kinds, arguments.channels, arguments.blocks, arguments.sizes, arguments.threads)
    for integers, channels, block, size, threads in chosen:
        inputs, outputs = map(int, channels.split(","))
        text = source(inputs, outputs, block, size, integers)
        old, new = (opened(text, way, threads) for way in (False, True))
        difference = np.abs(_result(old) - _result(new)).max()
        ratio, low, high = compare(old, new)
        kind = "int8" if integers else "float32"
        found = f"{ratio:.3f} ({low:.3f} to {high:.3f})"
        print(f"| {kind} | {channels} | {block} | {size} | {threads} | {found} | {difference:.2g} |", flush=True)


if __name__ == "__main__":
    main()
