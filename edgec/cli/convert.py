"""``edgec convert``."""

from __future__ import annotations

from typing import Any

import click

from edgec.cli import options


@click.command(name="convert", short_help="Convert a model and prove that the artifact computes the same function.")
@click.argument("model", type=click.Path())
@options.target
@click.option("-o", "--output", type=click.Path(), default="out", show_default=True, help="Folder for the artifact.")
@options.source
@options.shapes
@options.samples
@options.layout
@options.precision
@options.mixed
@options.images
@options.passes
@click.option(
    "--print-ir-after", multiple=True, metavar="PASS", help="Print the IR after a pass, after 'import' or after 'all'."
)
@click.option("--check-ir", is_flag=True, help="Check the canonical form after every pass.")
@click.option("--plan", is_flag=True, help="Say what would be done and write nothing.")
@click.option(
    "--tuned",
    type=click.Path(),
    metavar="STUDY",
    help="Convert as the winner of this study of edgec tune: its batch, precision, compiler and session options.",
)
@options.target_options
@options.reporting
def command(
    model: str,
    target: str,
    output: str,
    print_ir_after: tuple[str, ...],
    check_ir: bool,
    plan: bool,
    tuned: str | None,
    as_json: bool,
    **given: Any,
) -> None:
    """Convert MODEL for a target, run the artifact, and compare it with MODEL itself in its own runtime.

    MODEL is an .onnx or .tflite file, a SavedModel folder, or a Keras file (.keras, .h5, .hdf5).

    The artifact and manifest.json appear in the output folder only when the comparison holds. Otherwise the exit code
    is not 0; an artifact that computes something else is kept as *.rejected.
    """
    keywords = options.keywords(given)
    from edgec.runtime.spare import prepare

    if not plan:
        prepare()
    from edgec.cli.documents import print_document
    from edgec.cli.progress import steps
    from edgec.converter.convert import convert

    found: dict[str, Any] | None = None
    if tuned is not None:
        from edgec.tuner.applying import for_conversion

        decided = {"--input-shape": "input_shapes", "--batch": "batch", "--precision": "precision"}
        decided["--max-drop"] = "max_drop"
        refused = [option for option, name in decided.items() if keywords[name]]
        settings = for_conversion(tuned, model, target, refused)
        keywords.update(input_shapes=settings.input_shapes, precision=settings.precision)
        keywords["max_drop"] = settings.max_drop
        keywords["target_options"] = {**keywords["target_options"], **settings.target_options}
        found = dict(settings.entry)
    with steps() as progress:
        result = convert(
            model,
            target=target,
            output=output,
            print_ir_after=print_ir_after,
            check_ir=check_ir,
            plan=plan,
            tuned=found,
            progress=progress,
            **keywords,
        )
    if as_json:
        print_document(result.to_json())
    elif result.plan is not None:
        _show_plan(result.plan)
    else:
        _show_result(result)


def _show_result(result: Any) -> None:
    from edgec.cli.tables import show_verification, size

    for note in result.notes:
        click.echo(f"note: {note}")
    mixed = result.document.get("quantization", {}).get("mixed")
    if mixed is not None:
        _show_mixed(mixed)
    show_verification(result.document["verification"])
    operators = result.document["artifact"].get("operators", {})
    click.echo(f"artifact: {result.artifact} ({size(result.artifact.stat().st_size)}, {_count(operators)})")
    click.echo(f"manifest: {result.manifest}")


def _show_mixed(mixed: dict[str, Any]) -> None:
    """The trade-off: one line per artifact that was tried, the chosen one marked."""
    from edgec.cli.tables import table

    labelled = mixed["float_score"] is not None
    heading = ["", "raised", "loss", *(["score"] if labelled else []), "rel L2", "int8 operations", "int8 weights"]
    rows = []
    for point in mixed["curve"]:
        chosen = all(point[key] == mixed[key] for key in ("raised", "loss", "boundaries", "int8_operations"))
        cells = [f"{point['raised']} of {mixed['nodes']}", _percent(point["loss"])]
        cells += [_percent(point["score"])] if labelled else []
        cells += [_percent(point["relative_l2"]), _percent(point["int8_operations"]), _percent(point["int8_weights"])]
        rows.append([">" if chosen else "", *cells, point["boundaries"], "" if point["accepted"] else "too much"])
    click.echo(table(rows, [*heading, "boundaries", ""]))


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{share:.2%}"


def _show_plan(plan: dict[str, Any]) -> None:
    click.echo(f"target:    {plan['target']}")
    click.echo(f"pipeline:  {plan['pipeline'] or 'none, the file is taken as it is'}")
    click.echo(f"changing:  {', '.join(dict.fromkeys(plan['passes_changed'])) or 'nothing'}")
    click.echo(f"operators: {_count(plan['operators'])} after the passes")
    click.echo(f"writes:    {', '.join(plan['files'])} into {plan['output']}, after verification on")
    for entry in plan["verification"]["inputs"]:
        shape = "unknown" if entry["shape"] is None else ",".join(str(dim) for dim in entry["shape"])
        click.echo(f"           {entry['name']}: {entry['dtype']}[{shape}] from {entry['from']}")
    if plan.get("tool"):
        click.echo(f"runs:      {plan['tool']['command']}")
    for note in plan["notes"]:
        click.echo(f"note: {note}")


def _count(operators: dict[str, int]) -> str:
    return f"{sum(operators.values())} operators of {len(operators)} kinds"
