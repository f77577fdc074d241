"""What can be asked of Vela, read from ``--option KEY=VALUE`` and checked before anything runs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from edgec.errors import UsageError
from edgec.targets.ethosu.hardware import ACCELERATORS, DEFAULT_ACCELERATOR, OPTIMISATIONS, Family

MAX_ARENA: Final = 1 << 32


@dataclass(frozen=True)
class VelaOptions:
    """A run of Vela.

    Attributes:
        accelerator: key of :data:`~edgec.targets.ethosu.hardware.ACCELERATORS`.
        system: system configuration; empty for the family's default.
        memory: memory mode; empty for the family's default.
        optimise: ``Performance`` or ``Size``.
        arena_bytes: size of the cache memory area that Vela aims at; None for what the memory mode says.
        timeout_s: longest time of the run, seconds.
        program: path of Vela, where it is neither beside Python nor on PATH.
    """

    accelerator: str = DEFAULT_ACCELERATOR
    system: str = ""
    memory: str = ""
    optimise: str = OPTIMISATIONS[0]
    arena_bytes: int | None = None
    timeout_s: int = 600
    program: str | None = None

    @property
    def family(self) -> Family:
        """The accelerator's family."""
        return ACCELERATORS[self.accelerator]

    @property
    def system_configuration(self) -> str:
        """The one asked for, or the family's default."""
        return self.system or self.family.systems[0]

    @property
    def memory_mode(self) -> str:
        """The one asked for, or the family's default."""
        return self.memory or self.family.memories[0]

    @classmethod
    def from_mapping(cls, given: Mapping[str, Any]) -> VelaOptions:
        """From ``--option KEY=VALUE`` pairs.

        Raises:
            UsageError: EDG001 for an unknown key, or a value that Vela does not take with the others.
        """
        found: dict[str, Any] = {}
        for key, value in given.items():
            if key not in OPTIONS:
                raise UsageError("EDG001", f"ethosu has no option '{key}'", why=f"known: {', '.join(sorted(OPTIONS))}")
            name, reader = OPTIONS[key]
            try:
                found[name] = reader(value)
            except (TypeError, ValueError) as error:
                raise UsageError("EDG001", f"'{value}' is no value of the option '{key}'", why=str(error)) from error
        options = cls(**found)
        options._require_sound()
        return options

    def _require_sound(self) -> None:
        _require_known("accelerator", self.accelerator, tuple(ACCELERATORS))
        _require_known("system-config", self.system_configuration, self.family.systems, self.family)
        _require_known("memory-mode", self.memory_mode, self.family.memories, self.family)
        _require_known("optimise", self.optimise, OPTIMISATIONS)
        if self.arena_bytes is not None and not 0 < self.arena_bytes <= MAX_ARENA:
            raise UsageError("EDG001", f"a cache area of {self.arena_bytes} bytes", help="1 to 4294967296 bytes")
        if self.timeout_s < 1:
            raise UsageError("EDG001", f"a time limit of {self.timeout_s} s", help="1 s or more")


def _require_known(key: str, value: str, known: tuple[str, ...], family: Family | None = None) -> None:
    if value not in known:
        of = f" of {family.name}" if family is not None else ""
        raise UsageError("EDG001", f"'{value}' is no {key}{of}", why=f"known: {', '.join(known)}")


OPTIONS: Final[dict[str, tuple[str, Callable[[Any], Any]]]] = {
    "accelerator": ("accelerator", str),
    "system-config": ("system", str),
    "memory-mode": ("memory", str),
    "optimise": ("optimise", lambda value: str(value).capitalize()),
    "arena-cache-size": ("arena_bytes", int),
    "timeout": ("timeout_s", int),
    "vela": ("program", str),
}
"""Keys of ``--option KEY=VALUE``, the attribute that each sets, and how its text is read."""
