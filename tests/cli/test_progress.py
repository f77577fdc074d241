"""What is shown while a command works."""

from __future__ import annotations

import io

from rich.console import Console
from rich.progress import Progress

from edgec.cli.progress import _Bar


def test_counted_steps_move_a_bar_and_others_do_not() -> None:
    bars = Progress(console=Console(file=io.StringIO()))
    bar = _Bar(bars)
    bar("measuring noise: 3 of 100")
    (task,) = bars.tasks
    assert (task.description, task.completed, task.total) == ("measuring noise", 3, 100)
    bar("bisecting: nodes 3 to 5 of 20")
    (task,) = bars.tasks
    assert (task.description, task.total) == ("bisecting: nodes 3 to 5 of 20", None)
