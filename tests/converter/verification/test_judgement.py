"""What an artifact may be off by where it departs from the original on purpose."""

from __future__ import annotations

import numpy as np
import pytest

from edgec.converter.verification.judgement import judge
from edgec.converter.verification.metrics import Difference
from tests.ir.equivalence import model_of

REFERENCE = np.array([3, 0, 4, 0], np.float32)


def apart(distance: float) -> Difference:
    """A difference of a relative L2."""
    found = Difference()
    found.add(REFERENCE, REFERENCE + np.array([0, 5 * distance, 0, 0], np.float32))
    return found


@pytest.mark.parametrize(("distance", "status"), [(0.05, "passed"), (0.059, "passed"), (0.062, "failed")])
def test_the_departure_that_was_meant_is_allowed_on_top_of_the_limit_and_no_more(distance: float, status: str) -> None:
    graph = model_of("g (float[4] x) => (float[4] y) { y = Relu (x) }").graph
    given = {"depends": True, "constant": False, "departure": apart(0.05)}
    report = judge("y", graph, REFERENCE, apart(distance), None, "quantized", **given)  # type: ignore[arg-type]
    assert report.status == status and report.threshold == pytest.approx(0.06)
