"""Studies on the terminal: how one is going, and what came of it."""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

from rich.console import Console
from rich.table import Table

from edgec.cli.interruption import Advice
from edgec.errors import EdgecError
from edgec.tuner.goals import DEVICE_MEMORY, DROP, LATENCY, MEMORY, THROUGHPUT
from edgec.tuner.outcome import StudyResult, read_study
from edgec.tuner.trials import State, Trial

SHOWN: Final = 12
"""So many trials are listed: the best, then those that were pruned, with the reason; and all failures."""
HEADINGS: Final = {
    LATENCY: "ms per run",
    THROUGHPUT: "samples/s",
    MEMORY: "memory MB",
    DEVICE_MEMORY: "on device MB",
    DROP: "drop",
}


@contextlib.contextmanager
def following() -> Iterator[tuple[Callable[[str], object], Callable[[Trial], object]]]:
    """Functions to call with the name of each step and with each trial; on a terminal a line says how it goes."""
    if not sys.stderr.isatty():
        yield (lambda step: None), (lambda trial: None)
        return
    console = Console(stderr=True)
    with console.status("starting") as status:
        best: list[float] = []

        def step(name: str) -> None:
            status.update(f"trial {len(best)}: {name}" if best else name)

        def trial(found: Trial) -> None:
            if found.state is State.RUNNING:
                status.update(f"trial {found.number}: {described(found.configuration)}")
                return
            best.append(found.values.get(LATENCY, float("inf")))
            text = found.reason or f"{found.values.get(LATENCY, float('nan')):.4g} ms"
            console.print(f"{found.number:>4} {found.state.value:<9}{text}", highlight=False)

        yield step, trial


def kept(folder: str) -> Advice:
    """What an interruption leaves of the study in a folder."""
    try:
        result = read_study(folder)
    except EdgecError:
        return Advice("nothing was measured yet", "give the same command again")
    finished = sum(trial.state is not State.RUNNING for trial in result.trials)
    running = [trial.number for trial in result.trials if trial.state is State.RUNNING]
    lost = f"; trial {running[0]} was running and is measured again" if running else ""
    return Advice(
        f"the study in '{folder}' keeps its finished trials, {finished} so far{lost}",
        "give the same command again: the study goes on",
    )


def described(configuration: Mapping[str, Any]) -> str:
    """``threads=2 arena=false``."""
    return " ".join(
        f"{name}={value if isinstance(value, str) else json.dumps(value)}" for name, value in configuration.items()
    )


def show_study(result: StudyResult) -> None:
    """The best trials, the failures, the winner, on standard output."""
    console = Console(width=None if sys.stdout.isatty() else 140, highlight=False)
    document = result.to_json()
    console.print(_table(result))
    counts = ", ".join(f"{count} {state}" for state, count in document["counts"].items() if count)
    space = document["configurations"]
    console.print(
        f"{len(result.trials)} trials ({counts or 'none'}) of {space if space is not None else 'very many'} "
        f"configurations in {document['seconds']:.0f} s, {document['basis']}; {_ending(document)}"
    )
    for note in document["notes"]:
        console.print(f"note: {note}")
    _show_winner(console, document)


def _ending(document: Mapping[str, Any]) -> str:
    reasons = {
        "trials": "the number of trials was reached; with more --trials the same command goes on",
        "budget": "the budget was spent; with more --budget the same command goes on",
        "exhausted": "nothing is left to measure",
    }
    return reasons.get(document["ended"] or "", "not finished: the same command goes on")


def _show_winner(console: Console, document: Mapping[str, Any]) -> None:
    winner, gain = document["winner"], document["gain"]
    if winner is None:
        if document["status"] == "infeasible":
            console.print("winner: none, no configuration keeps the limits")
        return
    console.print(f"winner: trial {winner['number']}, {described(winner['configuration'])}")
    if winner["number"] == 0:
        console.print("gain:   no significant gain over the default, which stays")
    elif gain is not None:
        console.print(f"gain:   {gain['text']} (95 % interval, measured again; A/A floor {gain['floor']:.1%})")
    console.print(f"apply:  edgec tune apply {document['study']} -o out")


def _table(result: StudyResult) -> Table:
    goals = result.goals
    table = Table(title=None, pad_edge=False)
    batches = {trial.configuration.get("batch") for trial in result.trials}
    wanted = [name for name in HEADINGS if name != THROUGHPUT or len(batches) > 1]
    values = [name for name in wanted if any(name in trial.values for trial in result.trials)]
    table.add_column("trial", justify="right")
    table.add_column("state")
    for name in values:
        table.add_column(HEADINGS[name], justify="right")
    table.add_column("differs from the default in")
    complete = [trial for trial in result.trials if trial.state is State.COMPLETE]
    ranked = sorted(complete, key=lambda trial: (not goals.is_feasible(trial.values), goals.costs(trial.values)))
    shown = ranked[:SHOWN]
    if complete and complete[0] not in shown:
        shown.append(complete[0])
    default = result.trials[0].configuration if result.trials else {}
    for trial in shown:
        state = "default" if trial.number == 0 else "ok" if goals.is_feasible(trial.values) else "over limit"
        if trial.reason is not None:
            state += ", wide" if trial.number else ", unstable"
        differing = described({k: v for k, v in trial.configuration.items() if default.get(k) != v or k not in default})
        table.add_row(str(trial.number), state, *(_value(trial, name) for name in values), differing)
    pruned = [trial for trial in result.trials if trial.state is State.PRUNED]
    listed = pruned[: max(SHOWN - len(shown), 0)]
    for trial in result.trials:
        if trial.state is State.FAILED or trial in listed:
            reason = (trial.reason or "")[:80]
            table.add_row(str(trial.number), trial.state.value, *[""] * len(values), reason)
    if len(pruned) > len(listed):
        table.add_row("", "pruned", *[""] * len(values), f"{len(pruned) - len(listed)} more: --json has the reasons")
    return table


def _value(trial: Trial, name: str) -> str:
    value = trial.values.get(name)
    if value is None:
        return ""
    if name == DROP:
        return f"{value:.3%}"
    if name in (MEMORY, DEVICE_MEMORY):
        return f"{value / 1e6:.1f}"
    low, high = trial.intervals.get(name, (value, value))
    half = (high - low) / 2
    return f"{value:.4g} ± {half:.2g}"
