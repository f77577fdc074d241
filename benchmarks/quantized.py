"""Quantized ONNX in LiteRT against ONNX Runtime: every operator on the same integers, and whole models.

    python benchmarks/quantized.py --work WORK [--tensorflow-python TF/bin/python]
    python benchmarks/quantized.py --work WORK --models digits ppocr-det --samples 8
    python benchmarks/quantized.py --work WORK --models ppocr-det --keep
    python benchmarks/quantized.py --work WORK --models --model mine=mine.onnx:samples.npy

The models are those of int8_agreement.py and their samples; TF is an environment with edgec's extra [tensorflow], which
reads the .h5 sources (they are left out without it).  Each float model is quantized by `edgec quantize` (unless its
result is refused) and in four ways by ONNX Runtime's own `quantize_static`, and converted for the target `tflite`.
Samples to compare on are others than those of the calibration.

For every QuantizeLinear the operators between it and the quantized tensors before it are cut out and run on the
integers that ONNX Runtime has there: in LiteRT (XNNPACK, built-in kernels) and in ONNX Runtime: on integer kernels (all
optimisations, `session.qdqisint8allowed`, `session.x64quantprecision` where it loads: without it sums saturate on CPUs
without VNNI), in float arithmetic (no optimisations), and, of whole models, as it comes (default).  Differences are in
steps, one unit of the quantized result: float outputs are compared in units of the scale of the DequantizeLinear that
gives them (1 where float operators follow it).  Of operators it is also counted how many of LiteRT's integers are not
those of the integer kernels, and how many are not those of float arithmetic either.  Writes docs/benchmarks/
quantized.json and quantized.md; with --keep the rows of models that are not run stay, if they were measured on the same
processor, with the same ONNX Runtime and as many samples.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from ai_edge_litert.interpreter import Interpreter, OpResolverType
from onnx import helper, numpy_helper, version_converter
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import edgec
from benchmarks import catalogue
from benchmarks.int8.samples import samples
from benchmarks.int8_agreement import SUBJECTS
from benchmarks.measure.machine import describe
from edgec.converter.prepare import prepare
from edgec.errors import VerificationError
from edgec.targets import registry
from tests.models import source_model

ROOT = Path(__file__).resolve().parents[1]
LINEAR = ("QuantizeLinear", "DequantizeLinear")
WAYS: dict[str, dict[str, Any]] = {
    "uint8 data, int8 weights": {"activation_type": QuantType.QUInt8, "weight_type": QuantType.QInt8},
    "int8": {"activation_type": QuantType.QInt8, "weight_type": QuantType.QInt8},
    "uint8": {"activation_type": QuantType.QUInt8, "weight_type": QuantType.QUInt8, "per_channel": False},
    "QLinear operators": {
        "activation_type": QuantType.QUInt8,
        "weight_type": QuantType.QInt8,
        "per_channel": False,
        "quant_format": QuantFormat.QOperator,
    },
}
KERNELS = {"XNNPACK": OpResolverType.AUTO, "built-in": OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES}
LEVELS = {
    "float": onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL,
    "integer": onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL,
    "default": onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL,
}
PAIRS = [
    ("XNNPACK", "integer"),
    ("XNNPACK", "float"),
    ("XNNPACK", "default"),
    ("built-in", "integer"),
    ("built-in", "float"),
    ("integer", "float"),
    ("integer", "default"),
]
SHOWN = [
    ("XNNPACK", "integer"),
    ("XNNPACK", "float"),
    ("XNNPACK", "default"),
    ("built-in", "integer"),
    ("integer", "float"),
    ("integer", "default"),
]
COUNTED = ("all", "integer/float", *KERNELS, *(f"{name}/integer" for name in KERNELS))
Arrays = dict[str, Any]


class Samples(CalibrationDataReader):  # type: ignore[misc]
    """The samples one by one, as ONNX Runtime's quantizer takes them."""

    def __init__(self, name: str, given: Any):
        self.left = iter([{name: sample[None]} for sample in given])

    def get_next(self) -> Arrays | None:
        return next(self.left, None)


def ort_session(data: bytes, level: str) -> onnxruntime.InferenceSession:
    """One of ONNX Runtime's ways; on integer kernels without saturation where there are such kernels."""
    for exact in ("1", "0"):
        options = onnxruntime.SessionOptions()
        options.graph_optimization_level, options.log_severity_level = LEVELS[level], 4
        if level == "integer":
            options.add_session_config_entry("session.qdqisint8allowed", "1")
            options.add_session_config_entry("session.x64quantprecision", exact)
        try:
            return onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # it has none for int8 data, whose products are exact anyway
            if level != "integer" or exact == "0" or "types are incompatible" not in str(error):
                raise
    raise AssertionError


