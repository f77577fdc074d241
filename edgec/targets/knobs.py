"""What the tuner may change of a target: the knobs, when each of them matters, and what cannot work.

A target's :meth:`~edgec.targets.base.Target.knobs` returns :class:`Knobs` for one model on one machine.  Every knob
has finitely many values, so that two configurations can be told to be the same and small spaces can be measured
completely; a range of numbers is given as the values that are worth trying.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

Setting = str | int | float | bool | None
"""The value of one knob: whatever JSON can hold as a scalar."""
Configuration = Mapping[str, Setting]
"""Knob to value. Complete: every knob is there. Canonical: only those that matter (``Space.canonical``)."""


class Part(enum.StrEnum):
    """What a knob changes, and so what a new value of it costs."""

    BATCH = "batch"
    """The extent of the leading dimension: another conversion."""
    PRECISION = "precision"
    """``--precision`` of the conversion: another conversion."""
    QUALITY = "quality"
    """``--max-drop`` of a conversion to mixed precision, which decides what stays float: another conversion."""
    CONVERSION = "conversion"
    """``--option NAME=VALUE`` of the conversion: another conversion."""
    SESSION = "session"
    """A keyword argument of the session's factory: the artifact is opened anew."""


@dataclass(frozen=True)
class Knob:
    """One thing that can be set.

    Attributes:
        name: as configurations and ``--knob NAME=VALUES`` call it.
        part: what it changes.
        values: all that are tried, numbers in ascending order.
        default: what is used where nobody tunes; one of ``values``.
        help: what it does, for people.
        when: knob to the values of it under which this one matters; elsewhere it is left out of a configuration. The
            knobs named must stand before this one.
        hints: value to the time of one sample that is expected with it, relative to the default's (0.5: half of it).
            The search starts from these guesses and gives them up as measurements come in.
        overheads: value to the milliseconds that it adds to every run, however short: waking a thread costs the same
            for a small model, so the hints of threads hold for large ones only.
        hunger: 1 where a larger value needs more memory, -1 where it needs (or leaves) less, 0 where that is unknown.
            What ran out of memory once is not tried with more.
        leniency: 1 where a larger value is easier to reach, 0 where that is unknown.  What could not be reached once is
            not tried with less.
        asked: varied only where the user names it with ``--knob``, since it changes more than speed and memory.
    """

    name: str
    part: Part
    values: tuple[Setting, ...]
    default: Setting
    help: str = ""
    when: Mapping[str, tuple[Setting, ...]] = field(default_factory=dict)
    hints: Mapping[Setting, float] = field(default_factory=dict)
    overheads: Mapping[Setting, float] = field(default_factory=dict)
    hunger: int = 0
    leniency: int = 0
    asked: bool = False

    @property
    def is_ordered(self) -> bool:
        """Whether the values are numbers, so that neighbours are alike."""
        return all(isinstance(value, int | float) and not isinstance(value, bool) for value in self.values)

    @property
    def is_conversion(self) -> bool:
        """Whether another value needs another conversion."""
        return self.part is not Part.SESSION


@dataclass(frozen=True)
class Impossible:
    """A predicate over complete configurations that cannot work, known before anything is paid for.

    Attributes:
        check: the reason why a configuration cannot work, or None where it may.
    """

    name: str
    check: Callable[[Configuration], str | None]


@dataclass(frozen=True)
class Knobs:
    """Everything that can be set, and what cannot be set together."""

    knobs: tuple[Knob, ...]
    impossible: tuple[Impossible, ...] = ()


@dataclass(frozen=True)
class Circumstances:
    """What a target has to know of the model, the machine and the wishes to say which knobs there are.

    Attributes:
        cpus: processors that this process may use.
        batch: extent of the leading dimension as it was given; None where the inputs have no common one.
        precision: the default one.
        precisions: those that may be tried (the target has them, and there is data to quantize with).
        max_drop: the share of the quality that may be lost; None where no loss was spoken of.
        weights: bytes of the model's constants.
        options: what the user fixed: session options such as ``provider``, options of the conversion.
    """

    cpus: int
    batch: int | None = 1
    precision: str = "float32"
    precisions: tuple[str, ...] = ("float32",)
    weights: int = 0
    options: Mapping[str, Setting] = field(default_factory=dict)
    max_drop: float | None = None


