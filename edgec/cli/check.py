"""``edgec check``."""

from __future__ import annotations

from typing import Any

import click

from edgec.cli import options
from edgec.errors import EXIT_OK, EXIT_UNSUPPORTED


@click.command(name="check", short_help="Say of every node whether a target can hold it.")
@click.argument("model", type=click.Path())
@options.target
@options.source
@options.shapes
@options.layout
@options.precision
@options.images
@options.passes
@options.target_options
@click.option("--all", "everything", is_flag=True, help="List the nodes that are ok as well.")
@options.reporting
def command(
    model: str,
    target: str,
    everything: bool,
    as_json: bool,
    **given: Any,
) -> int:
    """Ask a target about every node of MODEL, without converting.

    A node is ok, unsupported or uncertain; with the rule that decided, the reason, and what would help. The exit code
    is 0 whenever there is a report, but 4 where --require-device is given and a node is not ok. What is called
    unsupported here, `edgec convert` refuses by the same rule.
    """
    keywords = options.keywords(given)
    from edgec.cli.documents import print_document
    from edgec.cli.progress import steps
    from edgec.converter.check import check

    with steps() as progress:
        report = check(model, target=target, progress=progress, **keywords)
    required = (keywords["target_options"] or {}).get("require-device")
    code = EXIT_UNSUPPORTED if required and report.verdict != "ok" else EXIT_OK
    if as_json:
        print_document(report.to_json())
        return code
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
    return code
