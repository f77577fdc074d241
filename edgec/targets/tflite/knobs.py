"""What the tuner may change of a LiteRT session.

Source: LiteRT, ``Interpreter`` and ``CompiledModel``; the latter always computes with XNNPACK on the CPU.
"""

from __future__ import annotations

from edgec.targets.knobs import (
    Circumstances,
    Knob,
    Knobs,
    Part,
    batch_knob,
    precision_knob,
    thread_hints,
    thread_overheads,
    thread_values,
)


def knobs(circumstances: Circumstances) -> Knobs:
    """Those of the CPU."""
    threads = thread_values(circumstances.cpus)
    found = [
        *batch_knob(circumstances),
        *precision_knob(circumstances),
        Knob(
            "threads",
            Part.SESSION,
            threads,
            1,
            "threads inside an operator",
            hints=thread_hints(threads),
            overheads=thread_overheads(threads),
        ),
        Knob(
            "api",
            Part.SESSION,
            ("interpreter", "compiled"),
            "interpreter",
            "LiteRT's Interpreter or its CompiledModel",
        ),
        Knob(
            "xnnpack",
            Part.SESSION,
            (True, False),
            True,
            "XNNPACK's kernels, or LiteRT's own",
            when={"api": ("interpreter",)},
            hints={True: 1.0, False: 2.0},
        ),
    ]
    return Knobs(tuple(found))
