"""The A/A floor: how far apart one configuration and itself seem to be on this device, by the protocol of the duel.

Two processes with the same model differ by where their memory lies and which cores they run on, and no number of blocks
averages that out.  So the same subject is opened twice, compared, closed, and again; a later comparison believes only a
gain that is larger than 95 % of such differences.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import os
import platform
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import NormalDist
from typing import Any, Final

from edgec.runtime.measurement.duel import DEFAULT_RULES, PROTOCOL, Duel, DuelRules, Estimate
from edgec.runtime.measurement.subject import Timed

PAIRS: Final = 8
"""How often the same subject is opened twice."""
MINIMUM: Final = 0.005
"""No floor is below: so few pairs may have been lucky."""
MAXIMUM_AGE_S: Final = 24 * 3600.0
"""How long a floor is believed, seconds."""
NOISY: Final = 0.05
NOISY_AGE_S: Final = 600.0
"""A floor above 5 % speaks of what else the machine was doing: it is believed for so many seconds only."""
CONFIDENCE: Final = 0.95


@dataclass(frozen=True)
class Floor:
    """A measured A/A floor.

    Attributes:
        value: as a part: 0.01 is 1 %.
        ratios: what the pairs gave.
        measured: seconds since the epoch.
        key: what it holds for, see :func:`floor_key`.
    """

    value: float
    ratios: tuple[float, ...]
    measured: float
    key: str


Opener = Callable[[], AbstractContextManager[Timed]]
"""Opens the subject anew, in a process of its own."""


def measure_floor(
    opener: Opener,
    *,
    key: str = "",
    rules: DuelRules = DEFAULT_RULES,
    pairs: int = PAIRS,
    progress: Callable[[int, Estimate], object] | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> Floor:
    """Open the same subject twice and compare, `pairs` times; about 1.2 s per pair for a small model.

    The differences d of equals have mean 0, so their scale is sqrt(mean d^2), and a further one lies within
    t(pairs) times that with 95 % probability (Student's t).

    Raises:
        VerificationError: EDG302 or EDG303 when the subject does not load or run.
    """
    strict = replace(rules, floor=0.0)
    ratios = []
    for number in range(pairs):
        with opener() as first, opener() as second:
            estimate = Duel(first, second, strict, clock=clock).run()
        ratios.append(estimate.ratio)
        if progress is not None:
            progress(number, estimate)
    return Floor(floor_of(ratios), tuple(ratios), time.time(), key)


def floor_of(ratios: Iterable[float]) -> float:
    """The floor that follows from A/A ratios; see :func:`measure_floor`."""
    squares = [math.log(ratio) ** 2 for ratio in ratios]
    if not squares:
        raise ValueError("no ratio")
    scale = math.sqrt(sum(squares) / len(squares))
    return max(MINIMUM, math.expm1(student(CONFIDENCE, len(squares)) * scale))


def student(confidence: float, freedom: int) -> float:
    """The two-sided quantile of Student's t, within 0.5 % from 5 degrees of freedom on.

    Source: the Cornish-Fisher expansion, Abramowitz and Stegun 26.7.5.
    """
    z = NormalDist().inv_cdf(0.5 + confidence / 2)
    first = (z**3 + z) / 4
    second = (5 * z**5 + 16 * z**3 + 3 * z) / 96
    third = (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384
    return z + first / freedom + second / freedom**2 + third / freedom**3


def floor_key(device: str, factory: str, latency_s: float, rules: DuelRules = DEFAULT_RULES) -> str:
    """What a floor holds for: this machine, a device, a runtime, the decade of the latency, and the protocol."""
    decade = math.floor(math.log10(max(latency_s, 1e-9)))
    parts = (platform.node(), _processor(), device, factory, f"1e{decade} s", PROTOCOL, f"{rules.slot_s:g} s slots")
    return " | ".join(parts)


def cached_floor(key: str, *, folder: Path | None = None, maximum_age_s: float = MAXIMUM_AGE_S) -> Floor | None:
    """The floor that was kept for this key, if it is not too old."""
    path = _path(key, folder)
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        floor = Floor(float(document["value"]), tuple(document["ratios"]), float(document["measured"]), document["key"])
    except (OSError, ValueError, KeyError, TypeError):
        return None  # never measured, or written by something else: measured anew
    believed = maximum_age_s if floor.value <= NOISY else min(maximum_age_s, NOISY_AGE_S)
    fresh = 0 <= time.time() - floor.measured <= believed
    return floor if fresh and floor.key == key else None


def keep_floor(floor: Floor, *, folder: Path | None = None) -> bool:
    """Keep it for later runs; False where the cache folder cannot be written."""
    path = _path(floor.key, folder)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile("w", dir=path.parent, delete=False, encoding="utf-8") as file:
            json.dump(asdict(floor), file)
        os.replace(file.name, path)
    except OSError:
        return False
    return True


def forget_floor(key: str, *, folder: Path | None = None) -> None:
    """Remove what was kept."""
    with contextlib.suppress(FileNotFoundError):
        _path(key, folder).unlink()


def _path(key: str, folder: Path | None) -> Path:
    return (folder or default_folder()) / f"{hashlib.sha256(key.encode()).hexdigest()[:24]}.json"


def default_folder(environment: Mapping[str, str] | None = None) -> Path:
    """``edgec/floors`` in the user's cache folder (``XDG_CACHE_HOME``, else ``~/.cache``)."""
    base = (os.environ if environment is None else environment).get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "edgec" / "floors"


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.machine()


def describe(floor: Floor) -> dict[str, Any]:
    """The floor as JSON, for a report."""
    return {"value": floor.value, "ratios": list(floor.ratios), "measured": floor.measured, "key": floor.key}
