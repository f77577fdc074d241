"""``edgec check``."""

from __future__ import annotations

from typing import Any

import click

from edgec.cli import options


@click.command(name="check", short_help="Say of every node whether a target can hold it.")
@click.argument("model", type=click.Path())
@options.target
@options.source
@options.shapes
@click.option(
    "--io-layout",
    type=click.Choice(["ONNX", "NHWC"], case_sensitive=False),
    help="As for convert.",
)
@options.precision
@click.option("--passes", metavar="PIPELINE", help="Run these passes instead of the target's own.")
@click.option("--all", "everything", is_flag=True, help="List the nodes that are ok as well.")
@options.reporting
def command(
    model: str,
    target: str,
    signature: str | None,
    trust: bool,
    input_shapes: tuple[Any, ...],
    batch: int | None,
    io_layout: str | None,
    precision: str | None,
    calibration: str | None,
    method: str,
    io_dtype: str | None,
    cache: str | None,
    passes: str | None,
    everything: bool,
    as_json: bool,
) -> None:
    """Ask a target about every node of MODEL, without converting.

    A node is ok, unsupported or uncertain; with the rule that decided, the reason, and what would help. The exit code
    is 0 whenever there is a report. What is called unsupported here, `edgec convert` refuses by the same rule.
    """
    shapes = options.collect(input_shapes, "--input-shape")
    from edgec.cli.documents import print_document
    from edgec.cli.progress import steps
    from edgec.converter.check import check

    with steps() as progress:
        report = check(
            model,
            target=target,
            input_shapes=shapes,
            batch=batch,
            signature=signature,
            trust=trust,
            io_layout=io_layout and io_layout.upper(),
            precision=precision,
            calibration=calibration,
            method=method,
            io_dtype=io_dtype,
            cache=cache,
            passes=passes,
            progress=progress,
        )
    if as_json:
        print_document(report.to_json())
        return
    from edgec.cli.tables import table

    rows = [
        (node.index, node.name, node.operator, node.verdict, node.rule, node.reason)
        for node in report.nodes
        if everything or node.verdict != "ok"
    ]
    if rows:
        click.echo(table(rows, ("#", "node", "operator", "verdict", "rule", "reason")))
    for refusal in report.general:
        click.echo(f"{refusal.rule}  {refusal.reason}")
    helps = [node.help for node in report.nodes if node.help] + [item.help for item in report.general if item.help]
    for text in dict.fromkeys(helps):
        click.echo(f"Try: {text}")
    for note in report.notes:
        click.echo(f"note: {note}")
    summary = report.summary
    click.echo(
        f"{report.model} for {report.target}: {summary['verdict']} "
        f"({summary['ok']} of {summary['nodes']} nodes ok, {summary['unsupported']} unsupported, "
        f"{summary['uncertain']} uncertain)"
    )
