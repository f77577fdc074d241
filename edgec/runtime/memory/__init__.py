"""Memory pools: host memory for NumPy arrays, device memory, and one record of options for all of them."""

from edgec.runtime.memory.host import HostPool
from edgec.runtime.memory.report import Allocation, Pool, PoolExhausted, Statistics

__all__ = ["Allocation", "HostPool", "Pool", "PoolExhausted", "Statistics"]
