"""``edgec bench``."""

from __future__ import annotations

import sys
from itertools import islice
from typing import TYPE_CHECKING, Any

import click

from edgec.cli import options, quantities

if TYPE_CHECKING:
    from rich.console import Console

    from edgec.execution.bench import BenchResult
    from edgec.execution.measure import Row
    from edgec.runtime.measurement import Estimate

SAMPLES = 64
"""So many of the user's samples take turns."""


def counts(text: str) -> tuple[int, ...]:
    """``1,8,32``.

    Raises:
        click.BadParameter: something between commas is no positive integer.
    """
    try:
        found = tuple(int(part) for part in text.split(","))
    except ValueError:
        raise click.BadParameter(f"'{text}' is no list of numbers like 1,8,32") from None
    if not all(number > 0 for number in found):
        raise click.BadParameter(f"'{text}' holds a number below 1")
    return tuple(dict.fromkeys(found))


@click.command(name="bench", short_help="Measure an artifact, or two against each other.")
@click.argument("folder", type=click.Path())
@click.option("--batch", "batches", type=counts, metavar="N,N,...", help="Samples per run. Default: the artifact's.")
@click.option("--threads", type=counts, metavar="N,N,...", help="Threads inside an operator. Default: the session's.")
@click.option("--vs", "versus", type=click.Path(), metavar="FOLDER", help="Another artifact to compare with.")
@click.option(
    "--data", type=click.Path(), metavar="PATH", help="Run on these samples (.npz, .npy or a folder of them)."
)
@click.option(
    "--input-shape",
    "input_shapes",
    type=options.named_shape,
    multiple=True,
    metavar="NAME:DIMS",
    help="Shape of an input that the artifact leaves open. Default: what it was verified with. Repeat per input.",
)
@click.option(
    "--budget",
    type=quantities.seconds,
    default="30s",
    metavar="TIME",
    show_default=True,
    help="For all that is timed; opening, warming up and the A/A floor come on top.",
)
@click.option("--percentiles", is_flag=True, help="Go on until p90 can be said (23,886 runs), if the budget allows it.")
@click.option(
    "--seed", type=click.IntRange(min=0), default=0, metavar="N", show_default=True, help="Of random samples."
)
@click.option("--no-wait", is_flag=True, help="End with an error where another process holds the device.")
@options.session
@options.reporting
@click.pass_context
def command(
    context: click.Context,
    folder: str,
    batches: tuple[int, ...] | None,
    threads: tuple[int, ...] | None,
    versus: str | None,
    data: str | None,
    input_shapes: tuple[tuple[str, tuple[int, ...]], ...],
    budget: float,
    percentiles: bool,
    seed: int,
    no_wait: bool,
    session: dict[str, Any],
    as_json: bool,
) -> None:
    """Measure the artifact in FOLDER (which holds manifest.json): latency, throughput, memory, cold start.

    Every setting runs in a process of its own, while edgec holds the lease of the device. Latencies come with the
    interval that they lie in with 95 % probability. With --vs the two run in turns, and the ratio of their latencies is
    given with its interval: below 1, FOLDER is faster. What was measured is appended to measurements.jsonl in FOLDER.
    The exit code is 7 when a number is unstable, 1 when a setting failed.
    """
    from edgec.cli.progress import steps
    from edgec.execution.bench import bench

    with steps() as progress:
        result = bench(
            folder,
            versus=versus,
            batches=batches or (None,),
            threads=threads or (None,),
            samples=None if data is None else _samples(folder, data, input_shapes, session),
            input_shapes=options.collect(input_shapes, "--input-shape"),
            budget_s=budget,
            percentiles=percentiles,
            seed=seed,
            wait=not no_wait,
            progress=progress,
            **session,
        )
    if as_json:
        from edgec.cli.documents import print_document

        print_document(result.to_json())
    else:
        show(result)
    context.exit(result.exit_code)


def _samples(
    folder: str, data: str, shapes: tuple[tuple[str, tuple[int, ...]], ...], session: dict[str, Any]
) -> list[dict[str, Any]]:
    """The samples of --data, as the artifact takes them."""
    from dataclasses import replace

    from edgec.converter.verification.data import load_samples
    from edgec.execution.load import load

    wanted = dict(shapes)
    with load(folder, isolated=True, **session) as model:
        specs = [replace(spec, shape=wanted.get(spec.name, spec.shape)) for spec in model.inputs]
    return list(islice(load_samples(data, specs, fill=True), SAMPLES))


def show(result: BenchResult) -> None:
    """The tables on standard output."""
    from rich.console import Console

    screen = Console(width=None if sys.stdout.isatty() else 160, highlight=False)
    tables = [(str(result.folder), result.rows)]
    if result.versus is not None:
        tables.append((str(result.versus), result.other_rows))
    for title, rows in tables:
        _show_rows(screen, title, rows)
    if result.comparisons:
        _show_comparisons(screen, result)
    for note in result.notes:
        screen.print(f"note: {note}", markup=False)


