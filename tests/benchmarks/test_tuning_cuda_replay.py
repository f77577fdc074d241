"""The recorded tables of a GPU are a test of the search on machines without one."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from benchmarks.tuning_cuda import LAYERS, SIDE, Bench
from benchmarks.tuning_cuda_replay import RECORDED, studies
from edgec.tuner.measuring import Rules


@pytest.mark.slow
def test_studies_on_recorded_tables_find_the_best_of_the_table(tmp_path: Path) -> None:
    bench = Bench(tmp_path, "cuda", time.monotonic() + 600, Rules(), SIDE, LAYERS)
    bench.measurements.close()
    run = json.loads(RECORDED.read_text(encoding="utf-8"))["runs"][1]
    found = list(studies(run, bench.space, 1))
    assert [study.goal for study in found] == ["throughput", "throughput-limited", "latency"]
    assert all(study.right for study in found), found
