"""The Markdown table of all results: docs/benchmarks/convert.md from docs/benchmarks/*.json."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

Row = dict[str, Any]

HEADINGS = {
    "convert": "Cost of a conversion, whole process (edgec verifies what it wrote; onnx2tf does not)",
    "latency": "Latency of the artifacts",
    "operators": "Operators",
    "scaling": "Default passes on a chain",
    "inspect": "`edgec inspect --json` of a 2.7 GB model with external data",
    "help": "Starting",
}


def write(folder: Path) -> None:
    """Write `folder`/convert.md from the JSON documents in `folder`."""
    lines = [
        "# Benchmarks",
        "",
        "Written by this; the raw numbers are in the JSON files beside this one:",
        "",
        "    python3.12 -m venv peer && peer/bin/pip install onnx2tf==2.6.9 polygraphy",
        "    python benchmarks/convert.py --peer-python peer/bin/python --work work --runs 3 --seconds 4",
        "",
        "CPU seconds are user + system time of the whole process tree, memory is the peak of that tree (10^6 bytes),",
        "both medians of interleaved runs. Latency ratios come from single runs interleaved A B B A, with the 95 %",
        "bootstrap interval over 10 rounds of freshly opened sessions; at one thread the ratio of CPU times as well,",
        "which other work on the machine disturbs less. edgec's file against itself shows what the method cannot tell",
        "apart. MobileNetV2, ResNet-50, ViT, YOLOv8n, SqueezeNet and ShuffleNet have random weights.",
    ]
    for part, heading in HEADINGS.items():
        path = folder / f"{part}.json"
        if not path.exists():
            continue
        document = json.loads(path.read_text())
        lines += ["", f"## {heading}", "", _machine(document["machine"]), "", *TABLES[part](document["results"])]
    (folder / "convert.md").write_text("\n".join(lines) + "\n")


def _machine(machine: Row) -> str:
    packages = ", ".join(f"{name} {version}" for name, version in machine["packages"].items())
    return (
        f"{machine['processor']}, {machine['cores']} cores, {machine['memory_gigabytes']} GB, {machine['system']}, "
        f"Python {machine['python']}, {packages}; load average {machine['load_average'][0]} at the start, "
        f"{machine['date']}."
    )


def _table(header: Iterable[str], rows: Iterable[Iterable[str]]) -> list[str]:
    names = list(header)
    lines = ["| " + " | ".join(names) + " |", "| --- |" + " ---: |" * (len(names) - 1)]
    return lines + ["| " + " | ".join(row) + " |" for row in rows]


def _cost(entry: Row | None) -> list[str]:
    if entry is None:
        return ["-", "-", "-"]
    if not entry["ok"]:
        return [f"fails (exit {entry['returncode']})", "-", "-"]
    if entry.get("loads") is False:
        error = "does not load"
    else:
        error = f"{entry['relative_error']:.1e}" if "relative_error" in entry else "-"
    return [f"{entry['cpu_seconds']:.2f} s", f"{entry['peak_megabytes']:.0f} MB", error]


def _convert(results: dict[str, Row]) -> list[str]:
    rows = []
    for name, row in results.items():
        ratios = [str(row.get(key, "-")) for key in ("cpu_ratio", "memory_ratio")]
        rows.append([name, *_cost(row.get("edgec")), *_cost(row.get("onnx2tf")), *ratios])
    header = [
        "model",
        "edgec CPU",
        "memory",
        "relative L2",
        "onnx2tf CPU",
        "memory",
        "relative L2",
        "CPU ratio",
        "memory",
    ]
    return _table(header, rows)


def _ratio(entry: Row | None, processor: bool) -> str:
    if entry is None:
        return "-"
    low, high = entry["interval"]
    text = f"{entry['ratio']:.3f} ({low:.3f}-{high:.3f})"
    if not processor:
        return text
    low, high = entry["processor_interval"]
    return f"{text}; CPU {entry['processor_ratio']:.3f} ({low:.3f}-{high:.3f})"


def _latency(results: dict[str, Row]) -> list[str]:
    rows = []
    for name, row in results.items():
        if not row["ok"]:
            rows.append([name, row["message"], *["-"] * 8])
            continue
        cells = [name]
        for threads in (1, 2):
            peer, reference = row.get(f"peer_{threads}"), row[f"onnxruntime_{threads}"]
            milliseconds = peer or reference
            cells += [
                f"{milliseconds['first_milliseconds']:.3f} ms",
                f"{peer['second_milliseconds']:.3f} ms" if peer else "-",
                _ratio(peer, threads == 1),
                _ratio(reference, threads == 1),
            ]
        rows.append([*cells, _ratio(row["same_file_1"], True)])
    header = ["model"]
    for threads in (1, 2):
        header += [
            f"edgec, {threads} thread{'s' * (threads > 1)}",
            "onnx2tf",
            "edgec / onnx2tf",
            "edgec / ONNX Runtime",
        ]
    return _table([*header, "edgec / itself, 1 thread"], rows)


def _operators(results: dict[str, Row]) -> list[str]:
    rows = []
    for name, row in results.items():
        cells = [name]
        for key in ("edgec", "edgec_nhwc", "onnx2tf"):
            entry = row.get(key)
            if entry is None:
                cells += ["-", "-"]
                continue
            custom = f", custom {len(entry['custom'])}" if entry["custom"] else ""
            cells += [f"{entry['operators']}{custom}", f"{entry['transposes']} ({entry['inner_transposes']})"]
        rows.append(cells)
    header = ["model"]
    for title in ("edgec", "edgec, NHWC images", "onnx2tf"):
        header += [f"{title}: operators", "TRANSPOSE (inner)"]
    return _table(header, rows)


def _scaling(results: dict[str, Row]) -> list[str]:
    costs = {name: row for name, row in results.items() if name != "fit"}
    lines = _costs(costs)
    fit = results.get("fit")
    if fit:
        lines += [
            "",
            f"Exponent of the log-log fit, less {fit['imports_cpu_seconds']} s for imports: {fit['exponent']}.",
        ]
    return lines


def _costs(results: dict[str, Row]) -> list[str]:
    return _table(["", "CPU", "memory"], [[name, *_cost(row)[:2]] for name, row in results.items()])


TABLES: dict[str, Callable[[dict[str, Row]], list[str]]] = {
    "convert": _convert,
    "latency": _latency,
    "operators": _operators,
    "scaling": _scaling,
    "inspect": _costs,
    "help": _costs,
}
