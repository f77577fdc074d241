"""External delegates: loading, options, what they take and what they leave; and LiteRT's session options."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgec.errors import EdgecError
from edgec.runtime.isolation import open_isolated
from edgec.targets.tflite import TARGET
from edgec.targets.tflite.session import LiteRTSession, open_session

from .lowered import lower

FACTORY = "edgec.targets.tflite.session:open_session"
TEXT = """
<ir_version: 8, opset_import: ["" : 13]>
agraph (float[1, 8] x) => (float[1, 8] y) {
    a = Sin(x)
    b = Add(a, x)
    c = Sin(b)
    d = Add(c, x)
    e = Add(d, a)
    y = Sin(e)
}
"""
"""Six operators that nothing fuses, three of them ADD."""


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        pytest.skip("no C compiler to build the test's delegate with")
    path = tmp_path_factory.mktemp("delegate") / "libtestdelegate.so"
    source = Path(__file__).with_name("delegate.c")
    subprocess.run([compiler, "-shared", "-fPIC", "-O1", "-Wall", "-o", path, source], check=True)
    return path


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return TARGET.compile(lower(TEXT), tmp_path, "model").main


def feeds(seed: int = 0) -> dict[str, np.ndarray]:
    return {"x": np.random.default_rng(seed).standard_normal((1, 8)).astype(np.float32)}


def expected(gains: tuple[float, float, float]) -> np.ndarray:
    x = feeds()["x"]
    a = np.sin(x)
    d = gains[1] * (np.sin(gains[0] * (a + x)) + x)
    return np.sin(gains[2] * (d + a))


def opened(path: Path, library: str | Path, **options: str) -> LiteRTSession:
    session = open_session(path, delegates=[{"library": str(library), "options": options}])
    assert isinstance(session, LiteRTSession)
    return session


def refused(path: Path, **options: Any) -> EdgecError:
    with pytest.raises(EdgecError) as caught:
        open_session(path, **options)
    return caught.value


@pytest.mark.parametrize("xnnpack", [True, False])
def test_a_delegate_computes_what_it_takes(model: Path, library: Path, xnnpack: bool) -> None:
    session = open_session(
        model, xnnpack=xnnpack, delegates=[{"library": str(library), "options": {"gain": "2", "most": "2"}}]
    )
    np.testing.assert_allclose(session.run(feeds())["y"], expected((2, 2, 1)), rtol=1e-5, atol=1e-6)
    session.close()


def test_what_a_delegate_leaves_is_named(model: Path, library: Path) -> None:
    taken = opened(model, library).assignment()
    assert taken is not None and taken.runner == "libtestdelegate.so" and taken.taken == 3 and not taken.complete
    assert sorted(item.split()[1] for item in taken.left) == ["SIN", "SIN", "SIN"]
    part = opened(model, library, most="1").assignment()
    assert part is not None and part.taken == 1 and len(part.left) == 5
    nothing = opened(model, library, most="0").assignment()
    assert nothing is not None and nothing.taken == 0 and len(nothing.left) == 6


def test_a_part_of_several_operators_is_counted_whole(tmp_path: Path, library: Path) -> None:
    """Additions in a row are one part of the graph, with inputs that other parts make."""
    text = TEXT.replace("c = Sin(b)", "c = Add(b, a)")
    path = TARGET.compile(lower(text), tmp_path, "model").main
    taken = opened(path, library).assignment()
    assert taken is not None and taken.taken == 4 and [item.split()[1] for item in taken.left] == ["SIN", "SIN"]


def test_two_delegates_share_a_model(model: Path, library: Path) -> None:
    one, other = ({"library": str(library), "options": {"most": "1", "gain": gain}} for gain in ("2", "3"))
    session = open_session(model, delegates=[one, other])
    taken = session.assignment()
    assert taken is not None and taken.taken == 2 and taken.runner == "libtestdelegate.so, libtestdelegate.so"
    np.testing.assert_allclose(session.run(feeds())["y"], expected((2, 3, 1)), rtol=1e-5, atol=1e-6)


def test_require_delegate_refuses_what_is_left(model: Path, library: Path, tmp_path: Path) -> None:
    error = refused(model, delegates=[{"library": str(library)}], require_delegate=True)
    assert error.code == "EDG523" and error.exit_code == 4
    assert "SIN" in str(error) and len(error.details["left"]) == 3
    text = '<ir_version: 8, opset_import: ["" : 13]> agraph (float[2] x, float[2] z) => (float[2] y) { y = Add(x, z) }'
    whole = TARGET.compile(lower(text), tmp_path / "..", "whole").main
    session = open_session(whole, delegates=[{"library": str(library)}], require_delegate=True)
    taken = session.assignment()
    assert taken is not None and taken.complete and taken.describe().endswith("took all operators")


def test_the_refusal_of_a_delegate_is_quoted(model: Path, library: Path) -> None:
    error = refused(model, delegates=[{"library": str(library), "options": {"fail": "no Mali GPU found"}}])
    assert error.code == "EDG520" and error.exit_code == 5
    assert "refused to start" in error.message and "no Mali GPU found" in str(error.why)
    error = refused(model, delegates=[{"library": str(library), "options": {"speed": "11"}}])
    assert "unknown option" in str(error.why) and "speed=11" in str(error.where)


def test_libraries_that_are_no_delegates_have_their_own_messages(model: Path, library: Path, tmp_path: Path) -> None:
    def message(name: str | Path) -> str:
        error = refused(model, delegates=[{"library": str(name)}])
        assert error.code == "EDG520"
        return error.message

    assert "is not there" in message(tmp_path / "libnone.so")
    assert "loader's path" in message("libnosuchdelegate.so")
    cut = tmp_path / "libcut.so"
    whole = library.read_bytes()
    for length in (60, 100, 1000, 5000, len(whole) * 3 // 4):
        cut.write_bytes(whole[:length])
        assert "cut off" in message(cut)
    cut.write_text("no library at all")
    assert "cannot be loaded" in message(cut)
    source = tmp_path / "other.c"
    source.write_text("int answer(void) { return 42; }")
    other = tmp_path / "libother.so"
    subprocess.run([shutil.which("cc") or "gcc", "-shared", "-fPIC", "-o", other, source], check=True)
    assert "no LiteRT delegate" in message(other)


def test_delegates_work_in_an_isolated_session(model: Path, library: Path) -> None:
    settings = {"delegates": [{"library": str(library), "options": {"gain": "2"}}]}
    session = open_isolated(FACTORY, model, settings)
    np.testing.assert_allclose(session.run(feeds())["y"], expected((2, 2, 2)), rtol=1e-5, atol=1e-6)
    taken = session.assignment()
    assert taken is not None and taken.taken == 3 and len(taken.left) == 3
    session.close()
    with pytest.raises(EdgecError) as caught:
        open_isolated(FACTORY, model, {**settings, "require_delegate": True})
    assert caught.value.code == "EDG523" and len(caught.value.details["left"]) == 3


def test_xnnpack_is_told_apart_from_the_built_in_kernels(model: Path) -> None:
    session = open_session(model)
    taken = session.assignment()
    assert taken is not None and taken.runner == "XNNPACK"
    assert (taken.taken or 0) + len(taken.left) == 6
    assert open_session(model, xnnpack=False).assignment() is None


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ({"threads": 0}, "threads"),
        ({"xnnpack": 1}, "xnnpack"),
        ({"api": "graph"}, "api"),
        ({"accelerator": "tpu", "api": "compiled"}, "accelerator"),
        ({"accelerator": "gpu"}, "api=compiled"),
        ({"delegates": [{"library": "a.so"}], "api": "compiled"}, "interpreter"),
        ({"delegates": ["a.so"]}, "no delegate"),
        ({"delegates": [{"library": "a.so", "settings": {}}]}, "no delegate"),
        ({"weight_cache": "w"}, "api=compiled"),
        ({"weight_cache": "w", "api": "compiled", "xnnpack": False}, "XNNPACK"),
        ({"require_delegate": True, "xnnpack": False}, "require_delegate"),
        ({"specialise": 2, "api": "compiled"}, "specialise"),
        ({"specialise": 2}, "fixed shape"),
        ({"arena": True}, "arena"),
    ],
    ids=str,
)
def test_contradictions_and_wrong_values_are_refused(model: Path, options: dict[str, Any], word: str) -> None:
    error = refused(model, **options)
    assert error.code == "EDG040" and word in str(error)