class Converted:
    """A model for the target tflite, in both sets of kernels."""

    def __init__(self, path: Path, work: Path):
        target = registry.load("tflite")
        self.lowered = prepare(path, target).lower()
        file = target.compile(self.lowered, work, "converted").main
        self.interpreters = {
            name: Interpreter(str(file), num_threads=1, experimental_op_resolver_type=kind)
            for name, kind in KERNELS.items()
        }
        for interpreter in self.interpreters.values():
            interpreter.allocate_tensors()

    def run(self, kernels: str, feeds: Arrays) -> list[Any]:
        interpreter, program, layouts = self.interpreters[kernels], self.lowered.payload, self.lowered.layouts
        for name, detail in zip(program.input_names, interpreter.get_input_details()):
            array = feeds[name].transpose(layouts[name]) if name in layouts else feeds[name]
            interpreter.set_tensor(detail["index"], np.ascontiguousarray(array).reshape(array.shape))
        interpreter.invoke()
        found = []
        for name, detail in zip(program.output_names, interpreter.get_output_details()):
            array = interpreter.get_tensor(detail["index"])
            found.append(array.transpose(np.argsort(layouts[name])) if name in layouts else array)
        return found


def compare(
    path: Path, feeds: list[Arrays], work: Path, step: float = 1.0, counted: dict[str, int] | None = None
) -> dict[str, list[float]]:
    """Per pair of ways to run the model, the largest difference of each sample in steps.

    Args:
        counted: receives the number of elements, and for each set of LiteRT's kernels how many are not those of ONNX
            Runtime's integer kernels, and how many are not those of float arithmetic either.
    """
    converted, data = Converted(path, work), path.read_bytes()
    sessions = {level: ort_session(data, level) for level in LEVELS}
    found: dict[str, list[float]] = {f"{a}/{b}": [] for a, b in PAIRS}
    for sample in feeds:
        results = {name: converted.run(name, sample)[0] for name in KERNELS}
        results |= {level: session.run(None, sample)[0] for level, session in sessions.items()}
        for a, b in PAIRS:
            apart = np.abs(results[a].astype(np.float64) - results[b].astype(np.float64)).max()
            found[f"{a}/{b}"].append(round(float(apart) / step, 2))
        if counted is not None:
            first, second = results["integer"], results["float"]
            counted["all"] += int(first.size)
            counted["integer/float"] += int((first != second).sum())
            for name in KERNELS:
                counted[name] += int(((results[name] != first) & (results[name] != second)).sum())
                counted[f"{name}/integer"] += int((results[name] != first).sum())
    return found


def cut(model: onnx.ModelProto, feeds: list[Arrays], folder: Path) -> list[tuple[str, Path, list[Arrays]]]:
    """Every group of operators between quantized tensors: a title, a model of its own, and the integers it gets."""
    graph = model.graph
    constants = {tensor.name: tensor for tensor in graph.initializer}
    fixed, producers = {*constants, ""}, {}
    for node in graph.node:
        producers.update(dict.fromkeys(node.output, node))
        if all(name in fixed for name in node.input):
            fixed.update(node.output)
    inputs = {value.name for value in graph.input} - set(constants)
    ends = [node for node in graph.node if node.op_type == "QuantizeLinear" and node.output[0] not in fixed]
    whole = onnx.ModelProto()
    whole.CopyFrom(model)
    given = {value.name for value in graph.output}
    whole.graph.output.extend(onnx.ValueInfoProto(name=e.output[0]) for e in ends if e.output[0] not in given)
    session = ort_session(whole.SerializeToString(), "float")
    names = [value.name for value in session.get_outputs()]
    values = [{**sample, **dict(zip(names, session.run(None, sample)))} for sample in feeds]
    found = []
    for number, end in enumerate(ends):
        nodes: list[onnx.NodeProto] = []
        starts: list[str] = []
        seen: set[str] = set()
        pending = [(end.output[0], False)]
        while pending:
            name, done = pending.pop()
            if done:
                nodes.append(producers[name])
                continue
            if name in seen or name in constants or not name:
                continue
            seen.add(name)
            node = producers.get(name)
            before = node is not None and node.op_type == "QuantizeLinear" and node is not end
            if name not in fixed and (name in inputs or before):
                starts.append(name)
                continue
            assert node is not None
            pending.append((name, True))
            pending.extend((operand, False) for operand in node.input)
        operators = [n.op_type for n in nodes if n.op_type not in LINEAR and n.output[0] not in fixed]
        used = {name for node in nodes for name in node.input}
        parts = [constants[name] for name in sorted(used) if name in constants]
        typed = {name: values[0][name] for name in (*starts, end.output[0])}
        declared = {
            name: helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(array.dtype), array.shape)
            for name, array in typed.items()
        }
        body = helper.make_graph(nodes, "part", [declared[s] for s in starts], [declared[end.output[0]]], parts)
        path = folder / f"part{number}.onnx"
        part = helper.make_model(body, opset_imports=model.opset_import, ir_version=model.ir_version)
        path.write_bytes(part.SerializeToString())
        found.append(("+".join(operators) or "requantizing", path, [{s: v[s] for s in starts} for v in values]))
    return found


