"""What follows an operator whose result has no static shape still runs: the tail of a detector."""

from __future__ import annotations

import numpy as np
import onnx

from ..lowered import run
from .single import lower, reference

TAIL = """<ir_version: 10, opset_import: ["" : 22]>
detector (float[1,30,4] boxes, float[1,2,30] scores)
=> (float[n,4] found, float[n] best, int64[n] label, float[n,6] all)
<int64[1] most = {5}, float[1] overlap = {0.4}, float[1] least = {0.2}, int64[1] two = {2}, int64[1] three = {3},
 int64[1] one = {1}, int64[1] zero = {0}, int64[2] row = {0, -1}>
{
    picked = NonMaxSuppression (boxes, scores, most, overlap, least)
    column = Slice (picked, two, three, one)
    places = Squeeze (column, one)
    flat = Squeeze (boxes, zero)
    found = Gather (flat, places)
    best = GatherND <batch_dims = 0> (scores, picked)
    second = Slice (picked, one, two, one)
    label = Squeeze (second, one)
    wide = Cast <to = 1> (second)
    column_of_best = Unsqueeze (best, one)
    all = Concat <axis = 1> (found, column_of_best, wide)
}"""


def test_the_tail_of_a_detector() -> None:
    rng = np.random.default_rng(0)
    corners = rng.uniform(0, 1, (1, 30, 2))
    boxes = np.concatenate([corners, corners + rng.uniform(0.1, 0.5, (1, 30, 2))], axis=2).astype(np.float32)
    feeds = {"boxes": boxes, "scores": rng.uniform(0, 1, (1, 2, 30)).astype(np.float32)}
    model = onnx.parser.parse_model(TAIL)
    actual, expected = run(lower(model), feeds), reference(model, feeds)
    assert list(actual) == list(expected)
    for name, want in expected.items():
        assert actual[name].shape == want.shape and actual[name].dtype == want.dtype
        np.testing.assert_allclose(actual[name], want, rtol=1e-6)
