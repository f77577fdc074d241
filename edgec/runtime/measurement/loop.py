"""The timing loop.  It runs in the worker process, beside the session, so that no pipe lies inside the timer."""

from __future__ import annotations

import gc
import os
import time
from collections.abc import Callable, Mapping
from typing import Any, Final

import numpy as np

from edgec.ir.types import Array
from edgec.runtime.resident import resident
from edgec.runtime.session import Session

WINDOWS: Final = 3
"""How many windows have to agree before a session counts as warm."""
AGREEMENT: Final = 0.10
"""How far apart their medians may lie, as a part of the smallest."""
WINDOW_RUNS: Final = 4
WINDOW_SECONDS: Final = 0.02
"""A window holds at least this many runs and lasts at least this long, seconds."""
SEPARATOR: Final = "/"
"""Between the number of a sample and the name of an input."""


class Timing:
    """One session with the samples that it is timed on; run i takes sample i modulo their number."""

    def __init__(self, session: Session, samples: list[dict[str, Array]]):
        if not samples:
            raise ValueError("there is nothing to run")
        self._session = session
        self._samples = samples
        self._next = 0
        self.first_s: float | None = None

    def once(self) -> None:
        """One run that nobody times."""
        self._session.run(self._samples[self._next])
        self._next = (self._next + 1) % len(self._samples)

    def time(self, count: int, settle: int) -> tuple[Array, dict[str, Any]]:
        """Seconds of each of `count` runs, float64 [count], after `settle` runs that are not counted.

        The outputs are in host memory when the clock is read.  With the seconds come the CPU seconds of all threads of
        the process and how often it was put off its processor.
        """
        run, samples, position = self._session.run, self._samples, self._next
        number, clock = len(samples), time.perf_counter_ns
        stamps = np.empty(count + 1, np.int64)
        collecting = gc.isenabled()
        gc.disable()
        try:
            for _ in range(settle):
                run(samples[position])
                position = (position + 1) % number
            switches, busy = _switches(), time.process_time()
            stamps[0] = clock()
            for index in range(count):
                run(samples[position])
                stamps[index + 1] = clock()
                position = (position + 1) % number
            spent = {"cpu_s": time.process_time() - busy, "preempted": _switches() - switches}
        finally:
            if collecting:
                gc.enable()
        self._next = position
        return np.diff(stamps) * 1e-9, spent

    def warm_up(self, *, runs: int, seconds: float, limit_s: float) -> dict[str, Any]:
        """Run until `runs` runs and `seconds` are over and three windows agree, or until `limit_s` seconds are over."""
        began = time.perf_counter()
        done, medians, settled = 0, [], False
        while True:
            window: list[float] = []
            window_began = time.perf_counter()
            while len(window) < WINDOW_RUNS or time.perf_counter() - window_began < WINDOW_SECONDS:
                start = time.perf_counter()
                self.once()
                end = time.perf_counter()
                window.append(end - start)
                done += 1
                if self.first_s is None:
                    self.first_s = end - start
                if end - began > limit_s:
                    break
            medians.append(float(np.median(window)))
            spent = time.perf_counter() - began
            recent = medians[-WINDOWS:]
            settled = len(recent) == WINDOWS and max(recent) <= min(recent) * (1 + AGREEMENT)
            if spent > limit_s or (settled and done >= runs and spent >= seconds):
                break
        return {
            "runs": done,
            "seconds": spent,
            "settled": settled,
            "first_s": self.first_s,
            "latency_s": min(medians[-WINDOWS:]),
        }


def _switches() -> int:
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_nivcsw


def split(arrays: Mapping[str, Array]) -> list[dict[str, Array]]:
    """Samples from arrays named ``INDEX/INPUT``, as :func:`join` made them."""
    samples: dict[int, dict[str, Array]] = {}
    for key, array in arrays.items():
        index, _, name = key.partition(SEPARATOR)
        samples.setdefault(int(index), {})[name] = array
    return [samples[index] for index in sorted(samples)]


def join(samples: list[Mapping[str, Array]]) -> dict[str, Array]:
    """One mapping of all samples' arrays; a model without inputs is one sample without arrays."""
    return {
        f"{index}{SEPARATOR}{name}": np.asarray(array)
        for index, sample in enumerate(samples)
        for name, array in sample.items()
    }


def serve(
    request: Mapping[str, Any], session: Session, arrays: Mapping[str, Array], timings: dict[int, Timing]
) -> tuple[dict[str, Any], dict[str, Array]]:
    """Answer one ``measure`` request of :class:`edgec.runtime.measurement.subject.Subject`."""
    number = int(request["session"])
    actions: dict[str, Callable[[], tuple[dict[str, Any], dict[str, Array]]]] = {
        "feed": lambda: _feed(number, session, arrays, timings),
        "warm": lambda: (timings[number].warm_up(**request["rules"]), {}),
        "time": lambda: _time(timings[number], request),
        "memory": lambda: (vars(resident()) | {"pid": os.getpid()}, {}),
    }
    return actions[request["do"]]()


def _feed(
    number: int, session: Session, arrays: Mapping[str, Array], timings: dict[int, Timing]
) -> tuple[dict[str, Any], dict[str, Array]]:
    timings[number] = Timing(session, split(arrays) or [{}])
    return {}, {}


def _time(timing: Timing, request: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Array]]:
    seconds, spent = timing.time(int(request["count"]), int(request["settle"]))
    return spent, {"seconds": seconds}
