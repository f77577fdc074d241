"""Every target passes its floors, and never hands out an artifact that does not load or computes something else."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from ..models import ModelUnavailable, node_test_data
from .suite import FLOORS, Results, floors, run_suite

TARGETS = sorted(json.loads(FLOORS.read_text()))

pytestmark = [
    pytest.mark.slow,
    pytest.mark.download,
    pytest.mark.skipif(not hasattr(os, "fork"), reason="the suite forks a process per case"),
]


@pytest.fixture(scope="module", params=TARGETS)
def results(request: pytest.FixtureRequest) -> Results:
    """One run of the whole suite per target."""
    try:
        data: Path = node_test_data()
    except ModelUnavailable as error:
        pytest.skip(f"the ONNX backend test data cannot be downloaded: {error}")
    return run_suite(data, request.param, jobs=min(2, os.cpu_count() or 1))


def test_no_artifact_is_wrong_and_check_agrees_with_convert(results: Results) -> None:
    bad = [f"{o.outcome}: {o.key}: {o.code or ''} {o.message}" for o in results.forbidden()]
    assert not bad, f"{len(bad)} cases:\n" + "\n".join(bad)


def test_as_many_cases_pass_as_before(results: Results) -> None:
    passed = {row.name: row.passed for row in results.rows()}
    least = floors(results.target)
    below = {name: (passed.get(name, 0), count) for name, count in least.items() if passed.get(name, 0) < count}
    assert not below, f"(passed, floor) by row: {below}"
