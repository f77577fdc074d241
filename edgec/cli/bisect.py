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
@options.passes
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
    below: float | None,
    above: float | None,
    as_json: bool,
    **given: Any,
) -> int:
    """Compile and run parts of MODEL until the first node is found whose result is wrong although its inputs are right.

    The worst ten nodes are listed as well. Inputs and outputs stay float32. The exit code is 1 when a node was found, 0
    when nothing differs.
    """
    if given["io_dtype"] not in (None, "float32"):
        raise click.BadParameter("values are compared as floats, so it can only be float32", param_hint="--io-dtype")
    keywords = options.keywords(given)
    from edgec.cli.documents import print_document
    from edgec.cli.progress import steps
    from edgec.converter.bisect import bisect
    from edgec.converter.bisection.report import SAME, render

    with steps() as progress:
        report = bisect(model, target=target, below_db=below, above_db=above, progress=progress, **keywords)
    if as_json:
        print_document(report.to_json())
    else:
        from rich.console import Console

        Console(width=None if sys.stdout.isatty() else 140, highlight=False).print(render(report))
    return EXIT_OK if report.status == SAME else EXIT_FAILED
