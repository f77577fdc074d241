"""Measuring: subjects in worker processes, interleaved comparisons with intervals, and what they may be called.

::

    with open_subject(factory, path, {"threads": 1}, feeds) as incumbent, open_subject(...) as candidate:
        estimate = Duel(incumbent, candidate, DuelRules(floor=floor.value)).run()
        latency = measure_latency(candidate)
"""

from __future__ import annotations

from edgec.runtime.measurement.duel import PROTOCOL, Duel, DuelRules, Estimate, Status, Verdict
from edgec.runtime.measurement.floor import Floor, cached_floor, floor_key, keep_floor, measure_floor
from edgec.runtime.measurement.latency import Latency, LatencyRules, Stability, measure_latency
from edgec.runtime.measurement.subject import PeakMemory, Subject, Timed, WarmUp, open_subject

__all__ = [
    "PROTOCOL",
    "Duel",
    "DuelRules",
    "Estimate",
    "Floor",
    "Latency",
    "LatencyRules",
    "PeakMemory",
    "Stability",
    "Status",
    "Subject",
    "Timed",
    "Verdict",
    "WarmUp",
    "cached_floor",
    "floor_key",
    "keep_floor",
    "measure_floor",
    "measure_latency",
    "open_subject",
]
