"""``edgec run``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from edgec.cli import options, session_options

TOP = 5
"""Classes that are shown where only labels are given."""


@click.command(name="run", short_help="Run an artifact on a real input.")
@click.argument("folder", type=click.Path())
@click.option(
    "--input",
    "inputs",
    multiple=True,
    metavar="[NAME=]FILE",
    help="An image, .npy or .npz: for the only input, or NAME=FILE for one of several. Repeat per input.",
)
@click.option("--top-k", type=click.IntRange(min=1), metavar="K", help="Show the K best classes of outputs of scores.")
@click.option("--labels", type=click.Path(), metavar="FILE", help="Names of the classes, one per line.")
@click.option(
    "-o", "--output", type=click.Path(), metavar="FILE", help="Save the outputs as .npz, as the artifact has them."
)
@options.images
@session_options.threads
@session_options.session
@options.reporting
def command(
    folder: str,
    inputs: tuple[str, ...],
    top_k: int | None,
    labels: str | None,
    output: str | None,
    mean: tuple[float, ...],
    scale: tuple[float, ...],
    resize: str,
    layout: str | None,
    threads: int | None,
    session: dict[str, Any],
    as_json: bool,
) -> None:
    """Run the artifact in FOLDER (which holds manifest.json) once, and show its outputs as real numbers.

    It runs in a process of its own: a crash of the runtime is an error, not the end.
    """
    from edgec.cli.documents import print_document
    from edgec.cli.inputs import read_inputs
    from edgec.cli.progress import steps
    from edgec.converter.calibration.images import ImageOptions
    from edgec.converter.output import not_writable
    from edgec.execution.load import load
    from edgec.execution.running import best, is_scores, read_labels, save, summary

    names = None if labels is None else read_labels(labels)
    if threads is not None:
        session["threads"] = threads
    with steps() as progress:
        progress("loading")
        with load(folder, isolated=True, **session) as model:
            pictures = ImageOptions(mean, scale, resize, layout and layout.upper())
            feeds, sources, notes = read_inputs(model, inputs, pictures)
            progress("running")
            results = model.run(feeds)
            taken = model.assignment()
    saved = None
    if output is not None:
        saved = Path(output) if Path(output).suffix == ".npz" else Path(f"{output}.npz")
        try:
            save(results, saved)
        except OSError as error:
            raise not_writable(saved.parent, error) from error
    count = top_k or (TOP if names is not None else None)
    listed = []
    for spec in model.outputs:
        real = model.dequantize(spec.name, results[spec.name])
        shown = {"name": spec.name, "dtype": str(spec.dtype), "shape": list(real.shape), **summary(real)}
        scores = count is not None and is_scores(real)
        if scores and names is not None and len(names) != real.size:
            notes.append(f"'{Path(labels or '').name}' names {len(names)} classes, '{spec.name}' has {real.size}")
        listed.append({**shown, "top": [item.to_json() for item in best(real, count or 0, names)] if scores else None})
    if count is not None and all(item["top"] is None for item in listed):
        notes.append("no output holds one score per class, so there is no best one")
    if taken is not None and not taken.complete:
        notes.append(taken.describe())
    document = {
        "schema": "edgec-run-1",
        "status": "ok",
        "target": model.target,
        "artifact": model.path.name,
        "inputs": sources,
        "outputs": listed,
        "assignment": None if taken is None else taken.to_json(),
        "saved": None if saved is None else str(saved),
        "notes": notes,
        "error": None,
    }
    if as_json:
        print_document(document)
    else:
        _show(document)


def _show(document: dict[str, Any]) -> None:
    from rich.console import Console

    from edgec.cli.tables import show_table

    screen = Console(width=None if sys.stdout.isatty() else 140, highlight=False)
    rows = []
    for item in document["outputs"]:
        values = "" if item["values"] is None else "[" + ", ".join(_number(value) for value in item["values"]) + "]"
        shape = "x".join(map(str, item["shape"])) or "scalar"
        numbers = (_number(item[key]) for key in ("minimum", "maximum", "mean"))
        rows.append([item["name"], item["dtype"], shape, *numbers, values])
    show_table(screen, ("output", "dtype", "shape", "min", "max", "mean", "values"), rows, folded="values")
    for item in document["outputs"]:
        if item["not_finite"]:
            screen.print(f"warning: {item['not_finite']} numbers of '{item['name']}' are not finite", markup=False)
        if item["top"]:
            ranking = [
                [str(place), str(found["index"]), _number(found["score"]), found["label"] or ""]
                for place, found in enumerate(item["top"], 1)
            ]
            show_table(screen, ("", "class", "score", ""), ranking, title=f"best of {item['name']}")
    for note in document["notes"]:
        screen.print(f"note: {note}", markup=False)
    if document["saved"]:
        screen.print(f"saved: {document['saved']}", markup=False)


def _number(value: Any) -> str:
    return "-" if value is None else f"{value:.6g}" if isinstance(value, float) else str(value)
