"""Random inputs respect what the operators that read them can take."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edgec.converter.verification.inputs import Generator
from edgec.converter.verify import _input_spec
from edgec.errors import UsageError
from edgec.runtime.onnxruntime import open_session

from .support import imported, save


def generator(path: Path, **ranges: tuple[float, float]) -> Generator:
    model = imported(path).model
    return Generator([_input_spec(value) for value in model.graph.inputs], model, ranges, 0)


def runs(path: Path, samples: int = 6) -> list[tuple[dict[str, np.ndarray], dict[str, np.ndarray]]]:
    """Draw samples and run them in ONNX Runtime."""
    source, session = generator(path), open_session(path, optimise=False)
    drawn = [source.draw(sample) for sample in range(samples)]
    return [(feeds, session.run(feeds)) for feeds in drawn]


def test_samples_do_not_depend_on_each_other(tmp_path: Path) -> None:
    path = save(tmp_path, "agraph (float[3, 4] x) => (float[3, 4] y) { y = Neg(x) }")
    np.testing.assert_array_equal(generator(path).draw(2)["x"], generator(path).draw(2)["x"])
    assert not np.array_equal(generator(path).draw(0)["x"], generator(path).draw(1)["x"])


def test_indices_stay_within_the_table_through_a_shift_and_a_cast(tmp_path: Path) -> None:
    path = save(
        tmp_path,
        """agraph (int64[1, 8] tokens) => (float[1, 8, 2] y)
        <float[5, 2] table = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9}, int32 two = {2}>
        { a = Cast<to=6>(tokens) b = Add(a, two) y = Gather(table, b) }""",
    )
    for feeds, _ in runs(path):
        assert feeds["tokens"].min() >= -2 and feeds["tokens"].max() <= 2


def test_indices_also_count_from_the_end(tmp_path: Path) -> None:
    path = save(tmp_path, "agraph (float[6, 2] x, int64[20] i) => (float[20, 2] y) { y = Gather(x, i) }")
    drawn = [feeds["i"] for feeds, _ in runs(path)]
    assert min(array.min() for array in drawn) < 0 <= max(array.max() for array in drawn) < 6


@pytest.mark.parametrize("op", ["Log", "Sqrt", "Acos", "Asin", "Atanh", "Acosh", "Reciprocal"])
def test_mathematical_domains(tmp_path: Path, op: str) -> None:
    path = save(tmp_path, f"agraph (float[50] x) => (float[50] y) {{ y = {op}(x) }}")
    for _, outputs in runs(path):
        assert np.isfinite(outputs["y"]).all()


def test_integer_divisors_are_not_zero(tmp_path: Path) -> None:
    path = save(tmp_path, "agraph (int32[50] x, int32[50] d) => (int32[50] y) { y = Div(x, d) }")
    for feeds, _ in runs(path):
        assert np.all(feeds["d"] != 0)


def test_images_of_bytes_use_the_whole_range(tmp_path: Path) -> None:
    path = save(tmp_path, "agraph (uint8[1, 3, 16, 16] x) => (float[1, 3, 16, 16] y) { y = Cast<to=1>(x) }")
    drawn = generator(path).draw(0)["x"]
    assert drawn.min() < 10 and drawn.max() > 245


def test_comparisons_find_equal_elements(tmp_path: Path) -> None:
    path = save(tmp_path, "agraph (float[40] x, float[40] z) => (bool[40] y) { y = Equal(x, z) }")
    for _, outputs in runs(path):
        assert 0 < outputs["y"].sum() < 40


def test_a_compared_scalar_takes_the_constant_value(tmp_path: Path) -> None:
    path = save(tmp_path, "agraph (int64 rate) => (bool y) <int64 c = {16000}> { y = Equal(rate, c) }")
    assert generator(path).draw(0)["rate"] == 16000


def test_special_values_reach_the_operators_that_ask_for_them(tmp_path: Path) -> None:
    path = save(tmp_path, "agraph (float[50] x) => (bool[50] y) { y = IsNaN(x) }")
    assert 0 < runs(path)[0][1]["y"].sum() < 50


@pytest.mark.parametrize(
    "graph",
    [
        "(float[2, 3, 4] x, int64[2] s) => (float[6, 4] y) { y = Reshape(x, s) }",
        "(float[3, 1] x, int64[3] s) => (float[2, 3, 6] y) { y = Expand(x, s) }",
        "(float[2, 3] x, int64[2] r) => (float[4, 9] y) { y = Tile(x, r) }",
        "(int64[3] s) => (float[4, 3, 2] y) { y = ConstantOfShape(s) }",
        "(float[20, 10, 5] x, int64[2] s, int64[2] e, int64[2] a, int64[2] t) => (float[20, 5, 2] y)"
        " { y = Slice(x, s, e, a, t) }",
        "(float[20, 10] x, int64[2] s, int64[2] e) => (float[3, 10] y) { y = Slice(x, s, e) }",
        "(float[2, 3] x, int64[4] p, float c) => (float[5, 4] y) { y = Pad(x, p, c) }",
        "(float[2, 3] x, int64[2] p, int64[1] a) => (float[2, 7] y) <float none = {0}> { y = Pad(x, p, none, a) }",
        "(float[4, 6] x, int64[1] k) => (float[4, 3] v, int64[4, 3] i) { v, i = TopK(x, k) }",
        "(float[2, 4] x, int64[1] a) => (float[2, 1] y) { y = ReduceSum(x, a) }",
        "(float[2, 1, 4] x, int64[1] a) => (float[2, 4] y) { y = Squeeze(x, a) }",
        "(float[2, 4] x, int64[2] a) => (float[1, 2, 4, 1] y) { y = Unsqueeze(x, a) }",
        "(float[6] x, int64[2] s) => (float[2] y, float[4] z) { y, z = Split(x, s) }",
        "(int64 a, int64 b, int64 d) => (int64[5] y) { y = Range(a, b, d) }",
        "(float[1, 1, 4, 4] x, float[4] s) => (float[1, 1, 7, 10] y) { y = Resize(x, , s) }",
        "(float[1, 1, 4, 4] x, int64[4] s) => (float[1, 1, 7, 10] y) { y = Resize(x, , , s) }",
        "(int64[3] i, int64 d, float[2] v) => (float[3, 6] y) { y = OneHot(i, d, v) }",
        "(float[5, 4] x, int64[3, 1] i, float[3, 4] u) => (float[5, 4] y) { y = ScatterND(x, i, u) }",
        "(float[5, 4] x, int64[3, 4] i, float[3, 4] u) => (float[5, 4] y) { y = ScatterElements(x, i, u) }",
        "(float[5, 4] x, int64[7, 2] i) => (float[7] y) { y = GatherND(x, i) }",
        "(float[5, 4] x, bool[5] c) => (float[2, 4] y) { y = Compress<axis=0>(x, c) }",
        "(float[4, 4] x, int64 k) => (float[4, 4] y) { y = Trilu(x, k) }",
        "(float[4, 4] x, int32 a) => (float[4, 4] y) { y = CumSum(x, a) }",
        "(float[1, 1, 8, 8] x, float[2, 4] r, int64[2] b) => (float[2, 1, 1, 1] y) { y = RoiAlign(x, r, b) }",
        "(int64 n) => (float[9] y) { y = HannWindow(n) }",
    ],
)
def test_parameters_give_the_declared_shape(tmp_path: Path, graph: str) -> None:
    path = save(tmp_path, "agraph " + graph)
    declared = {value.name: value for value in imported(path).model.graph.outputs}
    for _, outputs in runs(path):
        for name, array in outputs.items():
            assert array.shape == declared[name].dims


def test_a_given_range_overrules(tmp_path: Path) -> None:
    path = save(tmp_path, "agraph (float[50] x) => (float[50] y) { y = Log(x) }")
    source = generator(path, x=(100, 200))
    assert source.draw(0)["x"].min() >= 100 and "given" in source.describe("x")
    with pytest.raises(UsageError) as caught:
        generator(path, z=(0, 1))
    assert caught.value.code == "EDG002"
    with pytest.raises(UsageError) as caught:
        generator(path, x=(2, 1))
    assert caught.value.code == "EDG001"
