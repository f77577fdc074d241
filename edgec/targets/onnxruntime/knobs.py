"""What the tuner may change of an ONNX Runtime session.

Source: ONNX Runtime, "Thread management", "Memory" and "CUDA execution provider"; the memory pattern is planned for
sequential execution only (``SessionOptions::enable_mem_pattern``).
"""

from __future__ import annotations

from typing import Final

from edgec.targets.knobs import (
    Circumstances,
    Configuration,
    Impossible,
    Knob,
    Knobs,
    Part,
    Setting,
    batch_knob,
    precision_knob,
    thread_values,
    threads_knob,
)

MIB: Final = 1 << 20
CUDA_PRECISION_HINTS: Final = {"float16": 0.7, "int8": 1.5, "mixed": 1.5}
DEVICE_LIMITS: Final = (256 * MIB, 1024 * MIB, 4096 * MIB)
LEVELS: Final[dict[Setting, float]] = {"none": 1.5, "basic": 1.1, "extended": 1.02, "all": 1.0}


def knobs(circumstances: Circumstances) -> Knobs:
    """Those of the provider that the user chose (``provider``), the CPU by default."""
    if circumstances.options.get("provider", "cpu") == "cuda":
        return _cuda(circumstances)
    return _cpu(circumstances)


def _cpu(circumstances: Circumstances) -> Knobs:
    threads = thread_values(circumstances.cpus)
    found = [
        *batch_knob(circumstances),
        *precision_knob(circumstances),
        threads_knob(circumstances),
        _session(
            "execution_mode",
            ("sequential", "parallel"),
            "sequential",
            "operators one after the other, or side by side",
            hints={"sequential": 1.0, "parallel": 1.2},
        ),
        _session(
            "inter_threads",
            tuple(value for value in threads if value > 1) or (1,),
            max(threads),
            "operators side by side",
            when={"execution_mode": ("parallel",)},
        ),
        _session("optimise", tuple(LEVELS), "all", "graph optimisations", hints=LEVELS),
        _session("arena", (True, False), True, "keep memory between runs in an arena", hints={True: 1.0, False: 1.1}),
        _session(
            "arena_extend",
            (None, "same-as-requested"),
            None,
            "how the arena grows; null: by powers of two",
            when={"arena": (True,)},
        ),
        _session(
            "memory_pattern",
            (False, True),
            False,
            "plan the memory of a run as one block",
            when={"execution_mode": ("sequential",)},
        ),
        Knob("spinning", Part.SESSION, (False, True), False, "threads wait busily, at others' cost", asked=True),
    ]
    return Knobs(tuple(found), (Impossible("spinning-needs-threads", _spins_alone),))


def _cuda(circumstances: Circumstances) -> Knobs:
    weights = circumstances.weights
    found = [
        *batch_knob(circumstances),
        *precision_knob(circumstances, CUDA_PRECISION_HINTS),
        _session(
            "device_limit",
            (*DEVICE_LIMITS, None),
            None,
            "bytes that the arena on the device may hold; null: all of it",
            hunger=-1,
        ),
        _session("arena_extend", (None, "same-as-requested"), None, "how the arena grows; null: by powers of two"),
        _session(
            "cuda_graph",
            (False, True),
            False,
            "replay the launches of one run",
            hints={False: 1.0, True: 0.6},
        ),
        _session(
            "io_binding",
            (False, True),
            False,
            "keep inputs and outputs at fixed places on the device; a graph always does",
            when={"cuda_graph": (False,)},
            hints={False: 1.0, True: 0.9},
        ),
    ]

    def too_small(configuration: Configuration) -> str | None:
        limit = configuration.get("device_limit")
        if isinstance(limit, int) and limit < weights:
            return f"the weights alone take {weights} bytes, the device limit is {limit}"
        return None

    return Knobs(tuple(found), (Impossible("device-limit-holds-weights", too_small),))


def _spins_alone(configuration: Configuration) -> str | None:
    """One thread has nobody to wait for."""
    alone = configuration.get("threads") == 1 and configuration.get("execution_mode") == "sequential"
    if alone and configuration.get("spinning") is True:
        return "one thread that runs one operator at a time never waits"
    return None


def _session(
    name: str,
    values: tuple[Setting, ...],
    default: Setting,
    help: str,
    *,
    when: dict[str, tuple[Setting, ...]] | None = None,
    hints: dict[Setting, float] | None = None,
    hunger: int = 0,
) -> Knob:
    return Knob(name, Part.SESSION, values, default, help, when or {}, hints or {}, hunger=hunger)