def steps_of(model: onnx.ModelProto) -> float:
    """The scale of the only output where it is dequantized at last, else 1."""
    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    producers = {name: node for node in model.graph.node for name in node.output}
    node = producers[model.graph.output[0].name]
    while node.op_type in ("Reshape", "Flatten", "Squeeze", "Transpose") and node.input[0] in producers:
        node = producers[node.input[0]]
    return float(constants[node.input[1]].reshape(-1)[0]) if node.op_type == "DequantizeLinear" else 1.0


def _hold_constants(model: onnx.ModelProto) -> None:
    """Make initializers of Constant nodes, whose weights ONNX Runtime's quantizer takes for activations."""
    kept = []
    for node in model.graph.node:
        if node.op_type == "Constant" and node.attribute[0].name == "value":
            tensor = node.attribute[0].t
            tensor.name = node.output[0]
            model.graph.initializer.append(tensor)
        else:
            kept.append(node)
    del model.graph.node[:]
    model.graph.node.extend(kept)


def quantized(name: str, path: Path, inputs: Any, work: Path) -> dict[str, Path]:
    """The float model in all forms of quantization."""
    model = onnx.load(path)
    model.graph.ClearField("value_info")
    if model.opset_import[0].version < 13:
        model = version_converter.convert_version(model, 13)
    _hold_constants(model)
    constants = {tensor.name for tensor in model.graph.initializer}
    (given,) = [value for value in model.graph.input if value.name not in constants]
    for dim, extent in zip(given.type.tensor_type.shape.dim, (1, *inputs.shape[1:])):
        dim.dim_value = extent
    plain = work / f"{name}.onnx"
    onnx.save(model, plain)
    calibration = work / f"{name}.npz"
    np.savez(calibration, **{given.name: inputs[:16, None]})
    found: dict[str, Path] = {}
    try:
        found["edgec"] = edgec.quantize(plain, work / f"{name}-edgec.onnx", calibration=calibration).model
    except VerificationError as error:
        print(f"{name}: {error.message}", file=sys.stderr)
    for number, (title, options) in enumerate(WAYS.items()):
        found[title] = work / f"{name}-{number}.onnx"
        chosen = {"per_channel": True, "quant_format": QuantFormat.QDQ, **options}
        quantize_static(str(plain), str(found[title]), Samples(given.name, inputs[:16]), **chosen)
    return found


def measure(name: str, path: Path, inputs: Any, work: Path, count: int) -> list[dict[str, Any]]:
    """One row per form of quantization."""
    rows = []
    for title, file in quantized(name, path, inputs, work).items():
        model = onnx.load(file)
        (given,) = [v.name for v in model.graph.input if v.name not in {t.name for t in model.graph.initializer}]
        feeds = [{given: sample[None]} for sample in inputs[16 : 16 + count]]
        row: dict[str, Any] = {"model": name, "quantized by": title, "step": steps_of(model)}
        row["whole"] = compare(file, feeds, work, row["step"])
        operators: dict[str, dict[str, float]] = defaultdict(lambda: dict.fromkeys((f"{a}/{b}" for a, b in PAIRS), 0.0))
        counts: dict[str, dict[str, int]] = defaultdict(lambda: dict.fromkeys(COUNTED, 0))
        if title != "QLinear operators":
            parts = cut(model, feeds[:3], work)
            for kind, part, integers in parts:
                for pair, apart in compare(part, integers, work, counted=counts[kind]).items():
                    operators[kind][pair] = max(operators[kind][pair], *apart)
            row["parts"] = len(parts)
            row["differing"] = {kind: dict(counted) for kind, counted in counts.items()}
        row["operators"] = dict(operators)
        rows.append(row)
        print(json.dumps({key: row[key] for key in ("model", "quantized by", "whole")}), flush=True)
    return rows


def table(rows: list[dict[str, Any]], count: int, machine: str) -> str:
    """The Markdown page."""
    lines = [
        "# Quantized ONNX in LiteRT",
        "",
        "Written by `python benchmarks/quantized.py`; what is compared with what, its first lines say. Whole models:",
        f"the samples out of {count} that are within one step of the result, and the largest difference in steps.",
        "Operators, on the same integers, 3 samples: how many of all results are not those of ONNX Runtime's integer",
        "kernels, how many not those of its float arithmetic either, and how many results of these two differ.",
        "",
        f"Processor: {machine}",
        "",
        "| model | quantized by | XNNPACK / ORT integer | XNNPACK / ORT float | XNNPACK / ORT default "
        "| built-in / ORT integer | ORT integer / float | ORT integer / default | operators: XNNPACK / ORT integer "
        "| neither | ORT integer / float |",
        "| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: | --- | ---: | ---: |",
    ]
    for row in rows:
        whole = row["whole"]
        apart = [whole[f"{a}/{b}"] for a, b in SHOWN]
        cells = [f"{sum(value <= 1.01 for value in values)}, {max(values):g}" for values in apart]
        lines.append(f"| {row['model']} | {row['quantized by']} | {' | '.join(cells)} | {_worst(row)} |")
    return "\n".join(lines) + "\n"


