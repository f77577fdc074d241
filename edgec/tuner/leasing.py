"""The device of a study, held while something is measured on it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping

from edgec.runtime.lease import device_of, lease
from edgec.targets.knobs import Setting


@contextlib.contextmanager
def leased(session: Mapping[str, Setting], *, wait: bool) -> Iterator[float]:
    """Hold the device that sessions with these options run on.

    Yields the seconds that were waited for it, which a line on standard error told of.

    Raises:
        UsageError: EDG701 where another process holds it and ``wait`` is off.
    """
    with lease(device_of(session), wait=wait) as held:
        yield held.waited_s
