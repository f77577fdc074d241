"""Memory pools: host memory for NumPy arrays, device memory, and one record of options for all of them.

``CupyPool``, ``pinned_source`` (NVIDIA GPUs, with CuPy) and ``OpenCLPool`` (with pyopencl) import these libraries when
they are made, not before.
"""

from edgec.runtime.memory.cuda import CupyPool, pinned_source
from edgec.runtime.memory.host import HostPool
from edgec.runtime.memory.opencl import OpenCLPool
from edgec.runtime.memory.options import MemoryOptions
from edgec.runtime.memory.report import Allocation, DeviceStatistics, PoolExhausted, Statistics
from edgec.runtime.session import Pool

__all__ = [
    "Allocation",
    "CupyPool",
    "DeviceStatistics",
    "HostPool",
    "MemoryOptions",
    "OpenCLPool",
    "Pool",
    "PoolExhausted",
    "Statistics",
    "pinned_source",
]
