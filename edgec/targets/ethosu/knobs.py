"""What the tuner may change of a compilation for the Ethos-U.

No NPU is on a host: what is compared is Vela's own estimate of the cycles and of the memory, and it is called so.
"""

from __future__ import annotations

from edgec.targets.ethosu.hardware import ACCELERATORS, OPTIMISATIONS
from edgec.targets.ethosu.options import VelaOptions
from edgec.targets.knobs import Circumstances, Configuration, Impossible, Knob, Knobs, Part


def knobs(circumstances: Circumstances) -> Knobs:
    """Vela's strategy, and the memory mode; the accelerator only where the user names several with ``--knob``."""
    fixed = circumstances.options
    default = VelaOptions(accelerator=str(fixed.get("accelerator") or VelaOptions.accelerator))
    family = default.family
    found = [
        Knob(
            "accelerator",
            Part.CONVERSION,
            tuple(name for name in ACCELERATORS if ACCELERATORS[name] is family),
            default.accelerator,
            "the NPU",
            asked=True,
        ),
        Knob(
            "optimise",
            Part.CONVERSION,
            OPTIMISATIONS,
            OPTIMISATIONS[0],
            "fewer cycles, or less memory",
            hints={"Performance": 1.0, "Size": 1.05},
        ),
        Knob("memory-mode", Part.CONVERSION, family.memories, family.memories[0], "what lies in which memory"),
    ]

    def unknown_memory(configuration: Configuration) -> str | None:
        name = str(configuration.get("accelerator", default.accelerator))
        memory = configuration.get("memory-mode")
        if memory is not None and memory not in ACCELERATORS[name].memories:
            return f"{name} has no memory mode '{memory}'"
        return None

    return Knobs(tuple(found), (Impossible("memory-mode-of-the-npu", unknown_memory),))
