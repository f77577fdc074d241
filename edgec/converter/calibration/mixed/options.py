"""What the user says of mixed precision."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

ACCURACY: Final = "top-1 accuracy"
RELATIVE_L2: Final = "relative L2"
DEFAULTS: Final = {ACCURACY: 0.01, RELATIVE_L2: 0.05}
"""``--max-drop`` where it is not given, by the metric."""


@dataclass(frozen=True)
class MixedOptions:
    """What a mixed artifact shall lose at most.

    Attributes:
        max_drop: of the loss, a share; see :data:`DEFAULTS`.
        raise_to: the precision of nodes that are not integers; one of the target's
            :attr:`edgec.targets.base.Target.raises`.
        data: samples to measure the loss on, with labels for accuracy; the calibration's by default.
        isolate: run artifacts in a process of their own.
    """

    max_drop: float | None = None
    raise_to: str = "float32"
    data: Path | None = None
    isolate: bool = True
