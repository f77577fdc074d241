"""Dynamic batching: samples that arrive one by one run together."""

from edgec.runtime.batching.adaptive import SizeChoice, adaptive_batch_size
from edgec.runtime.batching.batcher import DynamicBatcher
from edgec.runtime.batching.requests import BatchFuture
from edgec.runtime.batching.statistics import BatchStatistics, Latencies
from edgec.runtime.flow import Closed, QueueFull

__all__ = [
    "BatchFuture",
    "BatchStatistics",
    "Closed",
    "DynamicBatcher",
    "Latencies",
    "QueueFull",
    "SizeChoice",
    "adaptive_batch_size",
]
