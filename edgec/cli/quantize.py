"""``edgec quantize``."""

from __future__ import annotations

from typing import Any

import click

from edgec.cli import options


@click.command(name="quantize", short_help="Write a float model as int8 ONNX for anybody's tools.")
@click.argument("model", type=click.Path())
@click.option("-o", "--output", type=click.Path(), required=True, metavar="FILE", help="The ONNX file to write.")
@options.source
@options.shapes
@options.calibration
@options.images
@click.option(
    "--seed", type=click.IntRange(min=0), default=0, metavar="N", show_default=True, help="Of random samples."
)
@options.reporting
def command(
    model: str,
    output: str,
    as_json: bool,
    **given: Any,
) -> None:
    """Write MODEL as ONNX with QuantizeLinear and DequantizeLinear, run it, and compare it with MODEL itself.

    Weights are int8 with one scale per channel, activations int8, inputs and outputs stay float32.
    """
    keywords = options.keywords(given)
    from edgec.runtime.spare import prepare

    prepare()
    from edgec.cli.documents import print_document
    from edgec.cli.progress import steps
    from edgec.converter.quantize import quantize_model

    with steps() as progress:
        result = quantize_model(model, output, progress=progress, **keywords)
    if as_json:
        print_document(result.to_json())
        return
    from edgec.cli.tables import show_written

    show_written(result)
