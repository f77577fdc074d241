"""What a batcher says about itself."""

from __future__ import annotations

import math
from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

WINDOW = 10_000
"""Latencies that are kept, the latest ones."""


@dataclass(frozen=True)
class Latencies:
    """Seconds of the latest requests.

    A percentile is None unless at least ten of the samples lie beyond it: 100 samples for the 90th, 1000 for the 99th.
    Even so it is an estimate: MLPerf's rule asks for 262,742 queries before a 99th percentile may be quoted.
    """

    count: int
    median: float | None
    p90: float | None
    p99: float | None
    largest: float | None

    @classmethod
    def of(cls, seconds: Sequence[float]) -> Latencies:
        """From samples in any order."""
        ordered = sorted(seconds)
        count = len(ordered)

        def percentile(percent: int) -> float | None:
            """Nearest rank; None where fewer than ten samples (for the median: one) lie beyond."""
            if count * (100 - percent) < (1000 if percent > 50 else 50):
                return None
            return ordered[math.ceil(count * percent / 100) - 1]

        return cls(count, percentile(50), percentile(90), percentile(99), ordered[-1] if ordered else None)


@dataclass(frozen=True)
class BatchStatistics:
    """Counts since the batcher was made, except where it says otherwise.

    Attributes:
        submitted: samples that were taken.
        completed, failed, cancelled: what became of them; the rest waits or runs.
        refused: samples that the full queue did not take (EDG721).
        waiting: samples in the queue now.
        running: samples in a batch now.
        batches: runs of the session that gave results.
        sizes: samples of a batch, padding not included -> how many batches.
        padded: rows that were run for nothing, to fill a batch of a fixed size.
        isolated: batches that failed as a whole and were divided, so that only the bad samples fail.
        callback_errors: callbacks that raised something that is not an Exception.
        busy_s: seconds that the session ran.
        latency: from submit to result, of the latest 10,000.
        queued: from submit to the start of the batch, of the latest 10,000.
    """

    submitted: int
    completed: int
    failed: int
    cancelled: int
    refused: int
    waiting: int
    running: int
    batches: int
    sizes: dict[int, int]
    padded: int
    isolated: int
    callback_errors: int
    busy_s: float
    latency: Latencies
    queued: Latencies

    @property
    def mean_size(self) -> float:
        """Samples of a batch, on average; 0 before the first."""
        count = sum(self.sizes.values())
        return sum(size * times for size, times in self.sizes.items()) / count if count else 0.0

    def to_json(self) -> dict[str, Any]:
        """The same as a JSON object; the keys of ``sizes`` are strings."""
        document = asdict(self)
        document["sizes"] = {str(size): times for size, times in sorted(self.sizes.items())}
        document["mean_size"] = self.mean_size
        return document


class Counts:
    """The running counts behind :class:`BatchStatistics`; the owner's lock guards them."""

    def __init__(self) -> None:
        self.submitted = self.completed = self.failed = self.cancelled = self.refused = 0
        self.batches = self.padded = self.isolated = self.callback_errors = 0
        self.busy_s = 0.0
        self.sizes: Counter[int] = Counter()
        self.latency: deque[float] = deque(maxlen=WINDOW)
        self.queued: deque[float] = deque(maxlen=WINDOW)

    def snapshot(self, *, waiting: int, running: int) -> dict[str, Any]:
        """The arguments of :class:`BatchStatistics`, latencies as they were gathered: sorting needs no lock."""
        return {
            "submitted": self.submitted,
            "completed": self.completed,
            "failed": self.failed,
            "cancelled": self.cancelled,
            "refused": self.refused,
            "waiting": waiting,
            "running": running,
            "batches": self.batches,
            "sizes": dict(self.sizes),
            "padded": self.padded,
            "isolated": self.isolated,
            "callback_errors": self.callback_errors,
            "busy_s": self.busy_s,
            "latency": list(self.latency),
            "queued": list(self.queued),
        }
