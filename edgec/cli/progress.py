"""Progress on standard error: a line that changes on a terminal, nothing anywhere else."""

from __future__ import annotations

import contextlib
import re
import sys
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.progress import Progress

_COUNTED = re.compile(r"(.*): (\d+) of (\d+)$")


@contextlib.contextmanager
def steps() -> Iterator[Callable[[str], object]]:
    """A function to call with the name of each step as it begins; a bar is shown where it ends in ``: 3 of 100``."""
    if not sys.stderr.isatty():
        yield lambda step: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    class Counted(MofNCompleteColumn):
        """Nothing for steps that are not counted."""

        def render(self, task):  # type: ignore[no-untyped-def]
            return super().render(task) if task.total is not None else ""

    columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(20), Counted(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bars:
        yield _Bar(bars)


class _Bar:
    """One line: what is being done, and how far it is where that is known."""

    def __init__(self, bars: Progress):
        self._bars = bars
        self._task = bars.add_task("starting", total=None)

    def __call__(self, step: str) -> None:
        counted = _COUNTED.match(step)
        if counted is None:  # a total cannot be taken back, so that every step has a task of its own
            self._bars.remove_task(self._task)
            self._task = self._bars.add_task(step, total=None)
        else:
            done, total = int(counted[2]), int(counted[3])
            self._bars.update(self._task, description=counted[1], total=total, completed=done)