def _show_rows(screen: Console, title: str, rows: list[Row]) -> None:
    from edgec.cli.tables import show_table, size

    names = list(dict.fromkeys(name for row in rows if row.latency for name in row.latency.percentiles))
    joules = any(row.energy is not None and row.energy.joules is not None for row in rows)
    device = any(row.device_memory is not None for row in rows)
    headings = ["batch", "threads", "latency", "95 % interval", *names, "samples/s", "memory"]
    headings += (["on device"] if device else []) + ["cold start"] + (["energy"] if joules else []) + ["status"]
    lines = []
    for row in rows:
        setting = [str(row.batch or row.samples), str(row.threads or "default")]
        if row.latency is None:
            lines.append([*setting, *[""] * (len(headings) - 3), str(row.status)])
            continue
        median, known = row.latency.median, row.latency.percentiles
        unit, scale = unit_of(median.value)
        cells = [
            *setting,
            f"{median.value * scale:.4g} {unit}",
            f"{median.low * scale:.4g} - {median.high * scale:.4g}",
            *(f"{known[name] * scale:.4g}" if name in known else "" for name in names),
            f"{row.throughput:.4g}",
            "" if row.memory is None else size(row.memory.added),
        ]
        cells += ([size(row.device_memory) if row.device_memory is not None else ""] if device else []) + [
            "" if row.cold_start_s is None else f"{row.cold_start_s * 1e3:.3g} ms"
        ]
        energy = row.energy.joules if row.energy is not None else None
        cells += [f"{energy * 1e3:.3g} mJ" if energy is not None else ""] if joules else []
        lines.append([*cells, str(row.status)])
    show_table(screen, headings, lines, title=title, right=headings[:-1])
    shapes = next((row.shapes for row in rows if row.shapes), {})
    listed = ", ".join(f"{name} {'x'.join(map(str, shape)) or 'scalar'}" for name, shape in shapes.items())
    screen.print(f"a run takes: {listed}" if listed else "", markup=False)
    for row in rows:
        for reason in row.reasons:
            setting_text = f"batch {row.batch or row.samples}, threads {row.threads or 'default'}"
            screen.print(f"{setting_text}: {row.status}: {reason}", markup=False)
    for taken in dict.fromkeys(row.assignment.describe() for row in rows if row.assignment is not None):
        screen.print(f"note: {taken}", markup=False)
    busiest = max((row.conditions.get("others") or 0 for row in rows), default=0)
    if busiest > 0.25:
        screen.print(f"note: other work kept the processors busy to {busiest:.0%} meanwhile", markup=False)
    screen.print()


def _show_comparisons(screen: Console, result: BenchResult) -> None:
    from edgec.cli.tables import show_table

    headings = ("batch", "threads", "ratio", "95 % interval", "lower quartiles", "A/A floor", "blocks", "verdict")
    lines = []
    for comparison in result.comparisons:
        setting = [str(comparison.batch or "default"), str(comparison.threads or "default")]
        estimate = comparison.estimate
        if estimate is None:
            lines.append([*setting, "", "", "", "", "", f"not compared: {comparison.reason}"])
            continue
        lines.append(
            [
                *setting,
                f"{estimate.ratio:.4f}",
                f"{estimate.low:.4f} - {estimate.high:.4f}",
                f"{estimate.quartile_ratio:.4f}",
                f"{estimate.floor:.1%}",
                str(estimate.blocks),
                verdict_text(estimate, str(result.folder), str(result.versus)),
            ]
        )
    show_table(
        screen,
        headings,
        lines,
        title=f"{result.folder} / {result.versus}",
        right=headings[:-1],
        folded="verdict",
    )


def verdict_text(estimate: Estimate, candidate: str, incumbent: str) -> str:
    """Who is faster, by how much, in words."""
    from edgec.runtime.measurement import Status, Verdict

    if estimate.status is Status.UNSTABLE:
        return f"unstable: {estimate.reason}"
    wide = f", a wide interval: {estimate.reason}" if estimate.status is Status.WIDE else ""
    if estimate.verdict is Verdict.CANDIDATE:
        return f"{candidate} is faster by {1 - estimate.ratio:.1%}{wide}"
    if estimate.verdict is Verdict.INCUMBENT:
        return f"{incumbent} is faster by {1 - 1 / estimate.ratio:.1%}{wide}"
    return str(estimate.verdict)


def unit_of(seconds: float) -> tuple[str, float]:
    """The unit that a time is shown in, and what seconds are multiplied by."""
    units: tuple[tuple[str, float], ...] = (("us", 1e6), ("ms", 1e3), ("s", 1.0))
    return next((unit for unit in units if seconds * unit[1] < 1000), units[-1])
