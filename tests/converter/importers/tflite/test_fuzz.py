"""No byte string makes the importer or `inspect` fail with anything but an error of ours."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from edgec.converter.importers import inspect_source, open_source, source_nodes
from edgec.errors import EdgecError
from edgec.ir.proto import model_to_proto
from tests.converter.importers.damage import Edit, damaged, edits, fuzzing

from .building import Builder, options


def network() -> bytes:
    """A quantized convolution, its activation, a slice and a dense layer."""
    b = Builder()
    x = b.tensor("x", [1, 6, 6, 2], np.int8, scale=0.1, zero_point=3, signature=[-1, 6, 6, 2])
    weights = b.const("w", np.ones((3, 3, 3, 2), np.int8), scale=[0.1, 0.2, 0.3])
    bias = b.const("b", np.ones(3, np.int32), scale=[0.01, 0.02, 0.03])
    y = b.tensor("y", [1, 3, 3, 3], np.int8, scale=0.2, zero_point=-4)
    b.op("CONV_2D", [x, weights, bias], [y], options("Conv2DOptions", strideW=2, strideH=2, fusedActivationFunction=1))
    z = b.tensor("z", [1, 3, 3], np.int8, scale=0.2, zero_point=-4)
    masks = options("StridedSliceOptions", beginMask=5, endMask=5, shrinkAxisMask=2)
    corners = [b.const(name, value, np.int32) for name, value in (("i", [0, 1, 0]), ("j", [0, 2, 0]), ("k", [1, 1, 1]))]
    b.op("STRIDED_SLICE", [y, *corners], [z], masks)
    flat = b.tensor("flat", [1, 9], np.int8, scale=0.2, zero_point=-4)
    b.op("RESHAPE", [z, b.const("s", [1, 9], np.int32)], [flat], options("ReshapeOptions", newShape=[1, 9]))
    dense = b.tensor("dense", [1, 4], np.int8, scale=0.2, zero_point=-4)
    b.op(
        "FULLY_CONNECTED",
        [flat, b.const("v", np.ones((4, 9), np.int8), scale=0.1), -1],
        [dense],
        options("FullyConnectedOptions"),
    )
    out = b.tensor("out", [1, 4])
    b.op("DEQUANTIZE", [dense], [out], options("DequantizeOptions"))
    b.signature({"image": x}, {"scores": out})
    return b.content([x], [out])


SEED = network()


def read(folder: Path, content: bytes) -> None:
    path = folder / "fuzzed.tflite"
    path.write_bytes(content)
    for reader in (open_source, inspect_source, source_nodes):
        try:
            found = reader(path)
            if reader is open_source:
                model_to_proto(found.model).SerializeToString()  # reads the constants
        except EdgecError as error:
            assert error.exit_code in (3, 4), error


def test_the_seed_is_read(tmp_path: Path) -> None:
    path = tmp_path / "seed.tflite"
    path.write_bytes(SEED)
    assert [node.op for node in open_source(path).model.graph.nodes].count("Conv") == 1


@fuzzing(400)
@given(changes=edits)
def test_a_damaged_model_is_read_or_refused(tmp_path: Path, changes: list[Edit]) -> None:
    read(tmp_path, damaged(SEED, changes))


@fuzzing(400)
@given(content=st.binary(max_size=200))
def test_any_bytes_are_refused(tmp_path: Path, content: bytes) -> None:
    read(tmp_path, content)
    read(tmp_path, content[:4] + b"TFL3" + content[4:])
