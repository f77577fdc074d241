"""The Ethos-U NPUs, and the systems around them that Vela knows: what can be asked for, and what is taken by default.

Source: ``vela --help`` (accelerators) and ``Arm/vela.ini`` of ethos-u-vela 5.2.0 (system configurations and memory
modes); the defaults are those that Vela itself falls back to, with a warning, when it is not told
(``ArchitectureFeatures._set_default_sys_config`` and ``_set_default_mem_mode``).  They are always passed explicitly, so
that a later Vela cannot change them behind the user's back.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

CONFIGURATION: Final = "Arm/vela.ini"
"""The configuration file, as Vela finds it among its own."""


@dataclass(frozen=True)
class Family:
    """NPUs with the same operators.

    Attributes:
        name: ``ethos-u55``, ``ethos-u65`` or ``ethos-u85``.
        product: number of the family in the configuration word of a compiled command stream.
        multipliers: multiplications per cycle that exist; the accelerator is called ``NAME-MULTIPLIERS``.
        systems: system configurations of Vela for the family; the first is the default.
        memories: memory modes that it can have; the first is the default.
    """

    name: str
    product: int
    multipliers: tuple[int, ...]
    systems: tuple[str, ...]
    memories: tuple[str, ...]

    @property
    def accelerators(self) -> tuple[str, ...]:
        """As ``--accelerator-config`` takes them."""
        return tuple(f"{self.name}-{count}" for count in self.multipliers)


_DEDICATED: Final = ("Dedicated_Sram_384KB", "Dedicated_Sram", "Dedicated_Sram_256KB", "Dedicated_Sram_512KB")

FAMILIES: Final = (
    Family(
        "ethos-u55",
        0,
        (32, 64, 128, 256),
        ("Ethos_U55_High_End_Embedded", "Ethos_U55_Deep_Embedded"),
        ("Shared_Sram", "Sram_Only"),
    ),
    Family(
        "ethos-u65",
        1,
        (256, 512),
        ("Ethos_U65_Client_Server", "Ethos_U65_High_End", "Ethos_U65_Mid_End", "Ethos_U65_Embedded"),
        (*_DEDICATED, "Shared_Sram", "Sram_Only"),
    ),
    Family(
        "ethos-u85",
        2,
        (128, 256, 512, 1024, 2048),
        (
            "Ethos_U85_SYS_DRAM_Mid",
            "Ethos_U85_SYS_DRAM_High",
            "Ethos_U85_SYS_DRAM_Low",
            "Ethos_U85_SYS_Flash_High",
            "Ethos_U85_SYS_Flash_Low",
        ),
        (*_DEDICATED, "Shared_Sram", "Sram_Only"),
    ),
)

ACCELERATORS: Final = {name: family for family in FAMILIES for name in family.accelerators}
"""Every accelerator and its family."""

DEFAULT_ACCELERATOR: Final = "ethos-u55-256"
"""That of Vela itself (``vela --help``)."""

OPTIMISATIONS: Final = ("Performance", "Size")
"""What Vela optimises for: fewer cycles, or less memory."""


def accelerator_of(configuration: int) -> str:
    """The accelerator that a configuration word names, empty where no such one is known.

    Source: ``config_r`` of Vela's ``ethos_u55_regs.py``: bits 0 to 3 hold the binary logarithm of the multiplications
    per cycle, bits 28 to 31 the product.
    """
    product, multipliers = configuration >> 28, 1 << (configuration & 0xF)
    for family in FAMILIES:
        if family.product == product and multipliers in family.multipliers:
            return f"{family.name}-{multipliers}"
    return ""
