"""No byte string makes the importer or `inspect` fail with anything but an error of ours."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from hypothesis import given
from hypothesis import strategies as st
from onnx import helper

from edgec.converter.importers.onnx import import_model
from edgec.converter.inspect import inspect_model
from edgec.errors import EdgecError
from tests.converter.importers.building import model
from tests.converter.importers.damage import Edit, damaged, edits, fuzzing
from tests.converter.importers.test_functions import TEXT

SEEDS = [
    onnx.parser.parse_model(TEXT).SerializeToString(),
    model(
        [
            helper.make_node("Conv", ["x", "w"], ["a"], pads=[1, 1, 1, 1]),
            helper.make_node("Clip", ["a"], ["b"], min=0.0, max=6.0),
            helper.make_node("Upsample", ["b"], ["y"], scales=[1.0, 1.0, 2.0, 2.0]),
        ],
        {"x": ["N", 2, 4, 4]},
        ["y"],
        opset=7,
        constants={"w": np.ones((2, 2, 3, 3), np.float32)},
        ir_version=3,
    ).SerializeToString(),
]


def read(folder: Path, content: bytes) -> None:
    path = folder / "fuzzed.onnx"
    path.write_bytes(content)
    for reader in (import_model, inspect_model):
        try:
            reader(path)
        except EdgecError as error:
            assert error.exit_code in (3, 4), error


@fuzzing(300)
@given(seed=st.sampled_from(SEEDS), changes=edits)
def test_a_damaged_model_is_read_or_refused(tmp_path: Path, seed: bytes, changes: list[Edit]) -> None:
    read(tmp_path, damaged(seed, changes))


@fuzzing(300)
@given(content=st.binary(max_size=200))
def test_any_bytes_are_refused(tmp_path: Path, content: bytes) -> None:
    read(tmp_path, content)
    read(tmp_path, b"\x08\x08" + content)
