"""docs/benchmarks/int8.md from docs/benchmarks/int8.json."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

Row = dict[str, Any]

HEAD = """# int8 against float

Written by this; the raw numbers are in `int8.json` beside this file:

    python benchmarks/int8_agreement.py --work work --tensorflow-python TF/bin/python --peer-python AEQ/bin/python

Each model is calibrated with some samples and compared with its float original in ONNX Runtime on others. *Agreement*
is the share of samples with the same largest output, for the text detector the intersection over union of the pixels
above its threshold of 0.3; *SQNR* is that of all samples together. `packaged` is the file that the makers of the model
ship; `ai-edge-quantizer` made its file from edgec's float artifact and the same calibration samples. The photographs of
foolbox and scikit-image are not those that the models were trained with; the text is drawn, and one page is a scan.
MobileNetV2 and YOLOv8n have random weights. *Kept* names the changes that raised the SQNR on calibration samples.
"""


def write(folder: Path) -> None:
    """Write `folder`/int8.md."""
    document = json.loads((folder / "int8.json").read_text(encoding="utf-8"))
    machine = document["machine"]
    packages = ", ".join(f"{name} {version}" for name, version in machine["packages"].items())
    lines = [HEAD, f"{machine['processor']}, {machine['cores']} cores, {packages}; {machine['date']}.", ""]
    lines += ["| model | file | agreement | SQNR | relative L2 | kept |", "| --- | --- | ---: | ---: | ---: | --- |"]
    for name, row in document["results"].items():
        lines += _rows(name, row)
    lines += ["", "## Cost of a conversion to int8, whole process, and latency against ai-edge-quantizer's file", ""]
    lines += [
        "| model | CPU | memory | edgec / ai-edge-quantizer, one thread | edgec's file against itself |",
        "| --- | ---: | ---: | ---: | ---: |",
    ]
    lines += [_cost(name, row) for name, row in document["results"].items() if "cost" in row]
    (folder / "int8.md").write_text("\n".join(lines) + "\n", encoding="utf-8")


def _rows(name: str, row: Row) -> list[str]:
    if "skipped" in row:
        return [f"| {name} | not measured: {row['skipped']} | | | | |"]
    lines = []
    for file, found in row.items():
        if not isinstance(found, dict) or not ("agreement" in found or "refused" in found):
            continue
        label = f"{file} ({found['kind']})" if found.get("kind") else file
        if "refused" in found:
            lines.append(f"| {name} | {label} | refused: {' '.join(found['refused'])} | | | |")
            continue
        kept = ", ".join((found.get("refinement") or {}).get("used", []))
        worst = found.get("worst_channel_relative_l2")
        error = f"{found['relative_l2']:.3f}" + (f" (worst channel {worst:.3f})" if worst is not None else "")
        alike = "-" if found["agreement"] is None else f"{found['agreement']:.1%}"
        lines.append(f"| {name} | {label} | {alike} | {found['sqnr_db']:.1f} dB | {error} | {kept} |")
    return lines


def _cost(name: str, row: Row) -> str:
    cost = row["cost"]
    spent = f"{cost['cpu_seconds']:.2f} s | {cost['peak_megabytes']:.0f} MB" if cost["ok"] else "refused | "
    return f"| {name} | {spent} | {_ratio(row.get('latency'))} | {_ratio(row.get('latency_same_file'))} |"


def _ratio(found: Row | None) -> str:
    if found is None:
        return "-"
    low, high = found["processor_interval"]
    return f"{found['processor_ratio']:.3f} ({low:.3f} to {high:.3f})"
