"""Decode what Vela made: which NPU it is for, the bytes that it needs, and the operators that stay on the CPU.

A compiled ``.tflite`` holds custom operators ``ethos-u`` with the operands: command stream, constants (weights and
biases as the NPU reads them), arena, fast arena, and then the feature maps.  The command stream starts with driver
actions: the four characters COP1 (or COP2), then 32-bit words whose low byte says what they are.

Source: ``tflite_writer.py`` and ``driver_actions.py`` of ethos-u-vela 5.2.0; the Ethos-U core driver reads the same.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from edgec.errors import ModelError
from edgec.targets.ethosu.hardware import accelerator_of
from edgec.targets.tflite.graph import FlatModel, FlatOperator, FlatTensor, read

CUSTOM_OPERATOR: Final = "ethos-u"
FORMATS: Final = (b"COP1", b"COP2")
CONFIGURE: Final = 1
COMMANDS: Final = 2
NOTHING: Final = 5
FIRST_FEATURE_MAP: Final = 4


@dataclass(frozen=True)
class Stream:
    """The program of one ``ethos-u`` operator.

    Attributes:
        accelerator: ``ethos-u55-128``, empty for one that edgec does not know.
        architecture: version of the NPU's architecture, such as ``1.1.6``.
        command_bytes: of the commands behind the driver actions.
    """

    accelerator: str
    architecture: str
    command_bytes: int


@dataclass(frozen=True)
class Compiled:
    """A compiled model.

    Attributes:
        streams: one per ``ethos-u`` operator.
        command_stream_bytes: of all of them together, with their headers.
        constant_bytes: weights and biases for the NPU.
        arena_bytes, fast_arena_bytes: working memory; the same memory, counted once, where there is no fast one.
        left: operators on the CPU: position in the compiled file, name of the operator, name of its first result.
    """

    streams: tuple[Stream, ...]
    command_stream_bytes: int
    constant_bytes: int
    arena_bytes: int
    fast_arena_bytes: int
    left: tuple[tuple[int, str, str], ...]
    model: FlatModel

    @property
    def accelerators(self) -> tuple[str, ...]:
        """What the streams are for: one, unless the file was put together by hand."""
        return tuple(sorted({stream.accelerator for stream in self.streams}))

    def to_json(self) -> dict[str, Any]:
        """Facts for the manifest and `edgec inspect`."""
        return {
            "accelerators": list(self.accelerators),
            "architectures": sorted({stream.architecture for stream in self.streams}),
            "npu_operators": len(self.streams),
            "command_stream_bytes": self.command_stream_bytes,
            "constant_bytes": self.constant_bytes,
            "arena_bytes": self.arena_bytes,
            "fast_arena_bytes": self.fast_arena_bytes,
            "operators_on_cpu": [
                {"index": index, "operator": operator, "name": name} for index, operator, name in self.left
            ],
        }


def is_compiled(model: FlatModel) -> bool:
    """Whether Vela made the file."""
    return any(operator.custom == CUSTOM_OPERATOR for graph in model.graphs for operator in graph.operators)


def decode(path: Path) -> Compiled:
    """Decode a file.

    Raises:
        ModelError: EDG101, EDG102, EDG109 or EDG114 for a file that cannot be read, EDG109 for one that Vela did not
            make or whose command streams are damaged.
    """
    model = read(path)
    streams: list[Stream] = []
    left: list[tuple[int, str, str]] = []
    operands: list[dict[int, FlatTensor]] = [{}, {}, {}, {}]
    for operator in model.main.operators:
        if operator.custom != CUSTOM_OPERATOR:
            left.append((operator.index, operator.title, operator.name))
            continue
        streams.append(_stream(operator, path.name))
        for role, tensor in zip(operands, operator.inputs):
            if tensor is not None:
                role[tensor.index] = tensor
    if not streams:
        raise ModelError("EDG109", f"'{path.name}' holds no operator for the NPU", where=path.name)
    commands, constants, arena, fast = (sum(map(_bytes, role.values())) for role in operands)
    fast = 0 if set(operands[3]) <= set(operands[2]) else fast
    return Compiled(tuple(streams), commands, constants, arena, fast, tuple(left), model)


def _bytes(tensor: FlatTensor) -> int:
    """All four operands are uint8."""
    return tensor.nbytes or tensor.size


def _stream(operator: FlatOperator, name: str) -> Stream:
    where = f"operator {operator.index} of '{name}'"
    if len(operator.inputs) < FIRST_FEATURE_MAP or operator.inputs[0] is None:
        raise ModelError("EDG109", "an NPU operator lacks operands", where=where)
    values = operator.inputs[0].values()
    data = b"" if values is None else values.tobytes()
    if data[:4] not in FORMATS or len(data) % 4:
        raise ModelError("EDG109", "a command stream does not start as one", where=where)
    words = struct.unpack(f"<{len(data) // 4}I", data)
    accelerator, architecture, position = "", "", 1
    while position < len(words):
        action = words[position] & 0xFF
        if action == CONFIGURE and position + 2 < len(words):
            accelerator, architecture = accelerator_of(words[position + 1]), _version(words[position + 2])
            position += 3
        elif action == NOTHING:
            position += 1
        elif action == COMMANDS:
            length = (words[position] >> 16) + ((words[position] >> 8 & 0xFF) << 16)
            if position + 1 + length != len(words):
                raise ModelError("EDG109", "a command stream ends early or late", where=where)
            return Stream(accelerator, architecture, 4 * length)
        else:
            break
    raise ModelError("EDG109", "a command stream holds no commands", where=where)


def _version(word: int) -> str:
    """Bits 28 to 31 are the major, 20 to 27 the minor and 16 to 19 the patch version (``id_r``)."""
    return f"{word >> 28}.{word >> 20 & 0xFF}.{word >> 16 & 0xF}"
