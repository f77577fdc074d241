"""``edgec inspect``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from edgec.cli import options


@click.command(name="inspect", short_help="Show what a model or an artifact holds.")
@click.argument("model", type=click.Path())
@click.option("--signature", metavar="NAME", help="Signature of a SavedModel. Default: serving_default.")
@options.reporting
def command(model: str, signature: str | None, as_json: bool) -> None:
    """Show inputs, outputs, opset, operators, parameters, sizes and dynamic dimensions of MODEL.

    MODEL is an .onnx or .tflite file, a SavedModel folder, or a Keras file (.keras, .h5, .hdf5). Weights are not read
    and nothing in it is executed; of a SavedModel or Keras file it also says which code it would run.
    """
    from edgec.cli.documents import print_document
    from edgec.converter.importers import inspect_source
    from edgec.converter.importers.imported import SourceOptions

    facts = inspect_source(Path(model), SourceOptions(signature=signature))
    document = {"schema": "edgec-inspect-1", "status": "ok", "model": Path(model).name, **facts}
    if as_json:
        print_document(document)
    else:
        click.echo(_text(document))


def _text(document: dict[str, Any]) -> str:
    from edgec.cli.tables import table

    lines = []
    skipped = ("schema", "status")
    width = max(len(key) for key in document if key not in skipped)
    for key, value in document.items():
        if key in skipped or value in (None, [], {}):
            continue
        label = key.replace("_", " ").ljust(width)
        if key == "signatures" and isinstance(value, dict):
            lines.append(f"{label}  {', '.join(value)}")
        elif key in ("inputs", "outputs") and isinstance(value, list):
            rows = [(item["name"], f"{item['dtype'] or '?'}{_shape(item['shape'])}") for item in value]
            lines.append(f"{label}  " + table(rows).replace("\n", "\n" + " " * (width + 2)))
        elif isinstance(value, dict):
            pairs = sorted(value.items(), key=lambda pair: (-pair[1] if isinstance(pair[1], int) else 0, pair[0]))
            lines.append(f"{label}  " + ", ".join(f"{name} {_plain(item)}" for name, item in pairs))
        else:
            lines.append(f"{label}  {_plain(value)}")
    return "\n".join(lines)


def _plain(value: Any) -> str:
    if isinstance(value, dict):
        return "(" + ", ".join(f"{key} {_plain(item)}" for key, item in value.items()) + ")"
    if isinstance(value, list):
        return ", ".join(_plain(item) for item in value)
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:,}" if isinstance(value, int) and value >= 10000 else str(value)


def _shape(shape: Any) -> str:
    if shape is None:
        return "[unknown rank]"
    return "[" + ",".join("?" if dim is None else str(dim) for dim in shape) + "]"