MAX_BATCH = 64
"""The largest batch that is tried unasked."""


def batch_knob(circumstances: Circumstances) -> list[Knob]:
    """Powers of two up to 64, and the batch that was given; nothing where the inputs have no common leading dimension.

    The hint is that of an operator whose fixed costs are shared by the samples of a batch.
    """
    given = circumstances.batch
    if given is None:
        return []
    values = sorted({given, *(1 << power for power in range(MAX_BATCH.bit_length()))})
    hints: dict[Setting, float] = {value: (0.8 + 0.2 / value) / (0.8 + 0.2 / given) for value in values}
    return [Knob("batch", Part.BATCH, tuple(values), given, "samples per run", hints=hints, hunger=1)]


def thread_values(cpus: int) -> tuple[int, ...]:
    """1, 2, 4, ... up to the processors there are, and their number itself."""
    powers = {1 << power for power in range(cpus.bit_length()) if 1 << power <= cpus}
    return tuple(sorted(powers | {cpus}))


def thread_hints(values: Sequence[int]) -> dict[Setting, float]:
    """Amdahl's law with four fifths of the work shared, relative to one thread."""
    return {value: 0.2 + 0.8 / value for value in values}


WAKING_MS = 0.03
"""What it costs to share one run with threads that sleep, milliseconds."""


def thread_overheads(values: Sequence[int]) -> dict[Setting, float]:
    """Milliseconds per run: nothing for one thread."""
    return {value: WAKING_MS if value > 1 else 0.0 for value in values}


def threads_knob(circumstances: Circumstances) -> Knob:
    """Threads inside an operator, one by default."""
    threads = thread_values(circumstances.cpus)
    return Knob(
        "threads",
        Part.SESSION,
        threads,
        1,
        "threads inside an operator",
        hints=thread_hints(threads),
        overheads=thread_overheads(threads),
    )


PRECISION_HINTS: Mapping[str, float] = {"float16": 1.0, "int8": 0.6, "mixed": 0.7, "dynamic-int8": 0.8, "int16x8": 1.5}
"""Time of one sample relative to float32, as measured on CPUs (docs/benchmarks)."""


MIXED: Final = "mixed"
MIXED_SHARES: Final = (0.25, 0.5, 1.0)
"""Of the loss that is allowed: what mixed precision is asked to keep."""


def precision_knob(circumstances: Circumstances, hints: Mapping[str, float] = PRECISION_HINTS) -> list[Knob]:
    """The precisions that may be tried, nothing where there is only one; and how mixed the mixed one is."""
    values = circumstances.precisions
    if len(values) < 2:
        return mixed_knob(circumstances, {})
    base = hints.get(circumstances.precision, 1.0)
    expected: dict[Setting, float] = {value: hints.get(value, 1.0) / base for value in values}
    knob = Knob("precision", Part.PRECISION, values, circumstances.precision, "element types", hints=expected)
    return [knob, *mixed_knob(circumstances, {"precision": (MIXED,)})]


def mixed_knob(circumstances: Circumstances, when: Mapping[str, tuple[Setting, ...]]) -> list[Knob]:
    """How much mixed precision may lose, which decides node by node what stays float.

    Fewer float nodes are not always faster: every change between integers and floats costs a pass over the data, so a
    stricter artifact, with longer runs of floats, may win.
    """
    allowed = circumstances.max_drop
    if MIXED not in circumstances.precisions or not allowed:
        return []
    values = tuple(float(f"{allowed * share:.4g}") for share in MIXED_SHARES)
    return [
        Knob(
            "mixed_drop",
            Part.QUALITY,
            values,
            values[-1],
            "loss that mixed precision may have, which decides how many nodes stay float",
            when=when,
            leniency=1,
        )
    ]
