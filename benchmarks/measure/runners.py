"""The runtimes that artifacts are timed in."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnxruntime
from ai_edge_litert.interpreter import Interpreter
from numpy.typing import NDArray

Array = NDArray[np.generic]

# From an ONNX array to the layouts that a converter may have chosen for an image, sequence or matrix input.
PERMUTATIONS = {4: [(0, 2, 3, 1)], 3: [(0, 2, 1)], 5: [(0, 2, 3, 4, 1)]}


class OnnxRunner:
    """ONNX Runtime on the CPU; spinning is off, because it would take the other runtime's core."""

    def __init__(self, path: Path, threads: int, inputs: Mapping[str, Array] | None = None) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.log_severity_level = 3
        self.session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        self.inputs = dict(inputs) if inputs is not None else self._random()

    def __call__(self) -> list[Array]:
        """Run once; the outputs in the model's order."""
        outputs: list[Array] = self.session.run(None, self.inputs)
        return outputs

    def _random(self) -> dict[str, Array]:
        """Seeded float32 values in [0, 1); the one integer input, silero-vad's, is a sample rate."""
        random = np.random.default_rng(0)
        return {
            item.name: random.random(item.shape, dtype=np.float32)
            if item.type == "tensor(float)"
            else np.full(item.shape, 16000, dtype=np.int64)
            for item in self.session.get_inputs()
        }


class LiteRunner:
    """LiteRT's interpreter with its default delegate (XNNPACK); inputs are set once, before the timed runs."""

    def __init__(self, path: Path, threads: int, inputs: Mapping[str, Array]) -> None:
        self.interpreter = Interpreter(model_path=str(path), num_threads=threads)
        self.interpreter.allocate_tensors()
        for details, array in zip(self._ordered(list(inputs)), inputs.values(), strict=True):
            self.interpreter.set_tensor(details["index"], fit(array, tuple(details["shape"])))
        self.outputs = [details["index"] for details in self.interpreter.get_output_details()]

    def __call__(self) -> None:
        """Run once."""
        self.interpreter.invoke()

    def results(self) -> list[Array]:
        """The outputs of the last run."""
        return [self.interpreter.get_tensor(index) for index in self.outputs]

    def input_shapes(self) -> list[tuple[int, ...]]:
        """The artifact's input shapes, in its order."""
        return [tuple(map(int, details["shape"])) for details in self.interpreter.get_input_details()]

    def _ordered(self, names: list[str]) -> list[dict[str, object]]:
        """Input details in the order of `names`, where the artifact kept the names; in its own order otherwise."""
        details = self.interpreter.get_input_details()
        by_name = {item["name"]: item for item in details}
        return [by_name[name] for name in names] if all(name in by_name for name in names) else details


def fit(array: Array, shape: tuple[int, ...]) -> Array:
    """The array in the layout of `shape`: unchanged, a scalar as [1], or channels moved last; ValueError otherwise."""
    shape = tuple(map(int, shape))
    if array.shape == shape:
        return array
    if array.shape == () and shape == (1,):
        return array.reshape(1)
    for permutation in PERMUTATIONS.get(array.ndim, []):
        moved = array.transpose(permutation)
        if moved.shape == shape:
            return np.ascontiguousarray(moved)
    raise ValueError(f"an array of shape {array.shape} does not fit an input of shape {shape}")


def worst_relative_error(references: list[Array], results: list[Array]) -> float:
    """The largest relative L2 error over the outputs; each is matched by size and best fit, in any channel order."""
    worst = 0.0
    for reference in references:
        candidates = []
        for result in results:
            for layout in _layouts(reference):
                if layout.shape == result.shape:
                    expected = layout.astype(np.float64)
                    norm = float(np.linalg.norm(expected)) or 1.0
                    candidates.append(float(np.linalg.norm(result.astype(np.float64) - expected)) / norm)
        worst = max(worst, min(candidates, default=float("inf")))
    return worst


def _layouts(array: Array) -> list[Array]:
    return [array, *(array.transpose(permutation) for permutation in PERMUTATIONS.get(array.ndim, []))]