def _worst(row: dict[str, Any]) -> str:
    if not row["operators"]:
        return " | | "
    sums = {name: sum(kind[name] for kind in row["differing"].values()) for name in COUNTED}
    first = f"{sums['XNNPACK/integer']} of {sums['all']} ({row['parts']} groups)"
    return f"{first} | {sums['XNNPACK']} | {sums['integer/float']}"


def processor() -> str:
    """What ONNX Runtime's integer kernels depend on."""
    described = describe()
    flags = next((line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("flags")), "")
    fast = [name for name in ("avx2", "avx_vnni", "avx512_vnni") if f" {name} " in f"{flags} "]
    return f"{described['processor']}, {', '.join(fast) or 'no AVX2'}; onnxruntime {onnxruntime.__version__}"


def chosen(name: str, work: Path, python: Path | None) -> tuple[Path, Any] | None:
    """A float model of int8_agreement.py and its samples, 16 to calibrate with first; None without its reader."""
    subject = SUBJECTS[name]
    if subject.source.startswith("digits/"):
        path = ROOT / "examples" / subject.source
    elif Path(subject.source).suffix in (".h5", ".hdf5"):
        if python is None:
            print(f"{name}: a Keras file needs --tensorflow-python", file=sys.stderr)
            return None
        path = work / f"{name}-float.onnx"
        if not path.exists():
            source = str(source_model(subject.source))
            subprocess.run([str(python), "-m", "edgec", "import", source, "-o", str(path)], cwd=ROOT, check=True)
    else:
        path = catalogue.load(subject.source, work / "models").path
    held = samples(name, ROOT / "examples")
    return path, np.concatenate([held.calibration[:16], held.comparison])[:, 0]


def kept(output: Path, count: int) -> list[dict[str, Any]]:
    """The rows of an earlier run that may stand beside new ones; SystemExit where it was run otherwise."""
    document = json.loads((output / "quantized.json").read_text())
    if (document["samples"], document["processor"]) != (count, processor()):
        raise SystemExit(f"{output}: {document['samples']} samples on {document['processor']}; nothing can be kept")
    rows: list[dict[str, Any]] = document["rows"]
    return rows


def joined(earlier: list[dict[str, Any]], rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """New rows in the places of the earlier ones of the same models, new models last."""
    measured = dict.fromkeys(row["model"] for row in rows)
    order = dict.fromkeys([*(row["model"] for row in earlier), *measured])
    return [row for name in order for row in (rows if name in measured else earlier) if row["model"] == name]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--models", nargs="*", choices=list(SUBJECTS), default=list(SUBJECTS))
    parser.add_argument("--model", action="append", default=[], metavar="NAME=FILE.onnx:SAMPLES.npy")
    parser.add_argument("--samples", type=int, default=8)
    parser.add_argument("--tensorflow-python", type=Path, help="python of an environment with edgec[tensorflow]")
    parser.add_argument("--output", type=Path, default=ROOT / "docs" / "benchmarks")
    parser.add_argument("--keep", action="store_true", help="keep the rows of models that are not run")
    arguments = parser.parse_args()
    earlier = kept(arguments.output, arguments.samples) if arguments.keep else []
    arguments.work.mkdir(parents=True, exist_ok=True)
    python = arguments.tensorflow_python.absolute() if arguments.tensorflow_python else None
    models = {name: chosen(name, arguments.work.resolve(), python) for name in arguments.models}
    for item in arguments.model:
        name, _, rest = item.partition("=")
        file, _, data = rest.rpartition(":")
        models[name] = (Path(file), np.load(data))
    rows: list[dict[str, Any]] = []
    arguments.output.mkdir(parents=True, exist_ok=True)
    for name, found in models.items():
        if found is None:
            continue
        rows += measure(name, *found, arguments.work, arguments.samples)
        shown = joined(earlier, rows)
        document = {"samples": arguments.samples, "processor": processor(), "rows": shown}
        (arguments.output / "quantized.json").write_text(json.dumps(document, indent=1) + "\n")
        (arguments.output / "quantized.md").write_text(table(shown, arguments.samples, processor()))


if __name__ == "__main__":
    main()
