"""``edgec import``."""

from __future__ import annotations

from typing import Any

import click

from edgec.cli import options


@click.command(name="import", short_help="Turn a model of any known format into ONNX.")
@click.argument("model", type=click.Path())
@click.option("-o", "--output", type=click.Path(), required=True, metavar="FILE", help="The ONNX file to write.")
@click.option(
    "--opset",
    type=click.IntRange(min=7),
    metavar="N",
    help="Opset to write. Default: 17 for SavedModel and Keras, else the lowest that means the same.",
)
@options.source
@options.shapes
@options.samples
@click.option("--timeout", type=click.FloatRange(min=0, min_open=True), metavar="S", help="Seconds for TensorFlow.")
@click.option(
    "--memory-limit", type=click.FloatRange(min=0, min_open=True), metavar="GIB", help="Memory for TensorFlow, GiB."
)
@click.option("--log", type=click.Path(), metavar="FILE", help="Keep what TensorFlow and tf2onnx print.")
@options.reporting
def command(
    model: str,
    output: str,
    opset: int | None,
    timeout: float | None,
    memory_limit: float | None,
    log: str | None,
    as_json: bool,
    **given: Any,
) -> None:
    """Write MODEL as ONNX, run it, and compare it with MODEL itself in its own runtime.

    MODEL is a SavedModel folder, a Keras file (.keras, .h5, .hdf5), a .tflite or an .onnx file. SavedModel and Keras
    need the extra [tensorflow]; TensorFlow runs in a process of its own, with limits on time and memory.
    """
    keywords = options.keywords(given)
    from edgec.runtime.spare import prepare

    prepare()
    from edgec.cli.documents import print_document
    from edgec.cli.progress import steps
    from edgec.converter.import_ import import_

    with steps() as progress:
        result = import_(
            model,
            output,
            opset=opset,
            timeout_s=timeout,
            memory_bytes=None if memory_limit is None else int(memory_limit * 2**30),
            log=log,
            progress=progress,
            **keywords,
        )
    if as_json:
        print_document(result.to_json())
        return
    from edgec.cli.tables import show_written

    show_written(result)
