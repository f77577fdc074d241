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
@click.option(
    "--io-layout",
    type=click.Choice(["ONNX", "NHWC"], case_sensitive=False),
    help="ONNX keeps the model's shapes; NHWC turns image inputs and outputs channels-last. Default: NHWC for edgetpu "
    "and ethosu, ONNX for the other targets.",
)
@options.precision
@options.mixed
@options.images
@click.option("--passes", metavar="PIPELINE", help="Run these passes instead of the target's own.")
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
    signature: str | None,
    trust: bool,
    input_shapes: tuple[Any, ...],
    batch: int | None,
    data: str | None,
    ranges: tuple[Any, ...],
    seed: int,
    io_layout: str | None,
    precision: str | None,
    calibration: str | None,
    method: str,
    io_dtype: str | None,
    max_drop: float | None,
    metric: str | None,
    raise_to: str | None,
    cache: str | None,
    mean: tuple[float, ...],
    scale: tuple[float, ...],
    resize: str,
    layout: str | None,
    passes: str | None,
    print_ir_after: tuple[str, ...],
    check_ir: bool,
    plan: bool,
    tuned: str | None,
    segments: int | None,
    accelerator: str | None,
    require_device: bool,
    target_options: tuple[tuple[str, str], ...],
    as_json: bool,
) -> None:
    """Convert MODEL for a target, run the artifact, and compare it with MODEL itself in its own runtime.

    MODEL is an .onnx or .tflite file, a SavedModel folder, or a Keras file (.keras, .h5, .hdf5).

    The artifact and manifest.json appear in the output folder only when the comparison holds. Otherwise the exit code
    is not 0; an artifact that computes something else is kept as *.rejected.
    """
    shapes = options.collect(input_shapes, "--input-shape")
    bounds = options.collect(ranges, "--range")
    extra = options.target_extra(target_options, segments, accelerator, require_device)
    from edgec.cli.documents import print_document
    from edgec.cli.progress import steps
    from edgec.converter.calibration.images import ImageOptions
    from edgec.converter.convert import convert

    found: dict[str, Any] | None = None
    if tuned is not None:
        from edgec.tuner.applying import for_conversion

        given = {"--input-shape": shapes, "--batch": batch, "--precision": precision}
        settings = for_conversion(tuned, model, target, [name for name, value in given.items() if value])
        shapes, precision, found = dict(settings.input_shapes), settings.precision, dict(settings.entry)
        extra = {**extra, **settings.target_options}
    with steps() as progress:
        result = convert(
            model,
            target=target,
            output=output,
            input_shapes=shapes,
            batch=batch,
            signature=signature,
            trust=trust,
            data=data,
            ranges=bounds,
            io_layout=io_layout and io_layout.upper(),
            precision=precision,
            calibration=calibration,
            method=method,
            io_dtype=io_dtype,
            max_drop=max_drop,
            raise_to=raise_to,
            metric=metric,
            cache=cache,
            images=ImageOptions(mean, scale, resize, layout and layout.upper()),
            passes=passes,
            print_ir_after=print_ir_after,
            check_ir=check_ir,
            plan=plan,
            target_options=extra,
            tuned=found,
            seed=seed,
            progress=progress,
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
