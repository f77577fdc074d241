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
    threads_knob,
)


def knobs(circumstances: Circumstances) -> Knobs:
    """Those of the CPU."""
    found = [
        *batch_knob(circumstances),
        *precision_knob(circumstances),
        threads_knob(circumstances),
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
