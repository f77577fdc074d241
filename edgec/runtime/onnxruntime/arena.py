"""The CPU arena of a session with its own size, growth and limit.

ONNX Runtime takes these settings for allocators that are registered with its process-wide environment, not for those
that a session makes itself.  A registered allocator replaces the one before; sessions keep the one that was registered
when they were made.  So each session registers its own, one session at a time.
Source: ONNX Runtime, ``CreateAndRegisterAllocator`` and ``OrtArenaCfg`` of its C API.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import onnxruntime

from edgec.errors import VerificationError
from edgec.runtime.onnxruntime.options import EXTENDS, Options

_registering = threading.Lock()


@contextmanager
def registered(options: Options, session_options: Any) -> Iterator[None]:
    """Let the session that is made inside use an arena of these options; nothing where the options ask for none."""
    if not options.own_arena:
        yield
        return
    extend = -1 if options.arena_extend is None else list(EXTENDS).index(options.arena_extend)
    configuration = onnxruntime.OrtArenaCfg(
        {
            "max_mem": options.device_limit or 0,
            "arena_extend_strategy": extend,
            "initial_chunk_size_bytes": options.initial_chunk or -1,
            "max_dead_bytes_per_chunk": -1,
        }
    )
    kind, place = onnxruntime.OrtAllocatorType.ORT_ARENA_ALLOCATOR, onnxruntime.OrtMemType.DEFAULT
    with _registering:
        onnxruntime.create_and_register_allocator(onnxruntime.OrtMemoryInfo("Cpu", kind, 0, place), configuration)
        session_options.add_session_config_entry("session.use_env_allocators", "1")
        yield


def check_limit(options: Options, session: Any) -> None:
    """Refuse a limit that ONNX Runtime would not hold.

    Its arena subtracts what it has from the limit without a sign: once the model's constants alone are over the limit,
    there is none any more (seen with 1.31).  An allocation of more than the limit tells; versions of ONNX Runtime that
    do not offer one (seen with 1.26) are not asked.

    Raises:
        VerificationError: EDG302.
    """
    limit = options.device_limit
    if limit is None or not options.on_cpu or not hasattr(session, "create_ortvalue_from_shape_and_type"):
        return
    try:
        session.create_ortvalue_from_shape_and_type([limit + 4096], np.uint8, "cpu")
    except (RuntimeError, MemoryError):
        return
    raise VerificationError(
        "EDG302",
        f"the model does not fit into device_limit={limit}",
        why="its constants alone take more than that",
        help="give it more memory",
    )
