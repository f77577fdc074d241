"""LiteRT sessions give back what they took, and may be kept per input shape."""

from __future__ import annotations

import gc
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgec.errors import EdgecError
from edgec.targets.tflite import TARGET
from edgec.targets.tflite.session import open_session
from tests.targets.tflite.lowered import lower

from .litert_files import unary
from .process import growth, needs_compiled, settled_threads, threads

MB = 1 << 20
LARGE = """
<ir_version: 8, opset_import: ["" : 13]>
agraph (float[1, 1024, 1024] x) => (float[1, 1024, 1024] y) {
    a = MatMul(x, x)
    b = Sigmoid(a)
    y = MatMul(b, x)
}
"""
"""Four values of 4 MB each."""


PLAIN = """
import sys
from ai_edge_litert.interpreter import Interpreter
Interpreter(model_path=sys.argv[1]).allocate_tensors()
"""
GREETED = """
import os, sys, threading
import numpy as np
from edgec.targets.tflite import greeting
from edgec.targets.tflite.session import open_session

made = greeting._absolute
def slow():
    os.write(2, b"from another thread\\n")
    return made()
greeting._absolute = slow
session = open_session(sys.argv[1])
session.run({"x": np.ones((2, 2), np.float32)})
os.write(2, b"after\\n")
"""


def test_litert_says_nothing_of_itself_and_others_lose_nothing(tmp_path: Path) -> None:
    path = unary(tmp_path / "abs.tflite", "ABS", [("x", (2, 2))], ["y"])
    plain = [sys.executable, "-c", PLAIN, path]
    said = subprocess.run(plain, capture_output=True, text=True, check=True).stderr
    assert "Created TensorFlow Lite XNNPACK delegate" in said, "LiteRT has become silent: edgec need not hush it"
    done = subprocess.run([sys.executable, "-c", GREETED, path], capture_output=True, text=True, check=True)
    assert done.stderr == "from another thread\nafter\n"
    closed = [sys.executable, "-c", "import os; os.close(2)\n" + GREETED.replace("os.write(2,", "len("), path]
    subprocess.run(closed, check=True)


@pytest.mark.parametrize("api", ["interpreter", "compiled"])
def test_closing_ends_the_threads_of_the_runtime(tmp_path: Path, api: str) -> None:
    needs_compiled(api)
    path, x = TARGET.compile(lower(LARGE), tmp_path, "model").main, np.ones((1, 1024, 1024), np.float32)
    open_session(path, api=api).close()
    gc.collect()
    before = threads()
    for _ in range(3):
        session = open_session(path, api=api, threads=3)
        session.run({"x": x})
        assert threads() > before
        session.close()
        del session
        gc.collect()
        assert settled_threads(before) <= before


@pytest.mark.parametrize("api", ["interpreter", "compiled"])
def test_closing_gives_memory_back(tmp_path: Path, api: str) -> None:
    """A session of more than 16 MB; twenty that kept theirs would add 320."""
    needs_compiled(api)
    path, x = TARGET.compile(lower(LARGE), tmp_path, "model").main, np.ones((1, 1024, 1024), np.float32)

    def cycle() -> None:
        session = open_session(path, api=api)
        binding = session.bind()
        binding.inputs["x"].fill(1)
        binding.run()
        session.run({"x": x})
        session.close()

    assert growth(cycle) < 64 * MB


def test_sessions_are_kept_per_shape_within_their_bound(tmp_path: Path) -> None:
    session: Any = open_session(unary(tmp_path / "m.tflite", "NEG", [("x", (-1, 3))], ["y"]), specialise=2)
    assert session.inputs[0].shape == (None, 3)
    for rows in (1, 2, 1, 3, 1):
        x = np.arange(rows * 3, dtype=np.float32).reshape(rows, 3)
        np.testing.assert_array_equal(session.run({"x": x})["y"], -x)
    assert session.shapes == [{"x": (3, 3)}, {"x": (1, 3)}]
    kept = session._sessions[(("x", (3, 3)),)]
    session.run({"x": np.ones((3, 3), np.float32)})
    assert session._sessions[(("x", (3, 3)),)] is kept
    with pytest.raises(EdgecError, match="has shape"):
        session.run({"x": np.ones((3, 4), np.float32)})
    session.close()
    with pytest.raises(EdgecError, match="closed"):
        session.run({"x": np.ones((1, 3), np.float32)})
