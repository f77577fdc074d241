"""What is predicted of a model on the Edge TPU, and how the compiler's result compares with it, for people and JSON."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from edgec.targets.base import Verdict
from edgec.targets.edgetpu.mapping import Mapping, predict
from edgec.targets.edgetpu.memory import estimate
from edgec.targets.tflite.graph import FlatModel


def facts(flat: FlatModel, mapping: Mapping) -> dict[str, Any]:
    """What is predicted, as JSON holds it; byte counts are ranges ``[low, high]``."""
    mapped = mapping.positions(Verdict.OK)
    memory = estimate(flat.main, mapped)
    share = mapping.multiplications_on_cpu / mapping.multiplications if mapping.multiplications else 0.0
    return {
        "operators_on_device": len(mapped),
        "operators_on_cpu": len(mapping.positions(Verdict.UNSUPPORTED)),
        "operators_uncertain": len(mapping.positions(Verdict.UNCERTAIN)),
        "constant_bytes": memory.constants,
        "expected_parameter_bytes": memory.expected,
        "cached_parameter_bytes": memory.cached.to_json(),
        "streamed_parameter_bytes": memory.streamed.to_json(),
        "boundary_bytes": mapping.boundary_bytes,
        "multiplications": mapping.multiplications,
        "multiplications_on_cpu_share": round(share, 4),
    }


def describe(flat: FlatModel, mapping: Mapping) -> list[str]:
    """The same in sentences."""
    found = facts(flat, mapping)
    total = len(mapping.nodes)
    sentences = []
    away = [node for node in mapping.nodes if node.verdict is not Verdict.OK]
    line = f"{found['operators_on_device']} of {total} operators are predicted on the Edge TPU"
    if away:
        first = away[0]
        share = found["multiplications_on_cpu_share"]
        line += f"; the first elsewhere is {first.operator} '{first.name}' ({first.rule}: {first.reason})"
        line += f"; {share:.1%} of the multiplications are left to the CPU" if share else ""
    sentences.append(line)
    cached, streamed = found["cached_parameter_bytes"], found["streamed_parameter_bytes"]
    if found["operators_on_device"]:
        sentences.append(
            f"parameters predicted on the chip: {_mebibytes(cached)}, streamed in every inference: "
            f"{_mebibytes(streamed)}; {found['boundary_bytes']} bytes of activations cross the bus"
        )
    if any(operator.code == "SHAPE" for operator in flat.main.operators):
        sentences.append(
            "SHAPE: sizes are computed at run time, and the compiler was seen to refuse such models as a whole "
            '("a delegate that only supports static-sized tensors"); fix the batch at 1 and convert the model again'
        )
    for position in estimate(flat.main, mapping.positions(Verdict.OK)).inflating:
        name = flat.main.operators[position].name
        sentences.append(
            f"RESHAPE '{name}' flattens a map whose channels are no multiple of 4: it may bring as many parameter "
            "bytes as the square of its elements; pad the channels to a multiple of 4, or average first"
        )
    return sentences


def _mebibytes(limits: Sequence[int]) -> str:
    return f"{limits[0] / 2**20:.2f} to {limits[1] / 2**20:.2f} MiB"


def compared(flat: FlatModel, left: Sequence[int]) -> list[str]:
    """Where the compiler did otherwise than predicted, and what it left to the CPU."""
    operators = flat.main.operators
    notes = []
    if left:
        listed = ", ".join(f"{operators[index].title} '{operators[index].name}'" for index in left[:4])
        more = f" and {len(left) - 4} more" if len(left) > 4 else ""
        notes.append(f"{len(left)} of {len(operators)} operators run on the CPU: {listed}{more}")
    for node in predict(flat.main).nodes:
        on_cpu = node.index in set(left)
        if node.verdict is not Verdict.UNCERTAIN and on_cpu is (node.verdict is Verdict.OK):
            place = "the CPU" if on_cpu else "the Edge TPU"
            notes.append(f"{node.operator} '{node.name}' is on {place}, against the prediction")
    return notes
