"""``edgec bisect``."""

from __future__ import annotations

import sys
from typing import Any

import click

from edgec.cli import options
from edgec.errors import EXIT_FAILED, EXIT_OK


@click.command(name="bisect", short_help="Find the node of a converted model that first differs from the source.")
@click.argument("model", type=click.Path())
@options.target
@options.source
@options.shapes
@options.precision
@options.mixed
@options.images
@click.option("--passes", metavar="PIPELINE", help="Run these passes instead of the target's own.")
@click.option("--below", type=float, metavar="DB", help="Signal to noise of a wrong value.  [default: 10]")
@click.option(
    "--above",
    type=float,
    metavar="DB",
    help="Signal to noise of a right value.  [default: 20 with integers, 30 with floats alone]",
)
@options.target_options
@options.samples
@options.reporting
def command(
    model: str,
    target: str,
    signature: str | None,
    trust: bool,
    input_shapes: tuple[Any, ...],
    batch: int | None,
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
    below: float | None,
    above: float | None,
    segments: int | None,
    accelerator: str | None,
    require_device: bool,
    target_options: tuple[tuple[str, str], ...],
    data: str | None,
    ranges: tuple[Any, ...],
    seed: int,
    as_json: bool,
) -> int:
    """Compile and run parts of MODEL until the first node is found whose result is wrong although its inputs are right.

    The worst ten nodes are listed as well. Inputs and outputs stay float32. The exit code is 1 when a node was found, 0
    when nothing differs.
    """
    if io_dtype not in (None, "float32"):
        raise click.BadParameter("values are compared as floats, so it can only be float32", param_hint="--io-dtype")
    shapes = options.collect(input_shapes, "--input-shape")
    bounds = options.collect(ranges, "--range")
    from edgec.cli.documents import print_document
    from edgec.cli.progress import steps
    from edgec.converter.bisect import bisect
    from edgec.converter.bisection.report import SAME, render
    from edgec.converter.calibration.images import ImageOptions

    with steps() as progress:
        report = bisect(
            model,
            target=target,
            input_shapes=shapes,
            batch=batch,
            signature=signature,
            trust=trust,
            data=data,
            ranges=bounds,
            precision=precision,
            calibration=calibration,
            method=method,
            cache=cache,
            images=ImageOptions(mean, scale, resize, layout and layout.upper()),
            passes=passes,
            max_drop=max_drop,
            raise_to=raise_to,
            metric=metric,
            target_options=options.target_extra(target_options, segments, accelerator, require_device),
            below_db=below,
            above_db=above,
            seed=seed,
            progress=progress,
        )
    if as_json:
        print_document(report.to_json())
    else:
        from rich.console import Console

        Console(width=None if sys.stdout.isatty() else 140, highlight=False).print(render(report))
    return EXIT_OK if report.status == SAME else EXIT_FAILED
